/** Sizes as tensors: what a graph reads of its inputs' shapes when it runs, and what of it is known when it is built. */
import { addDims, divideDims, elements, showShape } from "../graph/dims.ts";
import {
  axisOf,
  constant,
  fixed,
  input,
  integers,
  operator,
  ShapeError,
  type Tensor,
} from "../graph/tensor.ts";
import type { Dim, Shape } from "../spec.ts";

const shapeOp = operator({
  type: "Shape",
  infer: ([x], { start, end }) => [
    { dtype: "int64", shape: [x!.shape.slice(start as number, end as number).length] },
  ],
  gradient: { none: "a shape does not depend on the values" },
});

const concatSizes = operator({
  type: "Concat",
  name: "ConcatSizes",
  infer: (parts) => [{ dtype: "int64", shape: [parts.map((p) => p.shape[0]!).reduce(addDims)] }],
  gradient: { none: "a shape does not depend on the values" },
});

/** The size of one axis, int64 [1]. */
export function sizeOf(x: Tensor, axis: number): Tensor {
  const at = axisOf(axis, x.shape.length);
  const size = x.shape[at]!;
  return typeof size === "number" ? integers([size]) : shapeOp([x], { start: at, end: at + 1 })[0]!;
}

/** The whole shape, int64 [rank]. */
export const shapeOf = (x: Tensor): Tensor =>
  x.shape.every((size) => typeof size === "number")
    ? integers(x.shape as number[])
    : shapeOp([x], { start: 0, end: x.shape.length })[0]!;

/** None of its sizes, int64 [0]: a value for which the runtime has to compute x all the same. */
export const noSizesOf = (x: Tensor): Tensor => {
  const rank = x.shape.length;
  return shapeOp([x], { start: rank, end: rank })[0]!;
};

/** Vectors of sizes one after the other, int64 [total]. */
export const joinSizes = (parts: readonly Tensor[]): Tensor => concatSizes(parts, { axis: 0 })[0]!;

/** A shape as an int64 tensor; its symbolic sizes are read from the tensors `from`, which must have them. */
export function sizes(shape: Shape, ...from: readonly Tensor[]): Tensor {
  if (shape.every((size) => typeof size === "number")) return integers(shape as number[]);
  const parts = shape.map((size) => {
    if (typeof size === "number") return integers([size]);
    for (const t of from) if (t.shape.includes(size)) return sizeOf(t, t.shape.indexOf(size));
    throw new ShapeError(`no tensor at hand has the size ${size} of ${showShape(shape)}`);
  });
  return parts.length === 1 ? parts[0]! : joinSizes(parts);
}

const sizesOnceOp = operator({
  type: "Add",
  name: "SizesOnce",
  infer: ([rest]) => [rest!],
  gradient: { none: "a shape does not depend on the values" },
});

/**
 * Sizes, int64 [rank], that the runtime knows only once `made`, a tensor of known shape, is computed: its first size
 * plus the differences from it.
 */
export const sizesOnce = (sizes: readonly number[], made: Tensor): Tensor => {
  const first = fixed(made.shape[0], "first size");
  return sizesOnceOp([
    integers(sizes.map((size) => size - first)),
    shapeOp([made], { start: 0, end: 1 })[0]!,
  ])[0]!;
};

/** The sizes that an int64 vector holds, as far as the graph knows them: constants, shapes, and concatenations of both. */
export function sizesIn(t: Tensor): Shape {
  const { source } = t;
  if (source.kind === "constant") return Array.from(source.data as BigInt64Array, Number);
  if (source.kind === "node") {
    const [x] = source.inputs;
    if (source.op.name === "Shape") {
      const { start, end } = source.attributes;
      return x!.shape.slice(start as number, end as number);
    }
    if (source.op.name === "SizesOnce") {
      const [rest, first] = source.inputs.map((part) => sizesIn(part!) as number[]) as [number[], number[]];
      return rest.map((more) => more + first[0]!);
    }
    if (source.op.name === "ConcatSizes") return source.inputs.flatMap((part) => sizesIn(part!));
  }
  throw new ShapeError("the sizes are not known when the graph is built");
}

