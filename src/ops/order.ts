/** What the runtime computes first: it goes by what a node reads, so a node that is to wait reads its shape from another. */
import type { Tensor } from "../graph/tensor.ts";
import { reshapeOp } from "./movement.ts";
import { joinSizes, noSizesOf, shapeOf, sizesOnce } from "./shape.ts";

/**
 * x, which the runtime computes only after the others: the shape that x is given is read from tensors that depend on
 * them.
 */
export function after(x: Tensor, others: readonly Tensor[]): Tensor {
  if (others.length === 0) return x;
  const joined = joinSizes([shapeOf(x), ...others.map(noSizesOf)]); // [rank]
  // Of two nodes the runtime first computes what the later one needs: x before the others.
  const y = reshapeOp([x, shapeOf(x)])[0]!; // as x
  return reshapeOp([y, joined])[0]!; // as x
}

/** x, which the runtime computes after the other tensor. Both have known sizes; the other has one axis or more. */
export function later(x: Tensor, other: Tensor): Tensor {
  const { source } = x;
  // Not two reshapes in a row: they are a node more, and the runtime's fusion of reshapes cannot take this one.
  const from = source.kind === "node" && source.op.type === "Reshape" ? source.inputs[0]! : x;
  return reshapeOp([from, sizesOnce(x.shape as readonly number[], other)])[0]!; // as x
}
