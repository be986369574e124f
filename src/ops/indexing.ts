/** Operators that read and write rows and values by index. */
import { axisOf, operator, ShapeError, type Tensor } from "../graph/tensor.ts";
import { cast, reshape, transpose, zerosLike } from "./movement.ts";

const gatherOp = operator({
  type: "Gather",
  infer: ([x, indices], { axis }) => {
    const at = axis as number;
    if (indices!.dtype !== "int64" && indices!.dtype !== "int32")
      throw new ShapeError(`expected int64 or int32 indices, found ${indices!.dtype}`);
    return [
      { dtype: x!.dtype, shape: [...x!.shape.slice(0, at), ...indices!.shape, ...x!.shape.slice(at + 1)] },
    ];
  },
  gradient: ({ inputs: [x, indices], grad, attributes }) => {
    const at = attributes.axis as number;
    const rank = x!.shape.length;
    const k = indices!.shape.length;
    const toFront = [at, ...range(0, at), ...range(at + 1, rank)];
    const rowsFirst = [...range(at, at + k), ...range(0, at), ...range(at + k, rank + k - 1)];
    const rows = transpose(grad, rowsFirst); // [...indices, ...the other axes]
    const into = zerosLike(transpose(x!, toFront)); // [size, ...the other axes]
    const places = reshape(cast(indices!, "int64"), [...indices!.shape, 1], indices!); // [...indices, 1]
    const sum = scatterAdd(into, places, rows);
    return [
      transpose(
        sum,
        toFront.map((_, i) => toFront.indexOf(i)),
      ),
      null,
    ];
  },
});
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

/** The slices of x at indices, int64 or int32, along an axis; the indices' axes take its place. */
export const gather = (x: Tensor, indices: Tensor, axis = 0): Tensor =>
  gatherOp([x, indices], { axis: axisOf(axis, x.shape.length) })[0]!;

const scatterOp = operator({
  type: "ScatterND",
  infer: ([x]) => [x!],
  gradient: { none: "made by the rule of Gather, and for rows that take no gradient" },
});

/** A tensor like `rows` [n, ...] whose row places[i] is row i; places int64 [n] name each row once. */
export const putRows = (rows: Tensor, places: Tensor): Tensor =>
  scatterAdd(zerosLike(rows), reshape(places, [places.shape[0]!, 1]), rows);

/** x with the rows of `updates` added at `indices` [..., 1]; a row named twice gets both. */
const scatterAdd = (x: Tensor, indices: Tensor, updates: Tensor): Tensor =>
  scatterOp([x, indices, updates], { reduction: "add" })[0]!;

const scatterElementsOp = operator({
  type: "ScatterElements",
  infer: ([x]) => [x!],
  gradient: { none: "made only by the rule of MaxPool" },
});

/** Values of a flat vector added, at their flat indices, to zeros with the shape of x; values with one index are summed. */
export function scatterFlat(x: Tensor, places: Tensor, values: Tensor): Tensor {
  const flat = reshape(zerosLike(x), [-1]);
  const sum = scatterElementsOp([flat, reshape(places, [-1]), reshape(values, [-1])], {
    axis: 0,
    reduction: "add",
  })[0]!;
  return reshape(sum, x.shape, x);
}