/** What Reshape makes of a shape: 0 copies a size, -1 takes what is left. */
export function reshaped(from: Shape, target: Shape): Shape {
  const known = target.map((size, i) => (size === 0 ? from[i]! : size));
  const rest = elements(known.filter((size) => size !== -1));
  const total = elements(from);
  const left: Dim | undefined = divideDims(total, rest);
  if (left === undefined || (left !== 1 && !known.includes(-1))) {
    throw new ShapeError(`${showShape(from)} holds ${total} values, ${showShape(known)} does not`);
  }
  return known.map((size) => (size === -1 ? left : size));
}

const castSize = operator({
  type: "Cast",
  name: "CastSize",
  infer: ([x]) => [{ dtype: "float32", shape: x!.shape }],
  gradient: { none: "a shape does not depend on the values" },
});
const FLOAT = 1;

/** Number of elements along the axes: the product of the known sizes, and each symbolic size as float32 [1]. */
export function countOf(x: Tensor, axes: readonly number[]): { known: number; symbolic: readonly Tensor[] } {
  let known = 1;
  const symbolic: Tensor[] = [];
  for (const axis of axes) {
    const size = x.shape[axisOf(axis, x.shape.length)]!;
    if (typeof size === "number") known *= size;
    else symbolic.push(castSize([sizeOf(x, axis)], { to: FLOAT })[0]!);
  }
  return { known, symbolic };
}

const rangeOp = operator({
  type: "Range",
  infer: ([, limit]) => [{ dtype: limit!.dtype, shape: [rangeLength(limit!)] }],
  gradient: { none: "made of whole numbers" },
});
const squeezeSize = operator({
  type: "Squeeze",
  name: "SqueezeSize",
  infer: ([x]) => [{ dtype: x!.dtype, shape: [] }],
  gradient: { none: "a shape does not depend on the values" },
});

function rangeLength(limit: Tensor): Dim {
  let { source } = limit;
  while (source.kind === "node" && source.op.name !== "Shape") source = source.inputs[0]!.source;
  if (source.kind !== "node")
    throw new ShapeError("the length of the range is not known when the graph is built");
  return sizesIn(source.outputs[0]!)[0]!;
}

const countingOp = operator({
  type: "Range",
  name: "Counting",
  taken: 3,
  infer: ([, , , like]) => [like!],
  gradient: { none: "made of whole numbers" },
});

/** 0, 1, 2, ... below a limit, int64 [1], that is known when the graph runs; float32, `size` is the name of its new size. */
export const counting = (limit: Tensor, size: string): Tensor =>
  castSize(countingOp([whole(0), squeezeSize([limit])[0]!, whole(1), input(size, "int64", [size])]), {
    to: FLOAT,
  })[0]!;
const whole = (value: number): Tensor => constant(BigInt64Array.of(BigInt(value)), []);

/** 0, 1, 2, ... along an axis of x, float32 [size]. */
export function indicesAlong(x: Tensor, axis: number): Tensor {
  const size = x.shape[axisOf(axis, x.shape.length)]!;
  if (typeof size === "number")
    return constant(
      Float32Array.from({ length: size }, (_, i) => i),
      [size],
    );
  return castSize([placesAlong(x, axis)], { to: FLOAT })[0]!;
}

/**
 * The same as int64 [size]. Of another whole type the runtime would not take the range once a size is fixed: what it then
 * infers of the limit is int64, as all that comes of a shape.
 */
export function placesAlong(x: Tensor, axis: number): Tensor {
  const size = x.shape[axisOf(axis, x.shape.length)]!;
  if (typeof size === "number") return integers(Array.from({ length: size }, (_, i) => i));
  return rangeOp([whole(0), squeezeSize([sizeOf(x, axis)])[0]!, whole(1)])[0]!;
}
