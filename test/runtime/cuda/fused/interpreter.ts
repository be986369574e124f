/** Kernels, expression by expression, in float32. */
import type { ElementType } from "../../../../src/graph/protos.ts";
import {
  type Index,
  type Inside,
  isPlace,
  type Kernel,
  type Launch,
  type Rows,
  type Step,
} from "../../../../src/runtime/cuda/fused/ir.ts";
import { roundedTo } from "./halves.ts";

export type Data = Float32Array | Uint8Array | Int32Array | BigInt64Array;
export type Values = Map<string, Data>;

type Arithmetic = (a: number, b: number, c: number, alpha: number, beta: number) => number;

const clipped = (x: number, low: number, high: number) => (x < low ? low : x > high ? high : x);

/** By the ONNX operator; comparisons give 1 or 0. */
export const arithmetic: Readonly<Record<string, Arithmetic>> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
  Equal: (a, b) => Number(a === b),
  Greater: (a, b) => Number(a > b),
  GreaterOrEqual: (a, b) => Number(a >= b),
  Less: (a, b) => Number(a < b),
  Neg: (x) => -x,
  Abs: Math.abs,
  Exp: Math.exp,
  Log: Math.log,
  Sqrt: Math.sqrt,
  Floor: Math.floor,
  Tanh: Math.tanh,
  Erf: erf,
  Reciprocal: (x) => 1 / x,
  Sign: Math.sign,
  Sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  Relu: (x) => (x < 0 ? 0 : x),
  HardSigmoid: (x, _, __, alpha, beta) => clipped(alpha * x + beta, 0, 1),
  Clip: clipped,
  Max: (a, b) => Math.max(a, b),
  Min: (a, b) => Math.min(a, b),
  Where: (condition, a, b) => (condition ? a : b),
  Float: (x) => x,
};

/** By its series, or its continued fraction where that converges slowly. */
function erf(x: number): number {
  if (Math.abs(x) > 3) {
    let fraction = 0;
    for (let k = 60; k > 0; k--) fraction = k / 2 / (Math.abs(x) + fraction);
    return Math.sign(x) * (1 - Math.exp(-x * x) / Math.sqrt(Math.PI) / (Math.abs(x) + fraction));
  }
  let [term, sum] = [x, x];
  for (let k = 1; Math.abs(term) > 1e-12 * Math.abs(sum); k++) {
    term *= -(x * x) / k;
    sum += term / (2 * k + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

const ARRAYS = {
  float16: Float32Array, // of numbers that are rounded
  bfloat16: Float32Array,
  float32: Float32Array,
  bool: Uint8Array,
  uint8: Uint8Array,
  int32: Int32Array,
  int64: BigInt64Array,
} as const;

export const isHalf = (dtype: ElementType): boolean => dtype === "float16" || dtype === "bfloat16";

export const blank = (dtype: ElementType, size: number): Data => new ARRAYS[dtype](size);

/** Adds what the launch writes to the values. */
export function interpret({ kernels }: Launch, values: Values): void {
  const made = kernels.flatMap((kernel) => interpretKernel(kernel, values));
  for (const [name, data] of made) values.set(name, data);
}

/** Values of all places, or one that all have. */
type Places = ArrayLike<number>;

function interpretKernel({ count, rows, steps, outputs, inputs }: Kernel, values: Values): [string, Data][] {
  const places: Places[] = [];
  const reduced: Float32Array[] = [];
  steps.forEach((step, i) => {
    if (step.kind === "constant") places[i] = [step.value];
    else if (step.kind === "read") places[i] = read(values.get(inputs[step.input]!)!, step, count);
    else if (step.kind === "apply")
      places[i] = apply(
        step,
        step.args.map((arg) => places[arg]!),
        count,
      );
    else {
      const sums = reduce(step, places[step.of]!, rows!);
      reduced[i] = sums;
      const { length, inner, parts } = rows!;
      const rowOf = (at: number) => Math.floor(at / (length * inner)) * inner + (at % inner);
      if (parts === 1) places[i] = Float32Array.from({ length: count }, (_, at) => sums[rowOf(at)]!);
    }
  });
  return outputs.map(({ name, step, dtype, shape }) => {
    const found = steps[step]!.kind === "reduce" ? reduced[step]! : places[step]!;
    const data = blank(
      dtype,
      shape.reduce((a, b) => a * b, 1),
    );
    if (found.length === 1) data.fill(found[0] as never);
    else data.set(found as never);
    if (isHalf(dtype)) for (let i = 0; i < data.length; i++) data[i] = roundedTo(dtype, Number(data[i]));
    return [name, data];
  });
}

function read(
  data: Data,
  { index, inside }: { readonly index: Index; readonly inside?: Inside | undefined },
  count: number,
): Places {
  if (isPlace(index, count) && !(data instanceof BigInt64Array) && !inside)
    return data.length > count ? data.subarray(0, count) : data;
  const { offset, terms } = index;
  const found = new Float64Array(terms.length > 0 ? count : 1);
  for (let i = 0; i < found.length; i++) {
    if (inside && i % inside.size >= inside.below) continue;
    let at = offset;
    for (const { every, size, stride } of terms) at += (Math.floor(i / every) % size) * stride;
    if (at >= data.length) throw new RangeError(`place ${at} of ${data.length}`);
    found[i] = Number(data[at]);
  }
  return found;
}

function apply(
  { op, settings, dtype }: Extract<Step, { kind: "apply" }>,
  args: readonly Places[],
  count: number,
): Places {
  const f = arithmetic[op]!;
  const [a, b = [0], c = [0]] = args as [Places, Places?, Places?];
  const [alpha, beta] = settings;
  const [byA, byB, byC] = [a, b, c].map(({ length }) => Number(length > 1)) as [number, number, number];
  const found = new ARRAYS[dtype as "float32"](byA + byB + byC > 0 ? count : 1);
  for (let i = 0; i < found.length; i++) found[i] = f(a[i * byA]!, b[i * byB]!, c[i * byC]!, alpha!, beta!);
  return found;
}

/** One value for each row and part. */
function reduce(
  { how, scale }: Extract<Step, { kind: "reduce" }>,
  places: Places,
  { outer, length, inner, parts }: Rows,
): Float32Array {
  const chunk = Math.ceil(length / parts);
  return Float32Array.from({ length: outer * inner * parts }, (_, at) => {
    const [row, part] = [Math.floor(at / parts), at % parts];
    const first = Math.floor(row / inner) * length * inner + (row % inner);
    let all = how === "sum" ? 0 : how === "max" ? -Infinity : Infinity;
    for (let q = part * chunk; q < Math.min(length, (part + 1) * chunk); q++) {
      const value = places[places.length === 1 ? 0 : first + q * inner]!;
      all = how === "sum" ? all + value : how === "max" ? Math.max(all, value) : Math.min(all, value);
    }
    return all * scale;
  });
}
