/** Operators that pick the greatest values along an axis, the lowest ones, or the best boxes. */
import { axisOf, constant, input, integers, operator, ShapeError, type Tensor } from "../graph/tensor.ts";
import { minimum } from "./elementwise.ts";
import { sizeOf } from "./shape.ts";

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

const lowestOp = operator({
  type: "TopK",
  name: "Lowest",
  taken: 2,
  infer: ([x, , count]) => [{ dtype: x!.dtype, shape: count!.shape }, count!],
  gradient: { none: "picks detections, which trains nothing" },
});

/** The lowest values of a vector, lowest first: `most`, or all if there are fewer. `size` is the name of their number. */
export const lowest = (x: Tensor, most: number, size: string): Tensor =>
  lowestOp([x, minimum(sizeOf(x, 0), integers([most])), input(size, "int64", [size])], {
    axis: 0,
    largest: 0,
    sorted: 1,
  })[0]!;

const suppressionOp = operator({
  type: "NonMaxSuppression",
  taken: 5,
  infer: ([boxes, scores, , , , rows]) => {
    const [n, count, sides] = boxes!.shape;
    const [m, , scored] = scores!.shape;
    if (boxes!.shape.length !== 3 || scores!.shape.length !== 3 || sides !== 4 || n !== m || count !== scored)
      throw new ShapeError("expected boxes [n, count, 4] and scores [n, classes, count]");
    return [{ dtype: "int64", shape: [rows!.shape[0]!, 3] }];
  },
  gradient: { none: "picks boxes: what is picked is constant almost everywhere" },
});

export interface Suppression {
  /** A box goes where its intersection over union with a better one of its class is above this. */
  readonly iou: number;
  /** Boxes with this score or less go. */
  readonly score: number;
  /** Of an image and class. */
  readonly most: number;
  /** Name of the number of boxes that stay. */
  readonly size: string;
}

/**
 * Non-maximum suppression of boxes [n, count, 4] (two opposite corners) by their scores [n, classes, count]: which stay,
 * int64 [size, 3] of image, class and box, best first in each class of an image.
 */
export const nonMaxSuppression = (
  boxes: Tensor,
  scores: Tensor,
  { iou, score, most, size }: Suppression,
): Tensor => {
  const threshold = (value: number) => constant(Float32Array.of(value), [1]);
  const rows = input(size, "int64", [size]);
  return suppressionOp([boxes, scores, integers([most]), threshold(iou), threshold(score), rows])[0]!;
};
