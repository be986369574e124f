/** Retrieval between two modalities: for each query, the place of its own among all that it is compared with. */
import * as ort from "onnxruntime-node";
import { expected } from "../errors.ts";
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { input } from "../graph/tensor.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { blocks, checkFinite, type Features, openGraph } from "./features.ts";

type Rows = Pick<Features, "data" | "n" | "d">;

export interface Recall {
  /** Share of the queries whose own is the first, or among the first five or ten, %. */
  readonly recall1: number;
  readonly recall5: number;
  readonly recall10: number;
  /** Of its own for the middle query, from 1. */
  readonly medianRank: number;
}

/**
 * Of each query the rank of the candidate of the same row, from 1, by dot product; of equally similar ones it is the last,
 * so that embeddings that are all the same find nothing.
 * @throws UserError if values are not finite, or there are no two rows
 */
export async function ranksOf(queries: Rows, candidates: Rows, threads?: number): Promise<Int32Array> {
  const { n, d } = queries;
  if (candidates.n !== n || candidates.d !== d)
    throw new Error(`retrieval: ${n} x ${d} queries, ${candidates.n} x ${candidates.d} candidates`);
  if (n < 2) throw expected("retrieval", "two pairs or more", `${n}`);
  for (const rows of [queries, candidates]) checkFinite("retrieval", rows);
  const [own, all] = [input("own", "float32", ["b", d]), input("all", "float32", ["n", d])];
  const scores = matmul(own, swap(all)); // [b, n]
  const session = await openGraph(encodeModel(buildModel({ scores }, { name: "retrieval" })), threads);
  const compared = new ort.Tensor("float32", candidates.data, [n, d]);
  const ranks = new Int32Array(n);
  for (const [from, to] of blocks(n, 4 * n)) {
    const rows = new ort.Tensor("float32", queries.data.subarray(from * d, to * d), [to - from, d]);
    const { scores } = await session.run({ own: rows, all: compared });
    const found = scores!.data as Float32Array;
    for (let i = from; i < to; i++) {
      const row = found.subarray((i - from) * n, (i - from + 1) * n);
      ranks[i] = row.reduce((rank, score) => rank + (score >= row[i]! ? 1 : 0), 0);
    }
  }
  await session.close();
  return ranks;
}

export function recallOf(ranks: Int32Array): Recall {
  const within = (k: number) => (100 * ranks.filter((rank) => rank <= k).length) / ranks.length;
  const medianRank = ranks.slice().sort()[Math.floor((ranks.length - 1) / 2)]!;
  return { recall1: within(1), recall5: within(5), recall10: within(10), medianRank };
}

/** What ranks drawn at random give, %. */
export const chanceOf = (n: number): Omit<Recall, "medianRank"> => {
  const within = (k: number) => (100 * Math.min(k, n)) / n;
  return { recall1: within(1), recall5: within(5), recall10: within(10) };
};
