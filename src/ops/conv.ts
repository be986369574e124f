/** Convolution [n, c, h, w] and its two gradients, each in the form that its shape runs fastest in. */
import { multiplyDims } from "../graph/dims.ts";
import { type Attributes, constant, fixed, operator, ShapeError, type Tensor } from "../graph/tensor.ts";
import type { Dim } from "../spec.ts";
import { matmul } from "./matmul.ts";
import { chunk, concat, pad, reshape, slice, transpose } from "./movement.ts";
import { subsample } from "./subsample.ts";

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
    return conv(dy, transpose(turned(w), [1, 0, 2, 3]), { pad: reach, dilation }); // [n, c, h, w]
  }
  return transposedConv(dy, w, window, x);
}

/** The kernel turned by half a circle, by a matrix of zeros and ones: copying value by value takes far longer. */
function turned(w: Tensor): Tensor {
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
  const { groups, stride, kernel, pad: p } = window;
  if (groups > 1) return tapProducts(dy, x, w, window);
  if (kernel[0] * kernel[1] === 1 && p === 0) return pointProduct(dy, subsample(x, stride), w);
  if ([2, 3].some((axis) => (x.shape[axis] as number) % stride !== 0)) return tapProducts(dy, x, w, window);
  return (x.shape[1] as number) <= FEW ? patchProduct(dy, x, w, window) : shiftedProducts(dy, x, w, window);
}

/** Rows of all values of a channel: [n, c, h, w] -> [c, n h w]. */
function byChannel(x: Tensor): Tensor {
  const [n, c, height, width] = x.shape as [Dim, number, number, number];
  return reshape(transpose(x, [1, 0, 2, 3]), [c, multiplyDims(n, height * width)]);
}

/** Of a 1x1 convolution with x as its outputs lie: [out, c, 1, 1]. */
const pointProduct = (dy: Tensor, x: Tensor, w: Tensor): Tensor =>
  reshape(matmul(byChannel(dy), transpose(byChannel(x))), w.shape);

/** With up to this many input channels, as images have, each tap of x is a part of one matrix. */
const FEW = 4;

/** dy times all patches of x. Columns are taken by matrices of zeros and ones, which leaves whole rows to be moved. */
function patchProduct(dy: Tensor, x: Tensor, w: Tensor, window: Window): Tensor {
  const { stride } = window;
  const [n, out, outHeight, outWidth] = dy.shape as [Dim, number, number, number];
  const [, c, height, width] = x.shape as [Dim, number, number, number];
  const [kh, kw] = w.shape.slice(2) as [number, number];
  const lines = reshape(transpose(x, [1, 0, 2, 3]), [1, multiplyDims(n, c * height), width]); // [1, c n h, w]
  const offsets = Array.from({ length: kw }, (_, s) => offsetOf(s, window));
  const columns = matmul(lines, columnMatrices(offsets, width, outWidth, stride)); // [kw, c n h, w']
  const cells = reshape(columns, [kw * c, n, height / stride, stride, outWidth], x);
  const phases = chunk(transpose(cells, [3, 0, 1, 2, 4]), 0, stride); // [1, kw c, n, h / stride, w'] each
  const rows = Array.from({ length: kh }, (_, r) => {
    const { remainder, shift } = tapAt(r, window);
    return shifted(phases[remainder]!, 3, shift, outHeight); // [1, kw c, n, h', w']
  });
  const patches = reshape(concat(rows, 0), [kh * kw * c, multiplyDims(n, outHeight * outWidth)]);
  const product = matmul(byChannel(dy), transpose(patches)); // [out, kh kw c]
  return transpose(reshape(product, [out, kh, kw, c]), [0, 3, 1, 2]); // [out, c, kh, kw]
}

/** Where a tap's rows or columns begin in x, which may be before its first. */
const offsetOf = (at: number, { dilation, pad: p }: Window): number => at * dilation - p;

/** The same as stride * shift + remainder. */
function tapAt(at: number, window: Window): { shift: number; remainder: number } {
  const offset = offsetOf(at, window);
  const shift = Math.floor(offset / window.stride);
  return { shift, remainder: offset - window.stride * shift };
}

/** t[i + by] for i below `size` along an axis, zeros from outside. */
function shifted(t: Tensor, axis: number, by: number, size: number): Tensor {
  const on = (amount: number) => t.shape.map((_, i) => (i === axis ? amount : 0));
  return pad(t, on(-by), on(size - (t.shape[axis] as number) + by));
}

/** Maps up to this wide, and strides, are taken with the batch as last axis, in long runs; other rows are long. */
const NARROW = 16;

