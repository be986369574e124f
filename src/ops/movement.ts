/** Operators that move values without changing them. */
import { addDims, atLeast, divideDims, sameShape, showShape } from "../graph/dims.ts";
import {
  axisOf,
  constant,
  fixed,
  integers,
  operator,
  ShapeError,
  scalar,
  type Tensor,
} from "../graph/tensor.ts";
import type { Dim, Shape } from "../spec.ts";
import { reshaped, shapeOf, sizes, sizesIn } from "./shape.ts";

/** With a shape that is a tensor. */
export const reshapeOp = operator({
  type: "Reshape",
  infer: ([x, shape]) => [{ dtype: x!.dtype, shape: reshaped(x!.shape, sizesIn(shape!)) }],
  gradient: ({ inputs: [x], grad }) => [reshape(grad, x!.shape, x!), null],
});

/**
 * The same values in another shape. Symbolic sizes need nothing where they stay in place, or where there is only one;
 * else they are read from the tensors `from`, except for at most one that none of them has.
 */
export function reshape(x: Tensor, shape: Shape, ...from: readonly Tensor[]): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const { source } = x;
  // Two reshapes in a row become one, or none.
  if (source.kind === "node" && source.op.type === "Reshape")
    return reshape(source.inputs[0]!, shape, ...from, x);
  const symbolic = shape.filter((size, i) => typeof size === "string" && size !== x.shape[i]);
  if (symbolic.length > 1) {
    const unread = symbolic.filter((size) => ![x, ...from].some((t) => t.shape.includes(size)));
    const rest = shape.map((size) => (unread.length === 1 && size === unread[0] ? -1 : size));
    return reshapeOp([x, sizes(rest, x, ...from)])[0]!;
  }
  const target = shape.map((size, i) => (typeof size === "number" ? size : size === x.shape[i] ? 0 : -1));
  // Reused: a vector that goes to many chunks of a batch is reshaped alike for each of them.
  const known = seen.get(x) ?? new Map<string, Tensor>();
  seen.set(x, known);
  const key = showShape(shape);
  const y = known.get(key) ?? reshapeOp([x, integers(target)])[0]!;
  known.set(key, y);
  return y;
}
const seen = new WeakMap<Tensor, Map<string, Tensor>>();

const transposeOp = operator({
  type: "Transpose",
  infer: ([x], { perm }) => [{ dtype: x!.dtype, shape: (perm as number[]).map((axis) => x!.shape[axis]!) }],
  gradient: ({ grad, attributes }) => {
    const perm = attributes.perm as number[];
    return [
      transpose(
        grad,
        perm.map((_, i) => perm.indexOf(i)),
      ),
    ];
  },
});

/** Axes in another order; reversed by default. Two transposes in a row become one, or none. */
export function transpose(x: Tensor, perm: readonly number[] = x.shape.map((_, i) => i).reverse()): Tensor {
  if (perm.every((axis, i) => axis === i)) return x;
  const { source } = x;
  if (source.kind === "node" && source.op.type === "Transpose") {
    const before = source.attributes.perm as number[];
    return transpose(
      source.inputs[0]!,
      perm.map((axis) => before[axis]!),
    );
  }
  return transposeOp([x], { perm })[0]!;
}

const expandOp = operator({
  type: "Expand",
  infer: ([x, shape]) => {
    const target = sizesIn(shape!);
    const from = [...Array<Dim>(target.length - x!.shape.length).fill(1), ...x!.shape];
    from.forEach((size, i) => {
      if (size !== 1 && size !== target[i]) throw new ShapeError(`does not expand to ${showShape(target)}`);
    });
    return [{ dtype: x!.dtype, shape: target }];
  },
  gradient: ({ grad }) => [grad, null], // `gradients` sums what was broadcast
});

/** Repeats axes of size 1; symbolic sizes are read from x and `from`. */
export const expand = (x: Tensor, shape: Shape, ...from: readonly Tensor[]): Tensor =>
  sameShape(x.shape, shape) ? x : expandOp([x, sizes(shape, ...from, x)])[0]!;

const sliceOp = operator({
  type: "Slice",
  infer: ([x, starts, ends, axes, steps]) => {
    const [from, to, at, by] = [starts!, ends!, axes!, steps!].map((t) => sizesIn(t) as number[]);
    const shape = [...x!.shape];
    at!.forEach((axis, i) => {
      // A slice of a symbolic size fits if it ends within the least value that the size can have.
      const whole = shape[axis]!;
      const least = atLeast(whole);
      const size = to![i]! <= least ? least : fixed(whole, `size of axis ${axis}`);
      const first = from![i]!;
      const step = by![i]!;
      const last = Math.min(to![i]!, size);
      shape[axis] = Math.max(0, Math.ceil((last - first) / step));
      if (first < 0 || first >= size || shape[axis] === 0) {
        throw new ShapeError(`slice ${first}:${to![i]}:${step} is empty or outside of axis ${axis}`);
      }
    });
    return [{ dtype: x!.dtype, shape }];
  },
  gradient: ({ inputs: [x, starts, , axes, steps], outputs: [y], grad }) => {
    const [from, at, by] = [starts!, axes!, steps!].map((t) => sizesIn(t) as number[]);
    let g = grad;
    const before = x!.shape.map(() => 0);
    const after = x!.shape.map(() => 0);
    at!.forEach((axis, i) => {
      const count = y!.shape[axis] as number;
      g = spread(g, axis, by![i]!);
      before[axis] = from![i]!;
      after[axis] = fixed(x!.shape[axis], `size of axis ${axis}`) - from![i]! - ((count - 1) * by![i]! + 1);
    });
    return [pad(g, before, after), null, null, null, null];
  },
});

