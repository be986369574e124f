/** A third-party model, opened: the features that it gives of images. */
import * as ort from "onnxruntime-node";
import { poolGraph, type StageForm } from "../artifact/pooled.ts";
import { expected, type UserError } from "../errors.ts";
import { type ForeignForm, type ForeignOptions, NORMALISATIONS } from "../export/foreign.ts";
import { poolInto, poolingOf } from "../export/pooling.ts";
import { type Feeds, openSession, type SessionOptions } from "../runtime/session.ts";
import { type StageEntry, VIEW_COLUMNS, type ViewRecipe } from "../spec.ts";
import { joined } from "./features.ts";
import { type ForeignModel, type Front, openModel } from "./foreign-model.ts";

export type { StageForm } from "../artifact/pooled.ts";
export type { ForeignOptions } from "../export/foreign.ts";
export { POOLS } from "../export/pooling.ts";

export const NORMALISATION_NAMES = Object.keys(NORMALISATIONS) as readonly (keyof typeof NORMALISATIONS)[];

/** The name of an option that is given. */
export const firstGiven = (options: object = {}): string | undefined =>
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
  /** What feature vectors begin with, in the form of stages of our own encoders. */
  readonly stages: readonly StageEntry[];
  /** Feature vectors float32 [n, d] of uint8 images [n, height, width, 3]. */
  readonly encode: Encode;
  /** The same of a view of each image by a recipe, for its parameters float32 [n, columns]. */
  viewsBy(recipe: ViewRecipe): Promise<Encode<[params: Float32Array]>>;
  close(): Promise<void>;
}

type Encode<More extends readonly Float32Array[] = []> = (
  images: Uint8Array,
  shape: readonly [n: number, height: number, width: number, channels: 3],
  ...more: More
) => Promise<Float32Array>;

/** Pixels that a model with a free batch is given at a time: 16 images of 224 px. Attention takes memory for each. */
const PIXELS_AT_ONCE = 16 * 224 ** 2;

/** Values of a model that are its stages. */
export interface StagesNamed {
  readonly named?: readonly string[];
  /** Of maps without a name it is the output, if that has places. @default "pooled" */
  readonly form?: StageForm;
}

/** @throws UserError if it cannot be taken (see `readForeign`), does not run, or gives something else than features. */
export async function openForeign(
  bytes: Uint8Array,
  file: string,
  options: SessionOptions,
  asked: ForeignOptions = {},
  { named = [], form: as = "pooled" }: StagesNamed = {},
): Promise<Foreign> {
  const model = await openModel(bytes, file, options, asked, named);
  const { form } = model;
  try {
    const refuse = (wanted: string, found: string) => expected(file, wanted, found, form.shown);
    const { stages, rowsOf, pooled, closePools } = await openPooling(model, options, asked, as, refuse);
    const d = stages.reduce((sum, { channels, places }) => sum + channels * places, pooled.d);
    const atOnce = form.batch ?? Math.max(1, Math.floor(PIXELS_AT_ONCE / form.imageSize ** 2));
    const encodeBy =
      (front: Front): Encode<Float32Array[]> =>
      async (images, [n, height, width], params) => {
        const rows = new Float32Array(n * d);
        for (let at = 0; at < n; at += atOnce) {
          const count = Math.min(atOnce, n - at);
          const size = form.batch ?? count;
          const part = <T extends Uint8Array | Float32Array>(all: T) => partOf(all, n, { at, count, size });
          const pixels = new ort.Tensor("uint8", part(images), [size, height, width, 3]);
          const drawn = params && new ort.Tensor("float32", part(params), [size, VIEW_COLUMNS.length]);
          const feeds: Feeds = { images: pixels, ...(drawn && { params: drawn }) };
          rows.set(await rowsOf(await model.valuesOf(front, feeds), count), at * d);
        }
        return rows;
      };
    const { shown, ...known } = form;
    const name = pooled.name === "" ? undefined : pooled.name;
    const scaled = form.mean ? `(x - [${form.mean.join(", ")}]) / [${form.std!.join(", ")}]` : "bytes";
    return {
      metadata: { ...known, features: d, ...(name !== undefined && { pooled: name }) },
      shown: `${shown}${name === undefined ? "" : `, ${name}`}: ${pooled.d} features; images as ${scaled}, ${form.imageSize} px`,
      stages,
      encode: encodeBy(model.centres),
      viewsBy: async (recipe) => encodeBy(await model.viewsBy(recipe)),
      async close() {
        await closePools();
        await model.close();
      },
    };
  } catch (error) {
    await model.close();
    throw error;
  }
}

/** How what the model gives becomes feature vectors. */
async function openPooling(
  { form: { output }, stages: given, tried }: ForeignModel,
  options: SessionOptions,
  { pool }: ForeignOptions,
  as: StageForm,
  refuse: (wanted: string, found: string) => UserError,
) {
  /** Sizes of a value, the first of them that of the batch. */
  const sizesOf = (name: string): readonly number[] => {
    const { type, dims } = tried.values.get(name)!;
    const [as, of] =
      name === output ? [" as its output", ""] : [` as --stages ${name}`, ` of --stages ${name}`];
    if (type !== "float32") throw refuse(`float32${as}`, type);
    if (dims[0] !== tried.n) throw refuse(`a row for each of ${tried.n} images${of}`, `[${dims.join(", ")}]`);
    return dims;
  };
  const dims = sizesOf(output);
  const pooled = poolingOf(dims, pool, refuse);
  const size = dims.slice(1).reduce((product, x) => product * x, 1); // values of an image
  const names = as === "map" && given.length === 0 && dims.length > 2 ? [output] : given;
  const values = names.map((name) => ({ name, dims: sizesOf(name) }));
  for (const { name, dims } of values) {
    poolingOf(dims, undefined, refuse); // which refuses other sizes
    if (as === "map" && dims.length === 2)
      throw refuse(`tokens [n, t, d] or a map [n, c, h, w] as --stage ${name}`, `[${dims.join(", ")}]`);
  }
  const { graph, stages } = poolGraph(values, as);
  const pools =
    names.length > 0 ? await openSession(graph, "stages", { threads: options.threads }) : undefined;
  return {
    stages,
    pooled,
    /** Rows of the first `count` images: their stages, and then the features. */
    async rowsOf(given: Readonly<Record<string, ort.Tensor>>, count: number): Promise<Float32Array> {
      const features = new Float32Array(count * pooled.d);
      poolInto(pooled, given[output]!.data as Float32Array, { n: count, size, rows: features, at: 0 });
      if (!pools) return features;
      const found = await pools.run(Object.fromEntries(names.map((name, i) => [`stage${i}`, given[name]!])));
      const before = stages.map(({ channels, places }, i) =>
        (found[`pooled${i}`]!.data as Float32Array).subarray(0, count * channels * places),
      );
      return joined([...before, features], count);
    },
    closePools: async () => pools?.close(),
  };
}

interface Part {
  readonly at: number;
  readonly count: number;
  /** Rows of a batch. */
  readonly size: number;
}

/** `count` of the n rows, from `at` on; in place of those that a batch lacks the first once more, whose box is not empty. */
function partOf<T extends Uint8Array | Float32Array>(all: T, n: number, { at, count, size }: Part): T {
  const row = all.length / n;
  const part = all.subarray(at * row, (at + count) * row) as T;
  if (count === size) return part;
  const whole = (
    all instanceof Float32Array ? new Float32Array(size * row) : new Uint8Array(size * row)
  ) as T;
  whole.set(part);
  for (let i = count; i < size; i++) whole.set(part.subarray(0, row), i * row);
  return whole;
}
