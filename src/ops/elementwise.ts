/** Element-wise operators, with broadcasting. A rule may return the broadcast shape: `gradients` sums it. */
import {
  constant,
  type GradientRule,
  operator,
  ShapeError,
  scalar,
  type Tensor,
  transient,
} from "../graph/tensor.ts";
import type { DType, Shape } from "../spec.ts";
import { cast, reshape } from "./movement.ts";

export type Operand = Tensor | number;
export type Unary = (x: Tensor) => Tensor;
export type Binary = (a: Operand, b: Operand) => Tensor;

/** The shape of an element-wise result. */
export function broadcast(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const p = a[i - rank + a.length] ?? 1;
    const q = b[i - rank + b.length] ?? 1;
    if (p !== q && p !== 1 && q !== 1) throw new ShapeError(`sizes ${p} and ${q} do not broadcast`);
    return p === 1 ? q : p;
  });
}

const lift = (x: Operand): Tensor => (typeof x === "number" ? scalar(x) : x);

function unary(type: string, gradient: GradientRule | { none: string }): Unary {
  const op = operator({ type, infer: ([x]) => [x!], gradient });
  return (x) => op([x])[0]!;
}

function binary(type: string, gradient: GradientRule | { none: string }, dtype?: DType): Binary {
  const op = operator({
    type,
    infer: ([a, b]) => {
      if (a!.dtype !== b!.dtype) throw new ShapeError(`expected one type, found ${a!.dtype} and ${b!.dtype}`);
      return [{ dtype: dtype ?? a!.dtype, shape: broadcast(a!.shape, b!.shape) }];
    },
    gradient,
  });
  return (a, b) => op([beside(lift(a), b), beside(lift(b), a)])[0]!;
}

/**
 * A scalar that is combined with [..., 1], such as the weights of a 1x1 convolution, as [1, ..., 1]: the runtime's
 * inner loop goes along the last axis that either has, and would take value by value.
 */
function beside(x: Tensor, other: Operand): Tensor {
  if (x.shape.length > 0 || typeof other === "number" || other.shape.at(-1) !== 1) return x;
  const ones = other.shape.map(() => 1);
  return x.source.kind === "constant" ? constant(x.source.data, ones) : reshape(x, ones);
}

const comparison = { none: "a comparison is constant almost everywhere" };

/** a + b */
export const add = binary("Add", ({ grad: g }) => [g, g]);
/** a - b */
export const sub = binary("Sub", ({ grad: g, wants }) => [g, wants(1) ? neg(g) : null]);
/** a * b */
export const mul = binary("Mul", ({ inputs: [a, b], grad: g, wants }) => [
  wants(0) ? mul(g, b!) : null,
  wants(1) ? mul(g, a!) : null,
]);
/** a / b */
export const div = binary("Div", ({ inputs: [, b], outputs: [y], grad: g, wants }) => [
  wants(0) ? div(g, b!) : null,
  wants(1) ? neg(div(mul(g, y!), b!)) : null,
]);
/** a where a >= b, else b; the gradient follows. */
export const maximum = binary("Max", ({ inputs: [a, b], grad: g }) => {
  const first = greaterOrEqual(a!, b!);
  return [where(first, g, 0), where(first, 0, g)];
});
/** a where a <= b, else b; the gradient follows. */
export const minimum = binary("Min", ({ inputs: [a, b], grad: g }) => {
  const first = greaterOrEqual(b!, a!);
  return [where(first, g, 0), where(first, 0, g)];
});

export const equal = binary("Equal", comparison, "bool");
export const greater = binary("Greater", comparison, "bool");
export const greaterOrEqual = binary("GreaterOrEqual", comparison, "bool");
export const less = binary("Less", comparison, "bool");

const whereOp = operator({
  type: "Where",
  infer: ([condition, a, b]) => [
    { dtype: a!.dtype, shape: broadcast(condition!.shape, broadcast(a!.shape, b!.shape)) },
  ],
  gradient: ({ inputs: [condition], grad: g, wants }) => [
    null,
    wants(1) ? where(condition!, g, 0) : null,
    wants(2) ? where(condition!, 0, g) : null,
  ],
});
/** a where the condition (bool) holds, else b. */
export const where = (condition: Tensor, a: Operand, b: Operand): Tensor =>
  whereOp([condition, lift(a), lift(b)])[0]!;

export const neg = unary("Neg", ({ grad: g }) => [neg(g)]);
export const abs = unary("Abs", ({ inputs: [x], grad: g }) => [mul(g, sign(x!))]);
export const sign = unary("Sign", comparison);
export const floor = unary("Floor", comparison);
export const exp = unary("Exp", ({ outputs: [y], grad: g }) => [mul(g, y!)]);
export const log = unary("Log", ({ inputs: [x], grad: g }) => [div(g, x!)]);
export const sqrt = unary("Sqrt", ({ outputs: [y], grad: g }) => [div(mul(g, 0.5), y!)]);
export const reciprocal = unary("Reciprocal", ({ outputs: [y], grad: g }) => [neg(mul(g, square(y!)))]);
export const tanh = unary("Tanh", ({ outputs: [y], grad: g }) => [mul(g, sub(1, square(y!)))]);
export const sigmoid = unary("Sigmoid", ({ outputs: [y], grad: g }) => [mul(g, mul(y!, sub(1, y!)))]);
export const erf = unary("Erf", ({ inputs: [x], grad: g }) => [
  mul(g, mul(exp(neg(square(x!))), 2 / Math.sqrt(Math.PI))),
]);
/** max(x, 0); no gradient at 0. */
export const relu = unary("Relu", ({ outputs: [y], grad: g }) => [mul(g, isPositive(y!))]);

const hardSigmoidOp = operator({
  type: "HardSigmoid",
  infer: ([x]) => [x!],
  gradient: comparison,
});
/** So steep that every normal float32 above 0 saturates at 1. */
const STEEP = 2 ** 127;
/** 1 where x > 0, else 0, in one pass. A comparison and a cast take two passes, one of them on a single thread. */
export const isPositive: Unary = (x) =>
  hardSigmoidOp([x], { alpha: { float: STEEP }, beta: { float: 0 } })[0]!;

const clipOp = operator({
  type: "Clip",
  infer: ([x]) => [x!],
  gradient: ({ inputs: [x, low, high], grad: g }) => {
    const inside = mul(cast(greaterOrEqual(x!, low!), "float32"), cast(greaterOrEqual(high!, x!), "float32"));
    return [mul(g, inside), null, null];
  },
});
/** x limited to [low, high]; no gradient outside. */
export const clip = (x: Tensor, low: number, high: number): Tensor =>
  clipOp([x, scalar(low), scalar(high)])[0]!;

export const square: Unary = (x) => mul(x, x);

/** x * Phi(x), exact (Hendrycks and Gimpel 2016). */
export const gelu: Unary = (x) => transient(() => mul(mul(x, add(erf(mul(x, Math.SQRT1_2)), 1)), 0.5));