/**
 * Tap (r, s) pairs dy at (i, j) with x at row stride i + r and column stride j + s: shift x by rows, and dy by columns,
 * once for each r and each s; the product of all column shifts of dy, one upon the other, with all row shifts of x holds
 * every tap. A stride splits x by the remainders of rows and columns first.
 */
function shiftedProducts(dy: Tensor, x: Tensor, w: Tensor, window: Window): Tensor {
  const { stride } = window;
  const [n, out, outHeight, outWidth] = dy.shape as [Dim, number, number, number];
  const [, c, , width] = x.shape as [Dim, number, number, number];
  const [kh, kw] = w.shape.slice(2) as [number, number];
  const columns = width / stride;
  const batchLast = outWidth <= NARROW || stride > 1;
  const [rowAxis, columnAxis] = batchLast ? [1, 2] : [2, 3];
  const positions = multiplyDims(n, outHeight * columns);
  const order = batchLast ? [1, 2, 3, 0] : [1, 0, 2, 3];
  const gradient = transpose(dy, order); // [out, h', w', n] or [out, n, h', w']
  const phases = stride === 1 ? [transpose(x, order)] : byRemainder(x, stride); // as the gradient, of c
  const products: Tensor[] = []; // [taps, out, kh, c] each, for columns of one remainder
  const places: number[] = []; // of those columns
  for (let b = 0; b < stride; b++) {
    const mine = Array.from({ length: kw }, (_, s) => s).filter((s) => tapAt(s, window).remainder === b);
    if (mine.length === 0) continue;
    const shifts = mine.map((s) => tapAt(s, window).shift);
    const byColumn = batchLast
      ? concat(
          shifts.map((by) => shifted(gradient, columnAxis, -by, columns)),
          0,
        ) // [taps out, h', columns, n]
      : matmul(
          reshape(gradient, [1, multiplyDims(n, out * outHeight), outWidth]),
          columnMatrices(
            shifts.map((by) => -by),
            outWidth,
            columns,
          ),
        ); // [taps, out n h', columns]
    const left = reshape(byColumn, [mine.length * out, positions]); // [taps out, n h' columns]
    const rows = Array.from({ length: kh }, (_, r) => {
      const { remainder: a, shift } = tapAt(r, window);
      return shifted(phases[a * stride + b]!, rowAxis, shift, outHeight); // [c, n, h', columns], or batch last
    });
    const right = reshape(concat(rows, 0), [kh * c, positions]); // [kh c, n h' columns]
    products.push(reshape(matmul(left, transpose(right)), [mine.length, out, kh, c]));
    places.push(...mine);
  }
  const columnwise = inOrder(products, places); // [kw, out, kh, c]
  return transpose(columnwise, [1, 3, 2, 0]); // [out, c, kh, kw]
}

/** Rows of parts, one after the other, put where `places` says that each belongs. */
function inOrder(parts: readonly Tensor[], places: readonly number[]): Tensor {
  if (parts.length === 1) return parts[0]!;
  const single = parts.flatMap((part) => chunk(part, 0, part.shape[0] as number));
  return concat(
    places.map((_, place) => single[places.indexOf(place)]!),
    0,
  );
}

/**
 * Matrices [offsets, width, columns] that take columns stride j + offset of rows, zeros from outside: faster than to copy
 * parts of rows.
 */
function columnMatrices(offsets: readonly number[], width: number, columns: number, stride = 1): Tensor {
  const data = new Float32Array(offsets.length * width * columns);
  offsets.forEach((offset, k) => {
    for (let j = 0; j < columns; j++) {
      const from = stride * j + offset;
      if (from >= 0 && from < width) data[(k * width + from) * columns + j] = 1;
    }
  });
  return constant(data, [offsets.length, width, columns]);
}

/** Every stride-th row and column from each remainder, at row remainder * stride + column remainder; batch last. */
function byRemainder(x: Tensor, stride: number): readonly Tensor[] {
  const [n, c, height, width] = x.shape as [Dim, number, number, number];
  // In two steps, for then whole batches are moved: taking values one by one from the rows takes far longer.
  const last = transpose(x, [1, 2, 3, 0]); // [c, h, w, n]
  const cells = reshape(last, [c, height / stride, stride, width / stride, stride, n], x);
  const split = transpose(cells, [2, 4, 0, 1, 3, 5]); // [stride, stride, c, h / stride, w / stride, n]
  return chunk(reshape(split, [stride * stride * c, ...split.shape.slice(3)], x), 0, stride * stride);
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
