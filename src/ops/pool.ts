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
import { transposedConv } from "./conv.ts";
import { div, mul } from "./elementwise.ts";
import { scatterFlat } from "./indexing.ts";
import { expand, reshape } from "./movement.ts";

export interface PoolOptions {
  readonly kernel: number;
  /** The kernel's size by default. */
  readonly stride?: number;
  /** On each side; 0 by default. */
  readonly pad?: number;
}

function pooled(x: Tensor, attributes: Attributes): TensorType {
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
  infer: ([x], attributes) => {
    const y = pooled(x!, attributes);
    return [y, { dtype: "int64", shape: y.shape }];
  },
  // The second output holds the index of each maximum in the flat input.
  gradient: ({ inputs: [x], outputs: [, places], grad }) => [scatterFlat(x!, places!, grad)],
});

/** The greatest value of each window; of equal ones the first gets the gradient. */
export const maxPool = (x: Tensor, options: PoolOptions): Tensor => maxOp([x], attributesOf(options))[0]!;

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
