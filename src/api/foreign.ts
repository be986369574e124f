/** A third-party model, opened: the features that it gives of images. */
import * as ort from "onnxruntime-node";
import { expected, messageOf, UserError } from "../errors.ts";
import { type ForeignForm, type ForeignOptions, NORMALISATIONS, readForeign } from "../export/foreign.ts";
import { poolInto, poolingOf } from "../export/pooling.ts";
import { openSession, type SessionOptions } from "../runtime/session.ts";

export type { ForeignOptions } from "../export/foreign.ts";
export { POOLS } from "../export/pooling.ts";

export const NORMALISATION_NAMES = Object.keys(NORMALISATIONS) as readonly (keyof typeof NORMALISATIONS)[];

/** The name of an option that is given. */
export const firstGiven = (options: ForeignOptions = {}): string | undefined =>
  Object.entries(options).find(([, value]) => value !== undefined)?.[0];

/** What takes the place of an encoder's metadata. */
export interface ForeignMetadata extends Omit<ForeignForm, "shown"> {
  /** Length of a feature vector. */
  readonly features: number;
  /** What became of tokens or a map, such as "class token". */
  readonly pooled?: string;
  readonly range?: undefined;
}

export interface Foreign {
  readonly metadata: ForeignMetadata;
  /** How it was taken, for people. */
  readonly shown: string;
  /** Features float32 [n, d] of uint8 images [n, height, width, 3]. */
  encode(
    images: Uint8Array,
    shape: readonly [n: number, height: number, width: number, channels: 3],
  ): Promise<Float32Array>;
  close(): Promise<void>;
}

/** Pixels that a model with a free batch is given at a time: 16 images of 224 px. Attention takes memory for each. */
const PIXELS_AT_ONCE = 16 * 224 ** 2;
/** Images of the first, trial run, where the batch is free: of one the model might drop the axis unnoticed. */
const TRIED = 2;

/**
 * Opens it and runs it once, which tells the sizes of what it gives.
 * @throws UserError if it cannot be taken (see `readForeign`), does not run, or gives something else than features.
 */
export async function openForeign(
  bytes: Uint8Array,
  file: string,
  options: SessionOptions,
  asked: ForeignOptions = {},
): Promise<Foreign> {
  const { form, model: graph, view: viewGraph } = await readForeign(bytes, file, asked);
  const { input, output, imageSize, side, batch } = form;
  const model = await openSession(graph, file, options);
  const view = await openSession(viewGraph, file, { threads: options.threads });
  const atOnce = batch ?? Math.max(1, Math.floor(PIXELS_AT_ONCE / imageSize ** 2));

  /** What the model gives for images [n, h, w, 3], of as many as it takes. */
  const valuesOf = async (images: Uint8Array, shape: readonly number[]): Promise<ort.Tensor> => {
    const { view: seen } = await view.run({ images: new ort.Tensor("uint8", images, [...shape]) });
    const { [output]: values } = await model.run({ [input]: seen! }, [output]).catch((error: unknown) => {
      throw new UserError(`${file}: expected a model that runs, found: ${messageOf(error)}`);
    });
    return values!;
  };

  const close = async () => {
    await view.close();
    await model.close();
  };
  try {
    const tried = batch ?? TRIED;
    const { type, dims } = await valuesOf(new Uint8Array(tried * side ** 2 * 3), [tried, side, side, 3]);
    const refuse = (wanted: string, found: string) => expected(file, wanted, found, form.shown);
    if (type !== "float32") throw refuse("float32 as its output", type);
    if (dims[0] !== tried) throw refuse(`a row for each of ${tried} images`, `[${dims.join(", ")}]`);
    const pooling = poolingOf(dims, asked.pool, refuse);
    const size = dims.slice(1).reduce((product, x) => product * x, 1); // values of an image
    const { d } = pooling;

    const encode: Foreign["encode"] = async (images, [n, height, width]) => {
      const rows = new Float32Array(n * d);
      const bytesOf = height * width * 3;
      for (let at = 0; at < n; at += atOnce) {
        const count = Math.min(atOnce, n - at);
        const block = images.subarray(at * bytesOf, (at + count) * bytesOf);
        const whole = batch === undefined ? block : filled(block, batch * bytesOf);
        const { data } = await valuesOf(whole, [batch ?? count, height, width, 3]);
        poolInto(pooling, data as Float32Array, { n: count, size, rows, at });
      }
      return rows;
    };
    const { shown, ...known } = form;
    const pooled = pooling.name === "" ? undefined : pooling.name;
    const scaled = form.mean ? `(x - [${form.mean.join(", ")}]) / [${form.std!.join(", ")}]` : "bytes";
    return {
      metadata: { ...known, features: d, ...(pooled !== undefined && { pooled }) },
      shown: `${shown}${pooled === undefined ? "" : `, ${pooled}`}: ${d} features; images as ${scaled}, ${imageSize} px`,
      encode,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The bytes, with black images behind them up to a length. */
function filled(bytes: Uint8Array, length: number): Uint8Array {
  if (bytes.length === length) return bytes;
  const whole = new Uint8Array(length);
  whole.set(bytes);
  return whole;
}
