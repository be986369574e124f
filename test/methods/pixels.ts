/** A method's loss with the pixels that its encoder is given as features: for methods that tell how views were made. */
import { TrainingScope } from "../../src/artifact/scope.ts";
import { input, type Tensor } from "../../src/graph/tensor.ts";
import type { Method } from "../../src/methods/method.ts";
import { reshape } from "../../src/ops/movement.ts";
import { randomFor } from "../../src/random.ts";
import { initialState } from "../../src/runtime/state.ts";
import { type Manifest, VIEW_COLUMNS, type ViewColumn, type ViewRecipe } from "../../src/spec.ts";
import { drawStep } from "../../src/train/draws.ts";
import { compile, floats, type Value } from "../support/run.ts";
import { named, type Row } from "../views/support.ts";

export type Rows = readonly (readonly number[])[];

export interface PixelStep {
  readonly loss: number;
  readonly accuracy: number;
  /** What the encoder was given, a row for each view. */
  readonly seen: Rows;
  /** Weights of the head as rows; those of one axis are one row. */
  readonly weights: Readonly<Record<string, Rows>>;
}

/** Views [n, 3, s, s] of a method, and what was drawn for each: a value for each image, by column. */
export async function pixelStep<C>(
  method: Method<C>,
  config: C,
  views: readonly Value[],
  drawn: readonly Readonly<Partial<Record<ViewColumn, readonly number[]>>>[],
): Promise<PixelStep> {
  const [n, ...size] = views[0]!.shape as [number, number, number, number];
  const scope = new TrainingScope({
    views: views.map((_, i) => input(`pixels${i}`, "float32", ["n", ...size])),
    params: views.map((_, i) => input(`drawn${i}`, "float32", ["n", VIEW_COLUMNS.length])),
    encode: (_, x: Tensor) => reshape(x, [x.shape[0]!, size[0] * size[1] * size[2]], x),
  });
  const { loss, metrics, embedding } = method.build(scope, config);
  const run = await compile({ loss, accuracy: metrics.accuracy!, embedding });
  const params = (view: number) =>
    Array.from({ length: n }, (_, i) => VIEW_COLUMNS.map((column) => drawn[view]?.[column]?.[i] ?? 0));
  const state = initialState(
    { state: scope.all.map((s) => ({ ...s, next: s.name })) },
    { seed: 1, images: n },
  );
  const values = [...state].map(
    ([name, { data, shape }]) => [name, floats(data as Float32Array, shape)] as const,
  );
  const fed: [string, Value][] = views.flatMap((view, i) => [
    [`pixels${i}`, view],
    [`drawn${i}`, floats(params(i).flat(), [n, VIEW_COLUMNS.length])],
  ]);
  const found = await run(Object.fromEntries([...fed, ...values]));
  return {
    loss: Number(found.loss!.data[0]),
    accuracy: Number(found.accuracy!.data[0]),
    seen: rowsOf(found.embedding!),
    weights: Object.fromEntries(values.map(([name, value]) => [name, rowsOf(value)])),
  };
}

/** Rows along the last axis. */
export const rowsOf = ({ data, shape }: Value): Rows => {
  const d = shape.at(-1)!;
  return Array.from({ length: data.length / d }, (_, i) =>
    Array.from(data.slice(i * d, (i + 1) * d), Number),
  );
};

/** Values without pattern, [n, 3, size, size]. */
export function noiseViews(n: number, size: number, ...key: (string | number)[]): Value {
  const random = randomFor("noise views", ...key);
  const shape = [n, 3, size, size];
  return floats(
    Array.from({ length: n * 3 * size * size }, () => random.normal()),
    shape,
  );
}

/** Parameters drawn by the recipes for views of `images` square images of `side` pixels: [view][image]. */
export function drawnViews(recipes: readonly ViewRecipe[], images: number, side: number): Row[][] {
  const indices = Array.from({ length: images }, (_, i) => i);
  const sizes = indices.map(() => ({ height: side, width: side }));
  const entries = recipes.map((recipe, i) => ({ input: `view${i}`, recipe }));
  const manifest = { views: entries, permutations: [], state: [] } as unknown as Manifest;
  const { views } = drawStep(manifest, 1, { indices, sizes, epoch: 0, step: 1 }, images);
  return views.map((rows) =>
    indices.map((i) => named(rows.subarray(i * VIEW_COLUMNS.length, (i + 1) * VIEW_COLUMNS.length))),
  );
}

/** x W' + b, in double precision. */
export const naiveLinear = (x: Rows, weight: Rows, bias?: readonly number[]): Rows =>
  x.map((row) => weight.map((w, k) => w.reduce((sum, v, j) => sum + v * row[j]!, bias?.[k] ?? 0)));

/** Batch normalisation by the statistics of all rows, and ReLU. */
export function naiveBatchNormRelu(x: Rows): Rows {
  const n = x.length;
  const mean = x[0]!.map((_, j) => x.reduce((sum, row) => sum + row[j]!, 0) / n);
  const variance = mean.map((m, j) => x.reduce((sum, row) => sum + (row[j]! - m) ** 2, 0) / n);
  return x.map((row) => row.map((v, j) => Math.max(0, (v - mean[j]!) / Math.sqrt(variance[j]! + 1e-5))));
}

/** The mean of -log softmax(logits)[label], and the share of rows whose label has the greatest logit. */
export function naiveCrossEntropy(
  logits: Rows,
  labels: readonly number[],
): { loss: number; accuracy: number } {
  const terms = logits.map((row, i) =>
    Math.log(row.reduce((sum, v) => sum + Math.exp(v - row[labels[i]!]!), 0)),
  );
  const hits = logits.filter((row, i) => row[labels[i]!] === Math.max(...row));
  return { loss: terms.reduce((a, b) => a + b, 0) / terms.length, accuracy: hits.length / logits.length };
}

/** Mean 0 and deviation 1 over a whole patch; a deviation below 1 / sqrt(values) counts as that. */
export function naiveStandardize(row: readonly number[]): number[] {
  const mean = row.reduce((a, b) => a + b, 0) / row.length;
  const std = Math.sqrt(row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / row.length);
  return row.map((v) => (v - mean) / Math.max(std, 1 / Math.sqrt(row.length)));
}
