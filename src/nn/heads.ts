/** The heads of methods, projectors and predictors: stacks of linear layers. */
import type { Tensor } from "../graph/tensor.ts";
import { relu } from "../ops/elementwise.ts";
import { batchNorm, linear } from "./layers.ts";
import type { Scope } from "./scope.ts";

export interface MlpOptions {
  /** Length of each layer's output, the last of which is the head's. */
  readonly sizes: readonly number[];
  /** Batch normalisation before each ReLU. @default true */
  readonly batchNorm?: boolean;
  /** Batch normalisation after the last layer: none, with a scale and bias that are learnt, or without. @default false */
  readonly lastBatchNorm?: false | "affine" | "plain";
  /** Whether the last layer has a bias, unless normalisation follows. @default true */
  readonly bias?: boolean;
}

/**
 * x [n, d] -> [n, sizes.at(-1)]: linear layers with a ReLU between each two, named as in a Sequential of PyTorch: "0",
 * then "3" (or "2" without normalisation), ... Layers that normalisation follows have no bias, which it would cancel.
 */
export function mlp(
  s: Scope,
  x: Tensor,
  { sizes, batchNorm: inner = true, lastBatchNorm = false, bias = true }: MlpOptions,
): Tensor {
  let place = 0;
  const next = () => `${place++}`;
  return sizes.reduce((h, out, i) => {
    const last = i === sizes.length - 1;
    const norm = last ? lastBatchNorm : inner && "affine";
    const y = linear(s, next(), h, { out, bias: !norm && (!last || bias) }); // [n, out]
    const z = norm ? batchNorm(s, next(), y, { affine: norm === "affine" }) : y; // [n, out]
    if (last) return z;
    place++; // of the ReLU
    return relu(z);
  }, x);
}
