/** The similarity that methods without negatives maximise. */
import type { Tensor } from "../graph/tensor.ts";
import { mul } from "../ops/elementwise.ts";
import { normalize, reduceMean, reduceSum } from "../ops/reduce.ts";

/** The cosine between row i of a and row i of b, both [n, d]; averaged over the rows, float32 []. */
export const cosine = (a: Tensor, b: Tensor): Tensor =>
  reduceMean(reduceSum(mul(normalize(a), normalize(b)), { axes: [1] }));
