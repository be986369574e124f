/**
 * How alike two encoders see the same images: the mean overlap of their sets of nearest neighbours, the mutual kNN metric
 * of Huh et al. 2024 (arXiv 2405.07987). 1 where all are the same; unrelated encoders share k / (n - 1) by chance.
 */
import * as ort from "onnxruntime-node";
import { expected } from "../errors.ts";
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { input } from "../graph/tensor.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { normalize } from "../ops/reduce.ts";
import { topK } from "../ops/select.ts";
import { randomFor } from "../random.ts";
import { openGraph } from "./features.ts";
import { packBits, unpackBits } from "./gate.ts";
import type { Rows } from "./rank.ts";

/** Neighbours of each image. */
const NEIGHBOURS = 10;
/** Bits of a place in the sample. */
const PLACE_BITS = 9;
/** Images that neighbours are taken from, and those whose neighbours are kept. */
const SAMPLE = 2 ** PLACE_BITS;
const KEPT = SAMPLE / 2;
/** Of fewer images a large share of the neighbours is the same by chance. */
const LEAST_IMAGES = 100;

/** Places in a sample, without an order, of the nearest neighbours of its first images [images][NEIGHBOURS]. */
export type Neighbours = readonly (readonly number[])[];

/**
 * The neighbours, by the cosine of their features, in a sample that the seed draws; of equally similar images the first
 * is the nearer.
 * @throws UserError if there are fewer than 100 rows
 */
export async function neighboursOf(
  { data, n, d }: Rows,
  seed: number,
  threads?: number,
): Promise<Neighbours> {
  if (n < LEAST_IMAGES) throw expected("rank, nearest neighbours", `${LEAST_IMAGES} images or more`, `${n}`);
  const sampled = randomFor(seed, "neighbours")
    .shuffled([...Array(n).keys()])
    .slice(0, SAMPLE);
  const sample = new Float32Array(sampled.length * d);
  for (const [i, row] of sampled.entries()) sample.set(data.subarray(row * d, (row + 1) * d), i * d);

  const [rows, all] = [input("rows", "float32", ["n", d]), input("all", "float32", ["m", d])];
  const cosines = matmul(normalize(rows), swap(normalize(all))); // [n, m]
  const { indices } = topK(cosines, NEIGHBOURS + 1); // [n, k + 1]
  const session = await openGraph(encodeModel(buildModel({ indices }, { name: "neighbours" })), threads);
  const kept = keptOf(n);
  const found = await session.run({
    rows: new ort.Tensor("float32", sample.subarray(0, kept * d), [kept, d]),
    all: new ort.Tensor("float32", sample, [sampled.length, d]),
  });
  await session.close();
  const places = Array.from(found.indices!.data as BigInt64Array, Number);
  return Array.from({ length: kept }, (_, i) =>
    places
      .slice(i * (NEIGHBOURS + 1), (i + 1) * (NEIGHBOURS + 1))
      .filter((place) => place !== i) // itself, which is not among them where others have the same features
      .slice(0, NEIGHBOURS),
  );
}

const keptOf = (images: number): number => Math.min(KEPT, images);

/** The mean share of neighbours that are the same, 0 to 1. */
export function meanOverlap(before: Neighbours, now: Neighbours): number {
  const same = now.map((places, i) => places.filter((place) => before[i]!.includes(place)).length);
  return same.reduce((sum, count) => sum + count, 0) / (NEIGHBOURS * now.length);
}

/** What `meanOverlap` is of two unrelated encoders, on average. */
export const chanceOverlap = (images: number): number => NEIGHBOURS / (Math.min(SAMPLE, images) - 1);

/** The places one after another, each with its lowest bit first, in base64. */
export const packNeighbours = (neighbours: Neighbours): string =>
  packBits(
    neighbours
      .flat()
      .flatMap((place) => Array.from({ length: PLACE_BITS }, (_, bit) => (place >> bit) % 2 === 1)),
  );

/** Those of a set of so many images; undefined if `text` holds another number of bytes. */
export function unpackNeighbours(text: string, images: number): Neighbours | undefined {
  const kept = keptOf(images);
  const bits = unpackBits(text, kept * NEIGHBOURS * PLACE_BITS);
  if (!bits) return undefined;
  const placeAt = (start: number) =>
    bits.slice(start, start + PLACE_BITS).reduce((place, isSet, bit) => place + (isSet ? 2 ** bit : 0), 0);
  return Array.from({ length: kept }, (_, i) =>
    Array.from({ length: NEIGHBOURS }, (_, j) => placeAt((i * NEIGHBOURS + j) * PLACE_BITS)),
  );
}
