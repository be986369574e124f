/** Whether a frozen encoder gives the features of the one it was made from. */
import * as ort from "onnxruntime-node";
import { expected, messageOf, UserError } from "../errors.ts";
import type { TensorData } from "../files/safetensors.ts";
import { coreLimit } from "../machine.ts";
import { type Comparison, checkFeatures, NOT_WRITTEN } from "./compare.ts";

export interface Images {
  /** uint8 [n, h, w, 3]. */
  readonly data: Uint8Array;
  readonly shape: readonly [n: number, height: number, width: number, channels: number];
}

export interface VerifyOptions {
  readonly encode: Uint8Array;
  readonly state: ReadonlyMap<string, TensorData>;
  readonly frozen: Uint8Array;
  readonly images: Images;
  /** Outputs that are compared besides the features, float32 [n, d] each. @default none */
  readonly more?: readonly string[] | undefined;
  /** Names the frozen encoder in errors. */
  readonly where: string;
  /** Of the CPU provider. @default one for each core */
  readonly threads?: number | undefined;
}

/**
 * Runs both encoders on `images`.
 * @returns what `compareFeatures` says, and the length of a feature vector.
 * @throws UserError if a row differs by more than 0.1 %, a feature is not finite or one of the two does not run.
 */
export async function verifyFrozen(options: VerifyOptions): Promise<Comparison & { readonly d: number }> {
  const { encode, state, frozen, images, where, threads } = options;
  const shown = { images: new ort.Tensor("uint8", images.data, [...images.shape]) };
  const feeds: Record<string, ort.Tensor> = { ...shown };
  for (const [name, { dtype, shape, data }] of state)
    feeds[name] = new ort.Tensor(dtype, data as never, [...shape]);

  const n = images.shape[0];
  if (n < 1) throw new Error("verifyFrozen: expected an image or more, found none");
  const names = ["features", ...(options.more ?? [])];
  const references = await outputsOf("encode.onnx", encode, feeds, { n, names }, threads);
  const found = await outputsOf(where, frozen, shown, { n, names }, threads);
  const compared = references.map((reference, i) => {
    const [own, name] = [found[i]!, names[i]!];
    if (own.d !== reference.d) throw expected(where, `${reference.d} ${name}`, `${own.d}`, NOT_WRITTEN);
    return checkFeatures(where, reference.data, own.data, reference.d).maxRelative;
  });
  return { maxRelative: Math.max(...compared), d: references[0]!.d };
}

/** The outputs named, float32 [n, d] each, of a model that gets those of the feeds that it takes. */
async function outputsOf(
  where: string,
  model: Uint8Array,
  feeds: Readonly<Record<string, ort.Tensor>>,
  { n, names }: { readonly n: number; readonly names: readonly string[] },
  threads: number | undefined,
): Promise<readonly Output[]> {
  const outputs = await run(model, feeds, threads).catch((error: unknown) => {
    throw new UserError(
      `${where}: expected an encoder that runs, found: ${messageOf(error)}; ${NOT_WRITTEN}`,
    );
  });
  return names.map((name) => checkedOutput(where, name, outputs[name], n));
}

interface Output {
  /** float32 [n, d]. */
  readonly data: Float32Array;
  readonly d: number;
}

function checkedOutput(where: string, name: string, output: ort.Tensor | undefined, n: number): Output {
  const [rows, d] = output?.dims ?? [];
  if (output?.type !== "float32" || output.dims.length !== 2 || rows !== n || !d) {
    const type = output ? `${output.type} [${output.dims.join(", ")}]` : "none";
    throw expected(where, `${name} float32 [${n}, d]`, type, NOT_WRITTEN);
  }
  const data = output.data as Float32Array; // [n, d]
  const bad = data.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0) {
    throw expected(where, `finite ${name}`, `${data[bad]} for image ${Math.floor(bad / d)}`, NOT_WRITTEN);
  }
  return { data, d };
}

async function run(
  model: Uint8Array,
  feeds: Readonly<Record<string, ort.Tensor>>,
  given: number | undefined,
) {
  const threads = given ?? coreLimit();
  const session = await ort.InferenceSession.create(model, {
    enableMemPattern: false, // a third more memory at the same speed
    logSeverityLevel: 3,
    ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
  });
  try {
    const taken = session.inputNames.filter((name) => feeds[name]);
    return await session.run(Object.fromEntries(taken.map((name) => [name, feeds[name]!])));
  } finally {
    await session.release();
  }
}
