/** Losses over embeddings. */
import type { Tensor } from "../graph/tensor.ts";
import { div, equal, greaterOrEqual, sub, where } from "../ops/elementwise.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { cast, concat, reshape, split } from "../ops/movement.ts";
import { logSumExp, normalize, reduceMax, reduceMean, reduceSum } from "../ops/reduce.ts";
import { indicesAlong } from "../ops/shape.ts";

export interface Contrast {
  /** float32 []. */
  readonly loss: Tensor;
  /** Share of the rows whose positive is the most similar of all, float32 []. */
  readonly accuracy: Tensor;
}

/** Stands for minus infinity: far below any similarity, and exp of it is exactly 0. */
const MASKED = -1e9;

/**
 * NT-Xent (Chen et al. 2020, equation 1), averaged over all 2n rows: each row must find the other view of its image
 * among the 2n - 1 other rows. `a` and `b` are [n, d], row i of both from image i; they are normalised here.
 */
export function ntXent(a: Tensor, b: Tensor, temperature: Tensor): Contrast {
  const z = normalize(concat([a, b], 0)); // [2n, d]
  const similarity = div(matmul(z, swap(z)), temperature); // [2n, 2n]
  const own = indicesAlong(z, 0); // [2n]
  const [first, second] = split(own, 0, [a, b]); // [n] each
  const other = concat([second!, first!], 0); // [2n]: the row of the other view
  const column = [own.shape[0]!, 1]; // [2n, 1]
  const self = equal(reshape(own, column), own); // [2n, 2n]
  const positive = equal(reshape(other, column), own); // [2n, 2n]
  const others = where(self, MASKED, similarity); // [2n, 2n]
  const hit = reduceSum(where(positive, similarity, 0), { axes: [1], keep: true }); // [2n, 1]
  const loss = reduceMean(sub(logSumExp(others), hit)); // []
  const best = reduceMax(others, { axes: [1], keep: true }); // [2n, 1]
  return { loss, accuracy: reduceMean(cast(greaterOrEqual(hit, best), "float32")) };
}
