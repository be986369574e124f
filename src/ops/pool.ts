/** Pooling over height and width of [n, c, h, w]. */
import { multiplyDims } from "../graph/dims.ts";
import {
  type Attributes,
  constant,
  fixed,
  operator,
  ShapeError,
  type Tensor,
  type TensorType,
} from "../graph/tensor.ts";
import type { Dim } from "../spec.ts";
import { conv, transposedConv } from "./conv.ts";
import { div, equal, mul } from "./elementwise.ts";
import { cast, expand, reshape } from "./movement.ts";
import { reduceMax } from "./reduce.ts";
import { target } from "./target.ts";

export interface PoolOptions {
  readonly kernel: number;
  /** The kernel's size by default. */
  readonly stride?: number;
  /** On each side; 0 by default. */
  readonly pad?: number;
}

/** What pooling makes of x. */
export function pooled(x: Tensor, attributes: Attributes): TensorType {
  if (x.shape.length !== 4) throw new ShapeError("expected x with 4 axes");
  const [kernel, stride, pad] = ["kernel_shape", "strides", "pads"].map(
    (k) => (attributes[k] as number[])[0]!,
  );
  if (pad! >= kernel!) throw new ShapeError(`expected a pad below the kernel's ${kernel}, found ${pad}`);
  const [n, c, ...space] = x.shape;
  const sizes = space.map(
    (s) => Math.floor((fixed(s, "height and width") + 2 * pad! - kernel!) / stride!) + 1,
  );
  if (sizes.some((s) => s < 1)) throw new ShapeError(`a window of ${kernel} does not fit`);
  return { dtype: x.dtype, shape: [n!, c!, ...sizes] };
}

const attributesOf = ({ kernel, stride = kernel, pad = 0 }: PoolOptions) => ({
  kernel_shape: [kernel, kernel],
  strides: [stride, stride],
  pads: [pad, pad, pad, pad],
});

const maxOp = operator({
  type: "MaxPool",
  infer: ([x], attributes) => [pooled(x!, attributes)],
  gradient: ({ inputs: [x], outputs: [y], grad, attributes }) => [maxGradient(x!, y!, grad, attributes)],
});

/** The greatest value of each window; of equal ones the first gets the gradient. */
export function maxPool(x: Tensor, options: PoolOptions): Tensor {
  const attributes = attributesOf(options);
  return target().maxPool?.(x, attributes) ?? maxOp([x], attributes)[0]!;
}

/**
 * The gradient of y = max(x) with respect to x, by comparisons: not every runtime tells which value was the greatest. A
 * convolution with a kernel for each place of the window takes its values apart, its gradient puts together what they get.
 */
function maxGradient(x: Tensor, y: Tensor, grad: Tensor, attributes: Attributes): Tensor {
  const [kernel, stride, pad] = ["kernel_shape", "strides", "pads"].map(
    (k) => (attributes[k] as number[])[0]!,
  ) as [number, number, number];
  const [n, c, height, width] = x.shape as [Dim, Dim, number, number];
  const [outHeight, outWidth] = y.shape.slice(2) as [number, number];
  const [images, places, outputs] = [multiplyDims(n, c), kernel ** 2, outHeight * outWidth];
  const each = constant(
    Float32Array.from({ length: places ** 2 }, (_, i) => (i % (places + 1) === 0 ? 1 : 0)),
    [places, 1, kernel, kernel],
  );
  // From the number of places for a window's first to 1 for its last, and 0 outside of the image.
  const rank = (i: number) => {
    const [place, at] = [Math.floor(i / outputs), i % outputs];
    const row = Math.floor(at / outWidth) * stride - pad + Math.floor(place / kernel);
    const column = (at % outWidth) * stride - pad + (place % kernel);
    return row >= 0 && row < height && column >= 0 && column < width ? places - place : 0;
  };
  const ranks = constant(
    Float32Array.from({ length: places * outputs }, (_, i) => rank(i)),
    [1, places, outHeight, outWidth],
  );
  const single = reshape(x, [images, 1, height, width]); // [n c, 1, h, w]
  const [greatest, wanted] = [y, grad].map((t) => reshape(t, [images, 1, outHeight, outWidth])) as [
    Tensor,
    Tensor,
  ]; // [n c, 1, h', w']
  const values = conv(single, each, { stride, pad }); // [n c, places, h', w']
  const found = mul(cast(equal(values, greatest), "float32"), ranks); // as values
  const first = cast(equal(found, reduceMax(found, { axes: [1], keep: true })), "float32"); // as values
  const window = { kernel: [kernel, kernel] as const, stride, pad, groups: 1, dilation: 1 };
  return reshape(transposedConv(mul(first, wanted), each, window, single), x.shape, x); // as x
}

const averageOp = operator({
  type: "AveragePool",
  infer: ([x], attributes) => [pooled(x!, attributes)],
  gradient: ({ inputs: [x], grad, attributes }) => {
    const [kernel, stride, pad] = ["kernel_shape", "strides", "pads"].map(
      (k) => (attributes[k] as number[])[0]!,
    );
    const [n, c, height, width] = x!.shape as [never, number, number, number];
    const [, , outHeight, outWidth] = grad.shape as [never, never, number, number];
    const images = multiplyDims(n, c);
    const inside = (at: number, size: number) =>
      Math.min(at * stride! - pad! + kernel!, size) - Math.max(at * stride! - pad!, 0);
    const counts = Float32Array.from(
      { length: outHeight * outWidth },
      (_, i) => inside(Math.floor(i / outWidth), height) * inside(i % outWidth, width),
    );
    const shares = div(grad, constant(counts, [1, 1, outHeight, outWidth]));
    const ones = constant(new Float32Array(kernel! * kernel!).fill(1), [1, 1, kernel!, kernel!]);
    const window = {
      kernel: [kernel!, kernel!] as const,
      stride: stride!,
      pad: pad!,
      groups: 1,
      dilation: 1,
    };
    const single = reshape(x!, [images, 1, height, width]);
    const back = transposedConv(reshape(shares, [images, 1, outHeight, outWidth]), ones, window, single);
    return [reshape(back, x!.shape, x!)];
  },
});

/** The mean of each window, over what lies inside the image. */
export const averagePool = (x: Tensor, options: PoolOptions): Tensor =>
  averageOp([x], { ...attributesOf(options), count_include_pad: 0 })[0]!;

const globalOp = operator({
  type: "GlobalAveragePool",
  infer: ([x]) => {
    if (x!.shape.length !== 4) throw new ShapeError("expected x with 4 axes");
    return [{ dtype: x!.dtype, shape: [x!.shape[0]!, x!.shape[1]!, 1, 1] }];
  },
  gradient: ({ inputs: [x], grad }) => {
    const area = fixed(x!.shape[2], "height") * fixed(x!.shape[3], "width");
    return [expand(mul(grad, 1 / area), x!.shape, x!)];
  },
});

/** [n, c, h, w] -> [n, c]. */
export const globalAveragePool = (x: Tensor): Tensor => reshape(globalOp([x])[0]!, x.shape.slice(0, 2), x);