/** Puts `step - 1` zeros between neighbours along an axis. */
export function spread(x: Tensor, axis: number, step: number): Tensor {
  if (step === 1) return x;
  const size = fixed(x.shape[axis], "size");
  const end = (size - 1) * step + 1;
  if (axis === x.shape.length - 1) return spreadLast(x, step, end);
  const rows = [...x.shape.slice(0, axis + 1), 1, ...x.shape.slice(axis + 1)]; // [..., size, 1, ...]
  const after = rows.map((_, i) => (i === axis + 1 ? step - 1 : 0));
  const wide = pad(
    reshape(x, rows, x),
    rows.map(() => 0),
    after,
  ); // [..., size, step, ...]
  const merged = [...x.shape.slice(0, axis), size * step, ...x.shape.slice(axis + 1)];
  return slice(reshape(wide, merged, x), { [axis]: [0, end] });
}

/**
 * The same along the last axis, with zeros behind up to a length, as a product with a matrix of zeros and ones:
 * copying single values takes far longer.
 */
export function spreadLast(x: Tensor, step: number, length: number): Tensor {
  const size = fixed(x.shape.at(-1), "size");
  const ones = new Float32Array(size * length);
  for (let i = 0; i < size; i++) ones[i * length + i * step] = 1;
  return spreadProduct([x, constant(ones, [size, length])])[0]!;
}
const spreadProduct = operator({
  type: "MatMul",
  name: "SpreadProduct",
  infer: ([x, m]) => [{ dtype: x!.dtype, shape: [...x!.shape.slice(0, -1), m!.shape[1]!] }],
  gradient: { none: "made only by the rule of Slice" },
});

/** x[first:end:step] for the axes named, counted from the front. Their sizes are fixed, or at least `end`. */
export function slice(
  x: Tensor,
  ranges: Readonly<Record<number, readonly [first: number, end: number, step?: number]>>,
): Tensor {
  const kept = Object.entries(ranges).filter(
    ([axis, [first, end, step = 1]]) => first !== 0 || step !== 1 || x.shape[Number(axis)] !== end,
  );
  if (kept.length === 0) return x;
  const column = (pick: (r: readonly [number, number, number?]) => number) =>
    integers(kept.map(([, r]) => pick(r)));
  return sliceOp([
    x,
    column(([first]) => first),
    column(([, end]) => end),
    integers(kept.map(([axis]) => Number(axis))),
    column(([, , step]) => step ?? 1),
  ])[0]!;
}

const flipOp = operator({
  type: "Slice",
  name: "Flip",
  infer: ([x]) => [x!],
  gradient: ({ inputs: [, , , axes], grad }) => [
    flip(grad, sizesIn(axes!)[0] as number),
    null,
    null,
    null,
    null,
  ],
});
/** Before the first element of any axis. */
const BEFORE_ALL = -(2 ** 31);

/** The values of one axis in reverse order. */
export const flip = (x: Tensor, axis: number): Tensor =>
  flipOp([
    x,
    integers([-1]),
    integers([BEFORE_ALL]),
    integers([axisOf(axis, x.shape.length)]),
    integers([-1]),
  ])[0]!;

const padOp = operator({
  type: "Pad",
  infer: ([x, pads]) => {
    const amounts = sizesIn(pads!) as number[];
    const rank = x!.shape.length;
    if (amounts.length !== 2 * rank)
      throw new ShapeError(`expected ${2 * rank} pads, found ${amounts.length}`);
    const shape = x!.shape.map((size, i) => addDims(size, amounts[i]! + amounts[rank + i]!));
    if (shape.some((size) => typeof size === "number" && size < 1))
      throw new ShapeError(`pads ${amounts} leave nothing`);
    return [{ dtype: x!.dtype, shape }];
  },
  gradient: ({ inputs: [x, pads], grad }) => {
    const back = (sizesIn(pads!) as number[]).map((amount) => 0 - amount);
    return [pad(grad, back.slice(0, x!.shape.length), back.slice(x!.shape.length)), null, null];
  },
});

