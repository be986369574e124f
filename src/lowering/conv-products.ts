/**
 * Gradients of a convolution in the forms that are fastest for their shapes. That with respect to the weights is a matrix
 * product of dy, the gradient with respect to the outputs, with the inputs that a tap of the kernel sees.
 */
import { elements, multiplyDims, showShape } from "../graph/dims.ts";
import { constant, type Tensor } from "../graph/tensor.ts";
import { conv, type Window } from "../ops/conv.ts";
import { add, mul } from "../ops/elementwise.ts";
import { gather } from "../ops/indexing.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { cast, chunk, concat, expand, pad, reshape, slice, transpose } from "../ops/movement.ts";
import { reduceSum } from "../ops/reduce.ts";
import { indicesAlong } from "../ops/shape.ts";
import { subsample } from "../ops/subsample.ts";
import type { Once } from "../ops/target.ts";
import type { Dim } from "../spec.ts";

/**
 * dy [n, out, h', w'] -> as x, with stride 1: a convolution with the kernel rotated by 180 degrees and its channel axes
 * swapped. That kernel is shared by all chunks of a batch. Undefined where the plain form, a transposed convolution, is as
 * fast.
 */
export function inputGradient(
  dy: Tensor,
  _: Tensor,
  w: Tensor,
  window: Window,
  once: Once,
): Tensor | undefined {
  const { kernel, stride, pad: p, groups, dilation } = window;
  const reach = dilation * (kernel[0] - 1) - p;
  if (stride !== 1 || groups !== 1 || kernel[0] !== kernel[1] || reach < 0) return undefined;
  const back = once(`back ${w.id}`, () => transpose(rotated(w), [1, 0, 2, 3])); // [c, out, kh, kw]
  return conv(dy, back, { pad: reach, dilation }); // [n, c, h, w]
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

/** dy [n, out, h', w'] and x [n, c, h, w] -> [out, c / groups, kh, kw]; `w` has that shape. */
export function weightGradient(dy: Tensor, x: Tensor, w: Tensor, window: Window, once: Once): Tensor {
  const { groups, stride, kernel, pad: p } = window;
  if (groups > 1) return tapProducts(dy, x, w, window);
  if (kernel[0] * kernel[1] === 1 && p === 0) return pointProduct(dy, subsample(x, stride), w);
  if ([2, 3].some((axis) => (x.shape[axis] as number) % stride !== 0)) return tapProducts(dy, x, w, window);
  if ((x.shape[1] as number) <= FEW) return patchProduct(dy, x, w, window, once);
  return (dy.shape[3] as number) <= NARROW || stride > 1
    ? batchLastProducts(dy, x, w, window, once)
    : shiftedProduct(dy, x, w, window, once);
}

/** Rows of all values of a channel: [n, c, h, w] -> [c, n h w]. */
function byChannel(x: Tensor): Tensor {
  const [n, c, height, width] = x.shape as [Dim, number, number, number];
  return reshape(transpose(x, [1, 0, 2, 3]), [c, multiplyDims(n, height * width)]);
}

/** Of a 1x1 convolution, where x has the height and width of the outputs: [out, c, 1, 1]. */
const pointProduct = (dy: Tensor, x: Tensor, w: Tensor): Tensor =>
  reshape(matmul(byChannel(dy), transpose(byChannel(x))), w.shape);

/** Up to this many input channels, as images have, all patches of x are one matrix. */
const FEW = 4;
/**
 * Feature maps up to this wide, and strided ones, are taken with the batch as last axis, so that long runs are
 * copied. Rows of wider ones are long enough.
 */
const NARROW = 16;

/** dy times all patches of x, image by image: a thread reads what it wrote, and nothing is transposed. */
function patchProduct(dy: Tensor, x: Tensor, w: Tensor, window: Window, once: Once): Tensor {
  const [n, out, outHeight, outWidth] = dy.shape as [Dim, number, number, number];
  const [, c, height] = x.shape as [Dim, number, number];
  const [kh, kw] = w.shape.slice(2) as [number, number];
  const offsets = Array.from({ length: kw }, (_, s) => offsetOf(s, window));
  const columns = columnsAt(x, offsets, outWidth, window.stride); // [n, kw, c h, w']
  const rows = rowTaps(kh, outHeight, height, window); // [kh][h']
  const patches = reshape(rowsAt(columns, kw * c, rows, once), [n, kh * kw * c, outHeight * outWidth]); // [n, kh kw c, h' w']
  const each = matmul(reshape(dy, [n, out, outHeight * outWidth]), swap(patches)); // [n, out, kh kw c]
  const product = reduceSum(each, { axes: [0] }); // [out, kh kw c]
  return transpose(reshape(product, [out, kh, kw, c]), [0, 3, 1, 2]); // [out, c, kh, kw]
}

/**
 * Tap (r, s) pairs dy at (i, j) with x at (i + r, j + s). x is shifted by rows, once for each r, and dy by columns,
 * once for each s. The product of all shifted copies of dy with all shifted copies of x holds every tap. Image by
 * image, as above.
 */
function shiftedProduct(dy: Tensor, x: Tensor, w: Tensor, window: Window, once: Once): Tensor {
  const [n, out, outHeight] = dy.shape as [Dim, number, number];
  const [, c, height, width] = x.shape as [Dim, number, number, number];
  const [kh, kw] = w.shape.slice(2) as [number, number];
  const shifts = Array.from({ length: kw }, (_, s) => -offsetOf(s, window));
  const left = reshape(columnsAt(dy, shifts, width), [n, kw * out, outHeight * width]); // [n, kw out, h' w]
  const rows = rowTaps(kh, outHeight, height, window); // [kh][h']
  const right = reshape(rowsAt(x, c, rows, once), [n, kh * c, outHeight * width]); // [n, kh c, h' w]
  const product = reduceSum(matmul(left, swap(right)), { axes: [0] }); // [kw out, kh c]
  return transpose(reshape(product, [kw, out, kh, c]), [1, 3, 2, 0]); // [out, c, kh, kw]
}

/**
 * The same with the batch as last axis. With a stride, the columns of x are grouped by their remainder, with a
 * product for each group.
 */
function batchLastProducts(dy: Tensor, x: Tensor, w: Tensor, window: Window, once: Once): Tensor {
  const { stride } = window;
  const [n, out, outHeight, outWidth] = dy.shape as [Dim, number, number, number];
  const [, c, height, width] = x.shape as [Dim, number, number, number];
  const [kh, kw] = w.shape.slice(2) as [number, number];
  const columns = width / stride;
  const positions = multiplyDims(n, outHeight * columns);
  const values = (t: Tensor) => {
    const last = transpose(t, [1, 2, 3, 0]); // [channels, height, width, n]
    return withZeros(reshape(last, [elements(t.shape.slice(1)), n])); // [1 + channels height width, n]
  };
  const [ofGradient, ofInput] = [values(dy), values(x)];
  const rows = rowTaps(kh, outHeight, height, window).map((line) =>
    line.map((i) => (i === OUTSIDE ? i : i * width)),
  );
  const products: Tensor[] = []; // [taps, out, kh, c] each, for the columns of one remainder
  const places: number[] = []; // which columns of the kernel those taps are
  for (let b = 0; b < stride; b++) {
    const mine = Array.from({ length: kw }, (_, s) => s).filter((s) => tapAt(s, window).remainder === b);
    if (mine.length === 0) continue;
    const shifts = mine.map((s) =>
      Array.from({ length: columns }, (_, j) => within(j - tapAt(s, window).shift, outWidth)),
    );
    const leftPlaces = once(`columns ${showShape(dy.shape)} ${shifts}`, () => {
      const first = multiples(out * outHeight, outWidth, [1, out, outHeight, 1]);
      return placesOf(first, shifts, [mine.length, 1, 1, columns]); // [taps, out, h', columns]
    });
    const rightPlaces = once(`cells ${showShape(x.shape)} ${stride} ${b} ${rows}`, () => {
      const cells = Array.from({ length: columns }, (_, j) => stride * j + b);
      const first = add(multiples(c, height * width, [1, c, 1, 1]), int32(cells)); // [1, c, 1, columns]
      return placesOf(first, rows, [kh, 1, outHeight, 1]); // [kh, c, h', columns]
    });
    const left = reshape(gather(ofGradient, leftPlaces), [mine.length * out, positions]); // [taps out, h' columns n]
    const right = reshape(gather(ofInput, rightPlaces), [kh * c, positions]); // [kh c, h' columns n]
    products.push(reshape(matmul(left, transpose(right)), [mine.length, out, kh, c]));
    places.push(...mine);
  }
  const columnwise = inOrder(products, places); // [kw, out, kh, c]
  return transpose(columnwise, [1, 3, 2, 0]); // [out, c, kh, kw]
}

/** The first row or column of x that a tap sees; negative in the padding. */
const offsetOf = (at: number, { dilation, pad: p }: Window): number => at * dilation - p;

/** The same number as stride * shift + remainder. */
function tapAt(at: number, window: Window): { shift: number; remainder: number } {
  const offset = offsetOf(at, window);
  const shift = Math.floor(offset / window.stride);
  return { shift, remainder: offset - window.stride * shift };
}

const within = (at: number, size: number): number => (at < size ? Math.max(at, OUTSIDE) : OUTSIDE);
const OUTSIDE = -1;

/** The row of x that each tap sees at each row of outputs, or OUTSIDE. */
const rowTaps = (kh: number, outHeight: number, height: number, window: Window): number[][] =>
  Array.from({ length: kh }, (_, r) =>
    Array.from({ length: outHeight }, (_, i) => within(window.stride * i + offsetOf(r, window), height)),
  );

const int32 = (values: readonly number[], shape: readonly number[] = [values.length]): Tensor =>
  constant(Int32Array.from(values), shape);
/** 0, step, 2 step, ... */
const multiples = (count: number, step: number, shape: readonly number[]): Tensor =>
  int32(
    Array.from({ length: count }, (_, i) => i * step),
    shape,
  );

/**
 * Indices of lines that come after a line of zeros (`withZeros`): of line `at` in the block that begins with line
 * `first`, or of the line of zeros where `at` is OUTSIDE. Both broadcast. Computed when the graph runs, because they
 * are many.
 */
function placesOf(first: Tensor, at: readonly (readonly number[])[], shape: readonly number[]): Tensor {
  const flat = at.flat();
  const inside = int32(
    flat.map((i) => (i === OUTSIDE ? 0 : 1)),
    shape,
  );
  return add(
    mul(first, inside),
    int32(
      flat.map((i) => i + 1),
      shape,
    ),
  );
}

/** Lines [count, m] with a line of zeros before them. */
function withZeros(lines: Tensor): Tensor {
  const zeros = expand(constant(new Float32Array(1), [1, 1]), [1, lines.shape[1]!], lines); // [1, m]
  return concat([zeros, lines], 0); // [1 + count, m]
}

/**
 * The rows that each tap sees, of x [n, ..., w] with so many feature maps an image -> [n, taps, maps, h', w]. One
 * pass shifts and stacks them.
 */
function rowsAt(x: Tensor, maps: number, rows: readonly (readonly number[])[], once: Once): Tensor {
  const n = x.shape[0]!;
  const width = x.shape.at(-1)!;
  const count = elements(x.shape.slice(1, -1)) as number; // rows of an image
  const [taps, outHeight] = [rows.length, rows[0]!.length];
  const places = once(`rows ${showShape(x.shape)} ${maps} ${rows}`, () => {
    const image = mul(cast(indicesAlong(x, 0), "int32"), int32([count])); // [n]
    const first = add(reshape(image, [n, 1, 1, 1]), multiples(maps, count / maps, [1, 1, maps, 1])); // [n, 1, maps, 1]
    return placesOf(first, rows, [1, taps, 1, outHeight]); // [n, taps, maps, h']
  });
  return gather(withZeros(reshape(x, [multiplyDims(n, count), width])), places);
}

/** Columns stride j + offset of maps [n, c, h, w], zeros outside: [n, offsets, c h, columns]. */
function columnsAt(maps: Tensor, offsets: readonly number[], columns: number, stride = 1): Tensor {
  const [n, c, height, width] = maps.shape as [Dim, number, number, number];
  const lines = reshape(maps, [n, 1, c * height, width]);
  return matmul(lines, columnMatrices(offsets, width, columns, stride));
}

/** The rows of all parts, row i moved to `places[i]`. */
function inOrder(parts: readonly Tensor[], places: readonly number[]): Tensor {
  if (parts.length === 1) return parts[0]!;
  const single = parts.flatMap((part) => chunk(part, 0, part.shape[0] as number));
  return concat(
    places.map((_, place) => single[places.indexOf(place)]!),
    0,
  );
}

/**
 * Matrices of zeros and ones [offsets, width, columns] that take columns stride j + offset of rows, zeros outside:
 * faster than copying parts of rows.
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

/** Each tap is the product of dy, [out, n h' w'], with the values that it sees, [n h' w', c]: slices of x. */
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
