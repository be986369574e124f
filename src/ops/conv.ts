/**
 * Convolution [n, c, h, w] and its gradients with respect to input and weights, each in the form that is fastest for
 * its shape.
 */
import { type Attributes, constant, fixed, operator, ShapeError, type Tensor } from "../graph/tensor.ts";
import type { Dim } from "../spec.ts";
import { type Once, type Window, weightGradient } from "./conv-weights.ts";
import { matmul } from "./matmul.ts";
import { reshape, transpose } from "./movement.ts";

export interface ConvOptions {
  /** 1 by default. */
  readonly stride?: number;
  /** Zeros on each side; 0 by default. */
  readonly pad?: number;
  /** 1 by default. */
  readonly groups?: number;
  /** 1 by default. */
  readonly dilation?: number;
}

const convOp = operator({
  type: "Conv",
  infer: ([x, w], attributes) => {
    if (x!.shape.length !== 4 || w!.shape.length !== 4) throw new ShapeError("expected x and w with 4 axes");
    const { groups, stride, pad: p, dilation, kernel } = windowOf(attributes);
    const [n, c, height, width] = x!.shape;
    const [out, perGroup] = w!.shape as number[];
    if (c !== perGroup! * groups) {
      throw new ShapeError(`w has ${perGroup! * groups} input channels, x has ${c}`);
    }
    if (out! % groups !== 0)
      throw new ShapeError(`${out} output channels do not divide into ${groups} groups`);
    const size = (length: Dim | undefined, k: number) => {
      const positions =
        Math.floor((fixed(length, "height and width") + 2 * p - dilation * (k - 1) - 1) / stride) + 1;
      if (positions < 1) throw new ShapeError(`a kernel of ${k} does not fit into ${length} with pad ${p}`);
      return positions;
    };
    return [{ dtype: x!.dtype, shape: [n!, out!, size(height, kernel[0]), size(width, kernel[1])] }];
  },
  gradient: ({ inputs: [x, w], grad, attributes, wants, once }) => {
    const window = windowOf(attributes);
    return [
      wants(0) ? inputGradient(grad, x!, w!, window, once) : null,
      wants(1) ? weightGradient(grad, x!, w!, window, once) : null,
    ];
  },
});

/** x [n, c, h, w] with w [out, c / groups, kh, kw] -> [n, out, h', w']. */
export function conv(x: Tensor, w: Tensor, options: ConvOptions = {}): Tensor {
  const kernel = w.shape.slice(2) as [number, number];
  return convOp([x, w], attributesOf({ stride: 1, pad: 0, groups: 1, dilation: 1, ...options, kernel }))[0]!;
}

const attributesOf = ({ kernel, stride, pad: p, groups, dilation }: Window) => ({
  kernel_shape: kernel,
  strides: [stride, stride],
  pads: [p, p, p, p],
  dilations: [dilation, dilation],
  group: groups,
});

function windowOf(attributes: Attributes): Window {
  const list = (name: string) => attributes[name] as readonly number[];
  return {
    kernel: list("kernel_shape") as [number, number],
    stride: list("strides")[0]!,
    pad: list("pads")[0]!,
    dilation: list("dilations")[0]!,
    groups: attributes.group as number,
  };
}

/**
 * With stride 1, a convolution with the kernel rotated by 180 degrees and its channel axes swapped; that kernel is
 * shared by all chunks of a batch. Else a transposed convolution.
 */
function inputGradient(dy: Tensor, x: Tensor, w: Tensor, window: Window, once: Once): Tensor {
  const { kernel, stride, pad: p, groups, dilation } = window;
  const reach = dilation * (kernel[0] - 1) - p;
  if (stride === 1 && groups === 1 && kernel[0] === kernel[1] && reach >= 0) {
    const back = once(`back ${w.id}`, () => transpose(rotated(w), [1, 0, 2, 3])); // [c, out, kh, kw]
    return conv(dy, back, { pad: reach, dilation }); // [n, c, h, w]
  }
  return transposedConv(dy, w, window, x);
}

/**
 * The kernel rotated by 180 degrees, as a product with a matrix of zeros and ones: copying single values takes far
 * longer.
 */
function rotated(w: Tensor): Tensor {
  const [out, c, kh, kw] = w.shape as [number, number, number, number];
  const taps = kh * kw;
  if (taps === 1) return w;
  const mirror = new Float32Array(taps * taps);
  for (let i = 0; i < taps; i++) mirror[i * taps + (taps - 1 - i)] = 1;
  return reshape(matmul(reshape(w, [out * c, taps]), constant(mirror, [taps, taps])), w.shape);
}

const transposedOp = operator({
  type: "ConvTranspose",
  infer: ([dy, w], attributes) => {
    const { kernel, stride, pad: p, dilation, groups } = windowOf(attributes);
    const extra = attributes.output_padding as readonly number[];
    const size = (i: number) =>
      (fixed(dy!.shape[2 + i], "size") - 1) * stride + dilation * (kernel[i]! - 1) + 1 - 2 * p + extra[i]!;
    return [{ dtype: dy!.dtype, shape: [dy!.shape[0]!, (w!.shape[1] as number) * groups, size(0), size(1)] }];
  },
  gradient: { none: "made only by the rules of Conv and AveragePool" },
});

/** The gradient of conv(x, w) with respect to x: dy [n, out, h', w'] -> [n, c, h, w], the shape of x. */
export function transposedConv(dy: Tensor, w: Tensor, window: Window, x: Tensor): Tensor {
  const { kernel, stride, pad: p, dilation } = window;
  const extra = [0, 1].map((i) => {
    const covered = (fixed(dy.shape[2 + i], "size") - 1) * stride + dilation * (kernel[i]! - 1) + 1 - 2 * p;
    return fixed(x.shape[2 + i], "size") - covered;
  });
  return transposedOp([dy, w], { ...attributesOf(window), output_padding: extra })[0]!;
}
