/** Operators that pick the greatest values along an axis. */
import { axisOf, integers, operator, ShapeError, type Tensor } from "../graph/tensor.ts";

const topKOp = operator({
  type: "TopK",
  infer: ([x, count], { axis }) => {
    if (count!.source.kind !== "constant") throw new ShapeError("expected a constant k");
    const k = Number((count!.source.data as BigInt64Array)[0]);
    const size = x!.shape[axis as number]!;
    if (k < 1 || (typeof size === "number" && k > size))
      throw new ShapeError(`expected k in 1..${size}, found ${k}`);
    const shape = x!.shape.map((s, i) => (i === axis ? k : s));
    return [
      { dtype: x!.dtype, shape },
      { dtype: "int64", shape },
    ];
  },
  gradient: { none: "finds neighbours for a probe, which trains nothing" },
});

/** The k greatest values along an axis, greatest first, and their indices (int64); of equal values the lower index. */
export function topK(x: Tensor, k: number, axis = -1): { readonly values: Tensor; readonly indices: Tensor } {
  const attributes = { axis: axisOf(axis, x.shape.length), largest: 1, sorted: 1 };
  const [values, indices] = topKOp([x, integers([k])], attributes);
  return { values: values!, indices: indices! };
}

const argMaxOp = operator({
  type: "ArgMax",
  infer: ([x], { axis }) => [{ dtype: "int64", shape: x!.shape.filter((_, i) => i !== axis) }],
  gradient: { none: "an index is constant almost everywhere" },
});

/** The index of the greatest value along an axis, int64, without that axis; of equal values the lower index. */
export const argMax = (x: Tensor, axis = -1): Tensor =>
  argMaxOp([x], { axis: axisOf(axis, x.shape.length), keepdims: 0, select_last_index: 0 })[0]!;
