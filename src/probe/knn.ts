/**
 * The weighted nearest-neighbour probe (Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance
 * Discrimination"): each of the k training images most similar to a test image, by the cosine of their features,
 * votes for its own class with weight exp(similarity / T). Of equally similar images the first in order is the
 * nearer, of classes with equal votes the first wins.
 */
import * as ort from "onnxruntime-node";
import { expected } from "../errors.ts";
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { input } from "../graph/tensor.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { normalize } from "../ops/reduce.ts";
import { topK } from "../ops/select.ts";
import { accuracy, blocks, checkProbe, type Features, openGraph, rowsTensor } from "./features.ts";
import { RANKED, type Ranking } from "./result.ts";

export interface KnnOptions extends KnnSurroundings {
  /** Neighbours that vote, at most all training images; 10 to 200 are usual. @default 200 */
  readonly k?: number | undefined;
  /** T: the lower, the more the nearest neighbours count. @default 0.1 */
  readonly temperature?: number | undefined;
}

interface KnnSurroundings {
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
export async function knnPredict(
  train: Features,
  test: Features,
  { k = 200, temperature = 0.1, ...surroundings }: KnnOptions,
) {
  const [vote] = await knnVotes(train, test, { k: [k], temperature: [temperature], ...surroundings });
  const { places, width } = vote!.ranking;
  const predicted = Int32Array.from({ length: test.n }, (_, i) => places[i * width]!);
  return { predicted, k: vote!.k, temperature };
}

export interface KnnVote {
  /** As used. */
  readonly k: number;
  readonly temperature: number;
  /** The classes that got most votes. */
  readonly ranking: Ranking;
}

export interface KnnVotesOptions extends KnnSurroundings {
  readonly k: readonly number[];
  readonly temperature: readonly number[];
}

/**
 * The votes for every k (each once, in ascending order) and every T. Neighbours are found once, for the largest k, by
 * one matrix product in blocks.
 */
export async function knnVotes(
  train: Features,
  test: Features,
  { k: wanted, temperature, threads, signal }: KnnVotesOptions,
): Promise<readonly KnnVote[]> {
  if (wanted.length === 0 || temperature.length === 0)
    throw expected("kNN", "a k and a temperature or more", "none");
  for (const k of wanted) {
    if (!Number.isInteger(k) || k < 1) throw expected("kNN, k", "a whole number of 1 or more", `${k}`);
  }
  for (const t of temperature) {
    if (!(t > 0)) throw expected("kNN, temperature", "a number above 0", `${t}`);
  }
  const ks = [...new Set(wanted.map((k) => Math.min(k, train.n)))].sort((a, b) => a - b);
  const most = ks.at(-1)!;
  const { d } = train;

  const unit = await openGraph(unitGraph(d), threads);
  const bank = new Float32Array(train.n * d); // [m, d]
  for (const [from, to] of blocks(train.n, 4 * d)) {
    bank.set((await unit.run({ rows: rowsTensor(train, from, to) })).unit!.data as Float32Array, from * d);
  }
  await unit.close();

  const width = Math.min(RANKED, train.classes.length);
  const votes = temperature.flatMap((t) =>
    ks.map((k) => ({
      k,
      temperature: t,
      ranking: { places: new Int32Array(test.n * width).fill(-1), width },
    })),
  );
  const nearest = await openGraph(nearestGraph(d, most), threads);
  const bankTensor = new ort.Tensor("float32", bank, [train.n, d]);
  for (const [from, to] of blocks(test.n, 4 * Math.max(train.n, d))) {
    signal?.throwIfAborted();
    const found = await nearest.run({ rows: rowsTensor(test, from, to), bank: bankTensor });
    const similarities = found.similarities!.data as Float32Array; // [n, k]
    const neighbours = found.neighbours!.data as BigInt64Array; // [n, k]
    for (let i = 0; i < to - from; i++) {
      const own = similarities.subarray(i * most, (i + 1) * most);
      const classes = Int32Array.from(
        neighbours.subarray(i * most, (i + 1) * most),
        (row) => train.labels[Number(row)]!,
      ); // [k]
      const rankings = temperature.flatMap((t) => rankedClasses(own, classes, t, ks));
      for (const [v, ranked] of rankings.entries()) {
        votes[v]!.ranking.places.set(ranked.slice(0, width), (from + i) * width);
      }
    }
  }
  await nearest.close();
  return votes;
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

/**
 * For each k (ascending) the classes that the k first neighbours vote for, most weight first, of equal ones the first
 * class. Similarities come greatest first.
 */
function rankedClasses(
  similarities: Float32Array,
  classes: Int32Array,
  temperature: number,
  ks: readonly number[],
): number[][] {
  const weights = new Map<number, number>();
  let voted = 0;
  return ks.map((k) => {
    for (; voted < k; voted++) {
      // Relative to the nearest, which changes no order and cannot overflow at a low temperature.
      const weight = Math.exp((similarities[voted]! - similarities[0]!) / temperature);
      weights.set(classes[voted]!, (weights.get(classes[voted]!) ?? 0) + weight);
    }
    return [...weights].sort(([a, v], [b, w]) => w - v || a - b).map(([place]) => place);
  });
}
