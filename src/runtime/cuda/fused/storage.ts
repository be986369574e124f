/** How values lie in memory. */
import type { Value } from "../kernel.ts";
import { contiguous, count, type View } from "./views.ts";

/** Sizes are those in memory, in that order. */
export interface Storage extends Value {
  /** Of each axis that the value has for the step, how far apart its places lie. */
  readonly strides: readonly number[];
}

/** How a node reads its inputs and writes its output, where that is its own way. */
export interface Placement {
  readonly inputs: readonly Storage[];
  readonly output: Storage;
}

/** In the order of the axes. */
export const plainStorage = ({ dtype, shape }: Value): Storage => ({
  dtype,
  shape,
  strides: contiguous(shape),
});

/** With the axes in another order, given from the one whose places lie farthest apart. */
export function storedIn(order: readonly number[], { dtype, shape }: Value): Storage {
  const sizes = order.map((axis) => shape[axis]!);
  const apart = contiguous(sizes);
  return { dtype, shape: sizes, strides: shape.map((_, axis) => apart[order.indexOf(axis)]!) };
}

const LAST = [0, 2, 3, 1];

/** A feature map [n, c, h, w] or kernel [out, c, kh, kw], with channels last and room for so many. */
export const lastStorage = ({ dtype, shape }: Value, channels: number): Storage =>
  storedIn(LAST, { dtype, shape: shape.map((size, axis) => (axis === 1 ? channels : size)) });

/** Whether the same places of a value of that shape lie at the same places of memory, in both. */
export const isSame = (shape: readonly number[], a: Storage, b: Storage): boolean =>
  a.dtype === b.dtype &&
  count(a.shape) === count(b.shape) &&
  shape.every((size, axis) => size === 1 || a.strides[axis] === b.strides[axis]);

/** The axes of a view from the one whose places lie farthest apart; undefined where places are repeated. */
export function orderIn({ shape, strides }: View): readonly number[] | undefined {
  const axes = shape.map((_, axis) => axis);
  const long = axes.filter((axis) => shape[axis]! > 1);
  if (long.some((axis) => strides[axis] === 0)) return undefined;
  const sorted = long.toSorted((a, b) => strides[b]! - strides[a]!);
  return [...sorted, ...axes.filter((axis) => shape[axis] === 1)];
}

/** A view with its axes in another order. */
export const permuted = (view: View, order: readonly number[]): View => ({
  ...view,
  shape: order.map((axis) => view.shape[axis]!),
  strides: order.map((axis) => view.strides[axis]!),
});
