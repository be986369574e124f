/** The Sinkhorn-Knopp algorithm: assigns equal shares to all columns. */
import type { Tensor } from "../graph/tensor.ts";
import { exp, greater, sub, where } from "../ops/elementwise.ts";
import { stopGradient } from "../ops/movement.ts";
import { logSumExp } from "../ops/reduce.ts";

export interface SinkhornOptions {
  /** @default 3 */
  readonly iterations?: number;
  /** float32 [rows, 1]: rows with 0 are left out, so that the codes of the others are as if they were not there. */
  readonly mask?: Tensor | undefined;
}

/** Stands for minus infinity: far below any score, and exp of it is exactly 0. */
const MASKED = -1e9;

/**
 * Scores [rows, k], divided by epsilon, -> codes [rows, k] (Caron et al. 2020, section 3.1 and listing A.1): exp of the
 * scores, with columns and then rows brought to equal sums in turn; in the end each row sums to 1. In logarithms, so
 * that scores of any size stay finite; shares such as 1 / k, which the next division takes away, are left out. No
 * gradient passes.
 */
export function sinkhorn(scores: Tensor, { iterations = 3, mask }: SinkhornOptions = {}): Tensor {
  const live = mask && greater(mask, 0); // [rows, 1]
  let logs = stopGradient(scores); // [rows, k]
  for (let i = 0; i < iterations; i++) {
    const counted = live ? where(live, logs, MASKED) : logs; // [rows, k]
    const columns = sub(logs, logSumExp(counted, 0)); // [rows, k]
    logs = sub(columns, logSumExp(columns, 1)); // [rows, k]
  }
  return exp(logs);
}
