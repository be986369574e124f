/** Convolution [n, c, h, w] and its two gradients, each in the form that its shape runs fastest in. */
import { multiplyDims } from "../graph/dims.ts";
import { type Attributes, fixed, operator, ShapeError, type Tensor } from "../graph/tensor.ts";
import type { Dim } from "../spec.ts";
import { matmul } from "./matmul.ts";
import { concat, pad, reshape, reverse, slice, transpose } from "./movement.ts";

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
type Window = Required<ConvOptions> & { readonly kernel: readonly [number, number] };

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
  gradient: ({ inputs: [x, w], grad, attributes, wants }) => {
    const window = windowOf(attributes);
    return [
      wants(0) ? inputGradient(grad, x!, w!, window) : null,
      wants(1) ? weightGradient(grad, x!, w!, window) : null,
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

/** Stride 1: a convolution with the turned kernel, its channel axes swapped. Else a transposed convolution. */
function inputGradient(dy: Tensor, x: Tensor, w: Tensor, window: Window): Tensor {
  const { kernel, stride, pad: p, groups, dilation } = window;
  const reach = dilation * (kernel[0] - 1) - p;
  if (stride === 1 && groups === 1 && kernel[0] === kernel[1] && reach >= 0) {
    const turned = kernel[0] === 1 ? w : reverse(w, [2, 3]);
    return conv(dy, transpose(turned, [1, 0, 2, 3]), { pad: reach, dilation }); // [n, c, h, w]
  }
  return transposedConv(dy, w, window, x);
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

/** What conv(x, w) takes from, given what it gave: dy [n, out, h', w'] -> [n, c, h, w] as x has it. */
export function transposedConv(dy: Tensor, w: Tensor, window: Window, x: Tensor): Tensor {
  const { kernel, stride, pad: p, dilation } = window;
  const extra = [0, 1].map((i) => {
    const covered = (fixed(dy.shape[2 + i], "size") - 1) * stride + dilation * (kernel[i]! - 1) + 1 - 2 * p;
    return fixed(x.shape[2 + i], "size") - covered;
  });
  return transposedOp([dy, w], { ...attributesOf(window), output_padding: extra })[0]!;
}

function weightGradient(dy: Tensor, x: Tensor, w: Tensor, window: Window): Tensor {
  const form = window.stride === 1 && window.groups === 1 ? shiftedProduct : tapProducts;
  return form(dy, x, w, window);
}

/**
 * All taps in one matrix product. Tap (r, s) pairs dy at column j with x at row i + r and column j + s; so shift x by
 * rows and dy by columns, once for each r and s: the product of [kw out, n h' w] and [n h' w, kh c] holds every tap.
 */
function shiftedProduct(dy: Tensor, x: Tensor, _w: Tensor, { kernel, pad: p, dilation }: Window): Tensor {
  const [n, out, outHeight] = dy.shape as [Dim, number, number];
  const [, c, , width] = x.shape as [Dim, number, number, number];
  const rows = (t: Tensor) => transpose(t, [1, 0, 2, 3]); // channels first: [channels, n, ...]
  const shifts = (t: Tensor, count: number, axis: number, size: number, first: (tap: number) => number) =>
    Array.from({ length: count }, (_, tap) => {
      const before = first(tap);
      const after = size - (t.shape[axis] as number) - before;
      const on = (amount: number) => t.shape.map((_, i) => (i === axis ? amount : 0));
      return pad(t, on(before), on(after));
    });
  const byColumn = shifts(rows(dy), kernel[1], 3, width, (s) => s * dilation - p); // [out, n, h', w] each
  const byRow = shifts(rows(x), kernel[0], 2, outHeight, (r) => p - r * dilation); // [c, n, h', w] each
  const positions = multiplyDims(n, outHeight * width);
  const left = reshape(concat(byColumn, 0), [kernel[1] * out, positions]); // [kw out, n h' w]
  const right = reshape(concat(byRow, 0), [kernel[0] * c, positions]); // [kh c, n h' w]
  const taps = reshape(matmul(left, transpose(right)), [kernel[1], out, kernel[0], c]);
  return transpose(taps, [1, 3, 2, 0]); // [out, c, kh, kw]
}

/** Each tap is the product of dy, [out, n h' w'], with the values that it saw, [n h' w', c]: slices of x. */
function tapProducts(
  dy: Tensor,
  x: Tensor,
  w: Tensor,
  { kernel, stride, pad: p, groups, dilation }: Window,
): Tensor {
  const [n, out, height, width] = dy.shape as [Dim, number, number, number];
  const perGroup = w.shape[1] as number;
  const positions = multiplyDims(n, height * width);
  const rows = transpose(dy, [1, 0, 2, 3]); // [out, n, h', w']
  const left = reshape(rows, groups === 1 ? [out, positions] : [groups, out / groups, positions]);
  const last = pad(transpose(x, [0, 2, 3, 1]), [0, p, p, 0], [0, p, p, 0]); // [n, h + 2p, w + 2p, c]
  const ends = (at: number, count: number) =>
    [at * dilation, at * dilation + (count - 1) * stride + 1, stride] as const;
  const products = Array.from({ length: kernel[0] * kernel[1] }, (_, i) => {
    const [row, column] = [Math.floor(i / kernel[1]), i % kernel[1]];
    const tap = slice(last, { 1: ends(row, height), 2: ends(column, width) }); // [n, h', w', c]
    const right =
      groups === 1
        ? reshape(tap, [positions, perGroup])
        : transpose(reshape(tap, [positions, groups, perGroup]), [1, 0, 2]); // [groups, n h' w', c / groups]
    return reshape(matmul(left, right), [out, perGroup, 1]);
  });
  return reshape(concat(products, 2), w.shape); // [out, c / groups, kh, kw]
}
