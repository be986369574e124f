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
  const reference = await featuresOf("encode.onnx", encode, feeds, n, threads); // [n, d]
  const found = await featuresOf(where, frozen, shown, n, threads); // [n, d]
  if (found.d !== reference.d) throw expected(where, `${reference.d} features`, `${found.d}`, NOT_WRITTEN);
  const { maxRelative } = checkFeatures(where, reference.data, found.data, reference.d);
  return { maxRelative, d: reference.d };
}

/** The output `features` float32 [n, d] of a model that gets those of the feeds that it takes. */
async function featuresOf(
  where: string,
  model: Uint8Array,
  feeds: Readonly<Record<string, ort.Tensor>>,
  n: number,
  threads: number | undefined,
): Promise<{ data: Float32Array; d: number }> {
  const { features } = await run(model, feeds, threads).catch((error: unknown) => {
    throw new UserError(
      `${where}: expected an encoder that runs, found: ${messageOf(error)}; ${NOT_WRITTEN}`,
    );
  });
  const [rows, d] = features?.dims ?? [];
  if (features?.type !== "float32" || features.dims.length !== 2 || rows !== n || !d) {
    const type = features ? `${features.type} [${features.dims.join(", ")}]` : "none";
    throw expected(where, `features float32 [${n}, d]`, type, NOT_WRITTEN);
  }
  const data = features.data as Float32Array; // [n, d]
  const bad = data.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0) {
    throw expected(where, "finite features", `${data[bad]} for image ${Math.floor(bad / d)}`, NOT_WRITTEN);
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
