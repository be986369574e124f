/** Matrix products. */
import { elements } from "../graph/dims.ts";
import { operator, ShapeError, type Tensor } from "../graph/tensor.ts";
import { broadcast, mul } from "./elementwise.ts";
import { reshape, transpose } from "./movement.ts";
import { sumTo } from "./reduce.ts";

const matmulOp = operator({
  type: "MatMul",
  infer: ([a, b]) => {
    const [p, q] = [a!.shape, b!.shape];
    if (p.length < 2 || q.length < 2) throw new ShapeError("expected matrices (2 axes or more)");
    if (p.at(-1) !== q.at(-2))
      throw new ShapeError(`expected ${p.at(-1)} rows on the right, found ${q.at(-2)}`);
    return [{ dtype: a!.dtype, shape: [...broadcast(p.slice(0, -2), q.slice(0, -2)), p.at(-2)!, q.at(-1)!] }];
  },
  gradient: ({ inputs: [a, b], grad, wants }) => {
    const shared = b!.shape.length === 2 && a!.shape.length > 2; // one matrix for the whole batch: one product
    return [
      wants(0) ? (isSwapped(a!) ? swap(matmul(b!, swap(grad))) : matmul(grad, swap(b!))) : null,
      wants(1) ? (shared ? matmul(transpose(rows(a!)), rows(grad)) : byRight(a!, b!, grad)) : null,
    ];
  },
});

/**
 * The gradient of a b with respect to b. Where b is a transpose, the gradient is summed before it is transposed back:
 * two transposes in a row cancel.
 */
const byRight = (a: Tensor, b: Tensor, grad: Tensor): Tensor =>
  isSwapped(b)
    ? swap(sumTo(matmul(swap(grad), a), [...b.shape.slice(0, -2), b.shape.at(-1)!, b.shape.at(-2)!]))
    : matmul(swap(a), grad);

/**
 * Whether the last two axes of a factor were swapped. Its gradient is swapped back, and the two cancel: the runtime's
 * product reads transposed factors.
 */
const isSwapped = ({ shape, source }: Tensor): boolean =>
  source.kind === "node" &&
  source.op.type === "Transpose" &&
  (source.attributes.perm as number[]).every((axis, i) => axis === swappedAxis(i, shape.length));

/** a b, batched over leading axes with broadcasting. */
export const matmul = (a: Tensor, b: Tensor): Tensor => matmulOp([a, b])[0]!;

/** The last two axes swapped. */
export function swap(x: Tensor): Tensor {
  return transpose(
    x,
    x.shape.map((_, i) => swappedAxis(i, x.shape.length)),
  );
}
const swappedAxis = (i: number, rank: number): number => (i < rank - 2 ? i : 2 * rank - 3 - i);

/** All leading axes flattened into one. */
const rows = (x: Tensor): Tensor => reshape(x, [elements(x.shape.slice(0, -1)), x.shape.at(-1)!]);

const gemmOp = operator({
  type: "Gemm",
  infer: ([a, b, c], { transA, transB }) => {
    const [m, k] = transA ? [a!.shape[1]!, a!.shape[0]!] : [a!.shape[0]!, a!.shape[1]!];
    const [rowsB, n] = transB ? [b!.shape[1]!, b!.shape[0]!] : [b!.shape[0]!, b!.shape[1]!];
    if (a!.shape.length !== 2 || b!.shape.length !== 2) throw new ShapeError("expected matrices");
    if (k !== rowsB) throw new ShapeError(`expected ${k} inputs, found a weight for ${rowsB}`);
    if (c) broadcast(c.shape, [m, n]);
    return [{ dtype: a!.dtype, shape: [m, n] }];
  },
  gradient: ({ inputs: [a, b, c], grad, attributes: { transA, transB, alpha }, wants }) => {
    const factor = (alpha as { float: number }).float;
    const g = factor === 1 ? grad : mul(grad, factor);
    const left = transB ? b! : transpose(b!); // [n, k]
    const right = transA ? transpose(a!) : a!; // [m, k]
    return [
      wants(0) ? (transA ? matmul(transpose(left), transpose(g)) : matmul(g, left)) : null,
      wants(1) ? (transB ? matmul(transpose(g), right) : matmul(transpose(right), g)) : null,
      ...(c ? [grad] : []),
    ];
  },
});

export interface GemmOptions {
  readonly transA?: boolean;
  readonly transB?: boolean;
  readonly alpha?: number;
}

/** alpha a b + c for matrices; c, if any, broadcasts to the result. */
export function gemm(a: Tensor, b: Tensor, c: Tensor | null, options: GemmOptions = {}): Tensor {
  const { transA = false, transB = false, alpha = 1 } = options;
  const attributes = { transA: transA ? 1 : 0, transB: transB ? 1 : 0, alpha: { float: alpha } };
  return gemmOp(c ? [a, b, c] : [a, b], attributes)[0]!;
}
