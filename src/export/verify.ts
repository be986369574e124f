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

/** Parts of audio. */
export interface Sounds {
  /** float32 [n, samples]. */
  readonly data: Float32Array;
  readonly shape: readonly [n: number, samples: number];
}

export interface VerifyOptions {
  readonly encode: Uint8Array;
  readonly state: ReadonlyMap<string, TensorData>;
  readonly frozen: Uint8Array;
  readonly images: Images | Sounds;
  /**
   * Outputs that are compared besides the features and an embedding: float32 [n, d], or [n, places, d] whose d columns,
   * which may have units of their own, are compared each by itself. @default none
   */
  readonly more?: readonly string[] | undefined;
  /** By an output's name, the length that its shorter rows are measured against. @default a thousandth of the longest row's */
  readonly shortest?: Readonly<Record<string, number>> | undefined;
  /** Names the frozen encoder in errors. */
  readonly where: string;
  /** Of the CPU provider. @default one for each core */
  readonly threads?: number | undefined;
}

/**
 * Runs both encoders on `images`; what holds of the features holds of an embedding that comes with them too.
 * @returns what `compareFeatures` says, and the length of a feature vector.
 * @throws UserError if a row differs by more than 0.1 %, a feature is not finite or one of the two does not run.
 */
export async function verifyFrozen(options: VerifyOptions): Promise<Comparison & { readonly d: number }> {
  const { encode, state, frozen, images, more = [], shortest = {}, where, threads } = options;
  const shown =
    images.data instanceof Float32Array
      ? { audio: new ort.Tensor("float32", images.data, [...images.shape]) }
      : { images: new ort.Tensor("uint8", images.data, [...images.shape]) };
  const feeds: Record<string, ort.Tensor> = { ...shown };
  for (const [name, { dtype, shape, data }] of state)
    feeds[name] = new ort.Tensor(dtype, data as never, [...shape]);

  const n = images.shape[0];
  if (n < 1) throw new Error("verifyFrozen: expected an image or more, found none");
  const reference = await outputsOf("encode.onnx", encode, feeds, threads);
  const found = await outputsOf(where, frozen, shown, threads);
  const names = ["features", ...(reference.embedding ? ["embedding"] : []), ...more];
  const compared = names.flatMap((name) => {
    const [a, b] = [rowsOf("encode.onnx", name, reference, n), rowsOf(where, name, found, n)]; // [n, d] columns each
    if (b.d !== a.d || b.columns.length !== a.columns.length)
      throw expected(where, `${a.d} ${name}`, `${b.d}`, NOT_WRITTEN);
    return a.columns.map((rows, i) => ({
      ...checkFeatures(where, rows, b.columns[i]!, a.d, shortest[name]),
      d: a.d,
    }));
  });
  return { ...compared[0]!, maxRelative: Math.max(...compared.map(({ maxRelative }) => maxRelative)) };
}

type Outputs = Readonly<Record<string, ort.Tensor>>;

/** An output float32 [n, d] as one column of rows, or float32 [n, d, columns] as its columns. */
function rowsOf(
  where: string,
  name: string,
  outputs: Outputs,
  n: number,
): { columns: readonly Float32Array[]; d: number } {
  const output = outputs[name];
  const [rows, d, count = 1] = output?.dims ?? [];
  const rank = output?.dims.length;
  if (output?.type !== "float32" || (rank !== 2 && rank !== 3) || rows !== n || !d || !count) {
    const type = output ? `${output.type} [${output.dims.join(", ")}]` : "none";
    throw expected(where, `${name} float32 [${n}, d]`, type, NOT_WRITTEN);
  }
  const data = output.data as Float32Array; // [n, d, columns]
  const bad = data.findIndex((x) => !Number.isFinite(x));
  if (bad >= 0) {
    const image = Math.floor(bad / (d * count));
    throw expected(where, `finite ${name}`, `${data[bad]} for image ${image}`, NOT_WRITTEN);
  }
  const columns = Array.from({ length: count }, (_, c) =>
    count === 1 ? data : Float32Array.from({ length: n * d }, (_, i) => data[i * count + c]!),
  );
  return { columns, d };
}

/** All outputs of a model that gets those of the feeds that it takes. @throws UserError if it does not run */
export const outputsOf = (
  where: string,
  model: Uint8Array,
  feeds: Outputs,
  threads: number | undefined,
): Promise<Outputs> =>
  run(model, feeds, threads).catch((error: unknown) => {
    throw new UserError(
      `${where}: expected an encoder that runs, found: ${messageOf(error)}; ${NOT_WRITTEN}`,
    );
  });

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