/** `value` (0) put before and after along each axis; negative amounts crop. */
export function pad(x: Tensor, before: readonly number[], after: readonly number[], value = 0): Tensor {
  if ([...before, ...after].every((p) => p === 0)) return x;
  return padOp([x, integers([...before, ...after]), scalar(value)])[0]!;
}

const concatOp = operator({
  type: "Concat",
  infer: (parts, { axis }) => {
    const [first, ...others] = parts;
    const at = axis as number;
    for (const part of others) {
      const fits = part.shape.length === first!.shape.length && part.dtype === first!.dtype;
      if (!fits || part.shape.some((size, i) => i !== at && size !== first!.shape[i])) {
        throw new ShapeError(`sizes must agree but for axis ${at}`);
      }
    }
    const size = parts.map((p) => p.shape[at]!).reduce(addDims);
    return [{ dtype: first!.dtype, shape: first!.shape.map((s, i) => (i === at ? size : s)) }];
  },
  gradient: ({ inputs, grad, attributes }) => split(grad, attributes.axis as number, inputs),
});

/** Tensors one after the other along an axis. */
export function concat(parts: readonly Tensor[], axis: number): Tensor {
  if (parts.length === 1) return parts[0]!;
  return concatOp(parts, { axis: axisOf(axis, parts[0]!.shape.length) })[0]!;
}

const splitOp = operator({
  type: "Split",
  infer: ([x, lengths], { axis }) => {
    const sizesOf = sizesIn(lengths!);
    const total = sizesOf.reduce(addDims);
    if (total !== x!.shape[axis as number]) {
      throw new ShapeError(`parts of ${sizesOf.join(", ")} do not fill axis ${axis}`);
    }
    return sizesOf.map((size) => ({
      dtype: x!.dtype,
      shape: x!.shape.map((s, i) => (i === axis ? size : s)),
    }));
  },
  gradient: ({ outputs, grads, attributes }) => {
    const parts = outputs.map((y, i) => grads[i] ?? zerosLike(y));
    return [concat(parts, attributes.axis as number), null];
  },
});

/** Parts along an axis; part i is as long there as `like[i]`. */
export function split(x: Tensor, axis: number, like: readonly Tensor[]): readonly Tensor[] {
  if (like.length === 1) return [x];
  const at = axisOf(axis, x.shape.length);
  const lengths = sizes(
    like.map((t) => t.shape[at]!),
    ...like.flatMap((t) => (typeof t.shape[at] === "string" ? [t] : [])),
  );
  return splitOp([x, lengths], { axis: at });
}

/** `count` equal parts along an axis of fixed size. */
export function chunk(x: Tensor, axis: number, count: number): readonly Tensor[] {
  if (count === 1) return [x];
  const at = axisOf(axis, x.shape.length);
  const size = divideDims(x.shape[at]!, count);
  if (typeof size !== "number") {
    throw new ShapeError(`Split: axis ${at} of ${showShape(x.shape)} has no ${count} equal parts`);
  }
  return splitOp([x, integers(Array(count).fill(size))], { axis: at });
}

const filledOp = operator({
  type: "ConstantOfShape",
  infer: ([shape]) => [{ dtype: "float32", shape: sizesIn(shape!) }],
  gradient: { none: "the values are constant" },
});

/** Zeros with the shape of x. */
export const zerosLike = (x: Tensor): Tensor => filledOp([shapeOf(x)])[0]!;

const castOp = operator({
  type: "Cast",
  infer: ([x], { to }) => [{ dtype: CASTS.find(([, code]) => code === to)![0], shape: x!.shape }],
  gradient: { none: "between whole numbers and floats" },
});
const CASTS = [
  ["float32", 1],
  ["uint8", 2],
  ["int32", 6],
  ["int64", 7],
  ["bool", 9],
] as const;

/** The values in another type; no gradient passes. */
export const cast = (x: Tensor, to: (typeof CASTS)[number][0]): Tensor =>
  x.dtype === to ? x : castOp([x], { to: CASTS.find(([dtype]) => dtype === to)![1] })[0]!;

const castLikeOp = operator({
  type: "CastLike",
  infer: ([x, like]) => [{ dtype: like!.dtype, shape: x!.shape }],
  gradient: { none: "between whole numbers and floats" },
});

/** Whole numbers in the graph's own kind of float, which tools may change: converted to float16, a model's Cast would not follow. */
export const castToFloat = (x: Tensor): Tensor => castLikeOp([x, scalar(1)])[0]!;

const stopOp = operator({
  type: "Identity",
  name: "StopGradient",
  infer: ([x]) => [x!],
  gradient: { none: "that is its purpose" },
});

/** x, as a constant to the gradient. */
export const stopGradient = (x: Tensor): Tensor => stopOp([x])[0]!;

/** A float32 constant from nested rows. */
export function table(rows: readonly (readonly number[])[]): Tensor {
  return constant(new Float32Array(rows.flat()), [rows.length, rows[0]!.length]);
}
