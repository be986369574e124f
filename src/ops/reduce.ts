/** Sums, means and extremes over axes, and functions built from them. */
import { axisOf, integers, operator, ShapeError, type Tensor } from "../graph/tensor.ts";
import type { Shape } from "../spec.ts";
import { add, div, equal, exp, log, maximum, mul, sqrt, square, sub } from "./elementwise.ts";
import { cast, expand, reshape, stopGradient } from "./movement.ts";
import { countOf } from "./shape.ts";
import { target } from "./target.ts";

export interface ReduceOptions {
  /** Counted from the front or the back; all by default. */
  readonly axes?: readonly number[];
  /** Leaves reduced axes with size 1; false by default. */
  readonly keep?: boolean;
}

const axesOf = (x: Tensor, axes?: readonly number[]): number[] =>
  axes ? axes.map((axis) => axisOf(axis, x.shape.length)) : x.shape.map((_, i) => i);

const reducedShape = (shape: Shape, axes: readonly number[], keep: boolean): Shape =>
  keep ? shape.map((size, i) => (axes.includes(i) ? 1 : size)) : shape.filter((_, i) => !axes.includes(i));

/** A reduced tensor with its reduced axes back, at size 1. */
const unreduced = (t: Tensor, x: Tensor, axes: readonly number[]): Tensor =>
  reshape(t, reducedShape(x.shape, axes, true), x);

/**
 * Over axes that are not adjacent, such as the batch and height and width, one group of adjacent axes after the
 * other, the last group first. Values that are adjacent in memory then go to one thread, the one that wrote them:
 * twice as fast, and more on cores that share no cache.
 */
function runByRun(reduce: (x: Tensor, axes: number[], keepdims: 0 | 1) => Tensor) {
  return (x: Tensor, { axes, keep = false }: ReduceOptions = {}): Tensor => {
    const at = axesOf(x, axes).sort((a, b) => a - b);
    let y = x;
    while (at.length > 0) {
      const start = at.findLastIndex((axis, i) => axis - 1 !== at[i - 1]);
      y = reduce(y, at.splice(start), keep ? 1 : 0);
    }
    return y;
  };
}

const sumOp = operator({
  type: "ReduceSum",
  infer: ([x, axes], { keepdims }) => [
    { dtype: x!.dtype, shape: reducedShape(x!.shape, constantAxes(axes!), keepdims === 1) },
  ],
  gradient: ({ inputs: [x, axes], grad }) => [
    expand(unreduced(grad, x!, constantAxes(axes!)), x!.shape, x!),
    null,
  ],
});
function constantAxes(axes: Tensor): number[] {
  if (axes.source.kind !== "constant") throw new ShapeError("expected constant axes");
  return Array.from(axes.source.data as BigInt64Array, Number);
}

export const reduceSum = runByRun((x, at, keepdims) => sumOp([x, integers(at)], { keepdims })[0]!);

const meanOp = operator({
  type: "ReduceMean",
  infer: ([x], { axes, keepdims }) => [
    { dtype: x!.dtype, shape: reducedShape(x!.shape, axes as number[], keepdims === 1) },
  ],
  gradient: ({ inputs: [x], grad, attributes }) => {
    const axes = attributes.axes as number[];
    return [expand(divideByCount(unreduced(grad, x!, axes), x!, axes), x!.shape, x!)];
  },
});

export const reduceMean = runByRun((x, axes, keepdims) => meanOp([x], { axes, keepdims })[0]!);

/** t divided by the number of elements of x along the axes. */
export function divideByCount(t: Tensor, x: Tensor, axes: readonly number[]): Tensor {
  const { known, symbolic } = countOf(x, axes);
  const scaled = known === 1 ? t : mul(t, 1 / known);
  return symbolic.reduce(
    (total, count) => div(total, t.shape.length === 0 ? reshape(count, []) : count),
    scaled,
  );
}

/** The gradient of an extreme goes to the element that attains it; ties share it. */
function extreme(type: string) {
  const op = operator({
    type,
    infer: ([x], { axes, keepdims }) => [
      { dtype: x!.dtype, shape: reducedShape(x!.shape, axes as number[], keepdims === 1) },
    ],
    gradient: ({ inputs: [x], outputs: [y], grad, attributes }) => {
      const axes = attributes.axes as number[];
      const chosen = cast(equal(x!, unreduced(y!, x!, axes)), "float32");
      const ties = reduceSum(chosen, { axes, keep: true });
      return [mul(chosen, div(unreduced(grad, x!, axes), ties))];
    },
  });
  return (x: Tensor, { axes, keep = false }: ReduceOptions = {}): Tensor =>
    op([x], { axes: axesOf(x, axes), keepdims: keep ? 1 : 0 })[0]!;
}
export const reduceMax = extreme("ReduceMax");
export const reduceMin = extreme("ReduceMin");

/** Sums over the axes that broadcasting from `shape` repeated. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  const extra = x.shape.length - shape.length;
  const axes = x.shape.flatMap((size, i) => (i < extra || (shape[i - extra] === 1 && size !== 1) ? [i] : []));
  return axes.length === 0 ? x : reshape(reduceSum(x, { axes, keep: true }), shape, x);
}

/** Euclidean length along the last axis, which stays with size 1; `eps` is the least. */
export const norm = (x: Tensor, eps = 1e-12): Tensor =>
  sqrt(maximum(reduceSum(square(x), { axes: [-1], keep: true }), eps * eps));

/** x / |x| along the last axis. */
export const normalize = (x: Tensor): Tensor => div(x, norm(x));

/** log(sum(exp(x))) along an axis, safe for large x; the axis stays with size 1. */
export function logSumExp(x: Tensor, axis = -1): Tensor {
  const top = stopGradient(reduceMax(x, { axes: [axis], keep: true }));
  return add(log(reduceSum(exp(sub(x, top)), { axes: [axis], keep: true })), top);
}

function softmaxLike(type: string, rule: (y: Tensor, g: Tensor, axis: number) => Tensor) {
  const op = operator({
    type,
    infer: ([x]) => [x!],
    gradient: ({ outputs: [y], grad, attributes }) => [rule(y!, grad, attributes.axis as number)],
  });
  return (x: Tensor, axis = -1): Tensor => op([x], { axis: axisOf(axis, x.shape.length) })[0]!;
}
const sumAlong = (x: Tensor, axis: number) => reduceSum(x, { axes: [axis], keep: true });

export const softmax = softmaxLike("Softmax", (y, g, axis) => mul(y, sub(g, sumAlong(mul(g, y), axis))));
/** As one operator. */
export const logSoftmaxOp = softmaxLike("LogSoftmax", (y, g, axis) => sub(g, mul(exp(y), sumAlong(g, axis))));

/** log(softmax(x)) along an axis. */
export const logSoftmax = (x: Tensor, axis = -1): Tensor =>
  target().logSoftmax?.(x, axis) ?? sub(x, logSumExp(x, axis));
