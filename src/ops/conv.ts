/** Convolution [n, c, h, w] and its gradients with respect to input and weights, which are convolutions as well. */
import { multiplyDims } from "../graph/dims.ts";
import { WEIGHT_GRADIENT } from "../graph/notes.ts";
import { type Attributes, fixed, operator, ShapeError, type Tensor } from "../graph/tensor.ts";
import type { Dim } from "../spec.ts";
import { reshape, slice, transpose } from "./movement.ts";
import { target } from "./target.ts";

/** How a kernel moves over a feature map, the same in both directions. */
export interface Window {
  readonly kernel: readonly [number, number];
  readonly stride: number;
  /** Zeros on each side. */
  readonly pad: number;
  readonly groups: number;
  readonly dilation: number;
}

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
    const { inputGradient, weightGradient = convolvedGradient } = target();
    const ofInput = () => inputGradient?.(grad, x!, w!, window, once) ?? transposedConv(grad, w!, window, x!);
    return [wants(0) ? ofInput() : null, wants(1) ? weightGradient(grad, x!, w!, window, once) : null];
  },
});

/** x [n, c, h, w] with w [out, c / groups, kh, kw] -> [n, out, h', w']. */
export function conv(x: Tensor, w: Tensor, options: ConvOptions = {}): Tensor {
  const kernel = w.shape.slice(2) as [number, number];
  return convOp([x, w], attributesOf({ stride: 1, pad: 0, groups: 1, dilation: 1, ...options, kernel }))[0]!;
}

const standingOp = operator({
  type: "Identity",
  name: WEIGHT_GRADIENT,
  taken: 1,
  noted: true,
  infer: ([dw]) => [dw!],
  gradient: { none: "made only by the rule of Conv" },
});

/** A gradient with respect to w, with a note that tells what it is computed of. */
export const noted = (dw: Tensor, x: Tensor, dy: Tensor, window: Window): Tensor =>
  standingOp([dw, x, dy], attributesOf(window))[0]!;

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

const ofWeightsOp = operator({
  type: "Conv",
  name: "ConvOfWeights",
  infer: ([x, dy], { strides, dilations, pads }) => {
    const size = (axis: number) => {
      const [stride] = strides as readonly [number];
      const [step] = dilations as readonly [number];
      const [p] = pads as readonly [number];
      const covered = step * (fixed(dy!.shape[axis], "size") - 1) + 1;
      return Math.floor((fixed(x!.shape[axis], "size") + 2 * p - covered) / stride) + 1;
    };
    return [{ dtype: x!.dtype, shape: [x!.shape[0]!, dy!.shape[0]!, size(2), size(3)] }];
  },
  gradient: { none: "made only by the rule of Conv" },
});

/**
 * The gradient of conv(x, w) with respect to w, dy [n, out, h', w'] -> [out, c / groups, kh, kw]: a convolution of x by dy,
 * where the batch is what is summed over.
 */
function convolvedGradient(dy: Tensor, x: Tensor, _: Tensor, window: Window): Tensor {
  const { kernel, stride, pad: p, groups, dilation } = window;
  const [n, c, height, width] = x.shape as [Dim, number, number, number];
  const perGroup = c / groups;
  const apart = transpose(reshape(x, [n, groups, perGroup, height, width]), [2, 1, 0, 3, 4]); // [c / g, g, n, h, w]
  const summed = reshape(apart, [perGroup, multiplyDims(groups, n), height, width]); // [c / g, g n, h, w]
  const settings = {
    kernel: dy.shape.slice(2) as [number, number],
    stride: dilation,
    dilation: stride,
    pad: p,
    groups,
  };
  const [made] = ofWeightsOp([summed, transpose(dy, [1, 0, 2, 3])], attributesOf(settings)); // [c / g, out, >= kh, >= kw]
  // Where the stride does not divide the map, its last rows and columns give taps that the kernel does not have.
  return transpose(slice(made!, { 2: [0, kernel[0]], 3: [0, kernel[1]] }), [1, 0, 2, 3]);
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
