/**
 * The weighted nearest-neighbour probe (Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance
 * Discrimination"): each of the k training images most similar to a test image, by the cosine of their features,
 * votes for its own class with weight exp(similarity / T). Of equally similar images the first in order is the
 * nearer, of classes with equal votes the first wins.
 */
import * as ort from "onnxruntime-node";
import { expected } from "../errors.ts";
import { buildModel, encodeModel } from "../graph/model.ts";
import { input } from "../graph/tensor.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { normalize } from "../ops/reduce.ts";
import { topK } from "../ops/select.ts";
import { accuracy, blocks, checkProbe, type Features, openGraph, rowsTensor } from "./features.ts";

export interface KnnOptions {
  /** Neighbours that vote, at most all training images; 10 to 200 are usual. @default 200 */
  readonly k?: number | undefined;
  /** T: the lower, the more the nearest neighbours count. @default 0.1 */
  readonly temperature?: number | undefined;
  /** @default one for each core */
  readonly threads?: number | undefined;
  /** Aborted to stop between two blocks of test images. */
  readonly signal?: AbortSignal | undefined;
}

export interface KnnResult {
  /** Percent of the test images whose class won the vote. */
  readonly top1: number;
  /** As used. */
  readonly k: number;
  readonly temperature: number;
  /** Images. */
  readonly train: number;
  readonly test: number;
}

/** @throws UserError on sets that do not fit (see `checkProbe`), k below 1 or a temperature of 0 or below. */
export async function knn(train: Features, test: Features, options: KnnOptions = {}): Promise<KnnResult> {
  const labels = checkProbe("kNN", train, test);
  const { predicted, k, temperature } = await knnPredict(train, test, options);
  return { top1: accuracy(predicted, labels), k, temperature, train: train.n, test: test.n };
}

/** The class that wins each test image's vote, as a place in the classes of `train` [test.n]. */
export async function knnPredict(train: Features, test: Features, options: KnnOptions) {
  const { k: wanted = 200, temperature = 0.1, threads, signal } = options;
  if (!Number.isInteger(wanted) || wanted < 1)
    throw expected("kNN, k", "a whole number of 1 or more", `${wanted}`);
  if (!(temperature > 0)) throw expected("kNN, temperature", "a number above 0", `${temperature}`);
  const k = Math.min(wanted, train.n);
  const { d } = train;

  const unit = await openGraph(unitGraph(d), threads);
  const bank = new Float32Array(train.n * d); // [m, d]
  for (const [from, to] of blocks(train.n, 4 * d)) {
    bank.set((await unit.run({ rows: rowsTensor(train, from, to) })).unit!.data as Float32Array, from * d);
  }
  await unit.close();

  const nearest = await openGraph(nearestGraph(d, k), threads);
  const bankTensor = new ort.Tensor("float32", bank, [train.n, d]);
  const predicted = new Int32Array(test.n);
  for (const [from, to] of blocks(test.n, 4 * Math.max(train.n, d))) {
    signal?.throwIfAborted();
    const found = await nearest.run({ rows: rowsTensor(test, from, to), bank: bankTensor });
    const similarities = found.similarities!.data as Float32Array; // [n, k]
    const neighbours = found.neighbours!.data as BigInt64Array; // [n, k]
    for (let i = 0; i < to - from; i++) {
      const classes = Array.from(
        neighbours.subarray(i * k, (i + 1) * k),
        (row) => train.labels[Number(row)]!,
      ); // [k]
      predicted[from + i] = vote(similarities.subarray(i * k, (i + 1) * k), classes, temperature);
    }
  }
  await nearest.close();
  return { predicted, k, temperature };
}

/** rows [n, d] -> the same at length 1. */
function unitGraph(d: number): Uint8Array {
  const rows = input("rows", "float32", ["n", d]);
  return encodeModel(buildModel({ unit: normalize(rows) }, { name: "unit" }));
}

/** rows [n, d], bank [m, d] of length 1 -> the k most similar of the bank for each row, most similar first. */
function nearestGraph(d: number, k: number): Uint8Array {
  const rows = input("rows", "float32", ["n", d]);
  const bank = input("bank", "float32", ["m", d]);
  const cosines = matmul(normalize(rows), swap(bank)); // [n, m]
  const { values, indices } = topK(cosines, k); // [n, k] each
  return encodeModel(buildModel({ similarities: values, neighbours: indices }, { name: "nearest" }));
}

/** The class with most weight; of equal ones the first. Similarities come greatest first. */
function vote(similarities: Float32Array, classes: readonly number[], temperature: number): number {
  const weights = new Map<number, number>();
  classes.forEach((c, i) => {
    // Relative to the nearest, which changes no order and cannot overflow at a low temperature.
    const weight = Math.exp((similarities[i]! - similarities[0]!) / temperature);
    weights.set(c, (weights.get(c) ?? 0) + weight);
  });
  let best = classes[0]!;
  for (const [c, weight] of weights) {
    const lead = weight - weights.get(best)!;
    if (lead > 0 || (lead === 0 && c < best)) best = c;
  }
  return best;
}
