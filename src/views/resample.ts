/**
 * Scales a box of each image to a square by bilinear interpolation with antialiasing: each output is a mean of the
 * pixels around its centre, weighted by a triangle as wide as the step between outputs (at least one pixel), with
 * nothing from outside the box. Axis by axis, as products with matrices of weights.
 */
import { multiplyDims } from "../graph/dims.ts";
import { constant, integers, type Tensor } from "../graph/tensor.ts";
import {
  abs,
  add,
  div,
  floor,
  isPositive,
  maximum,
  minimum,
  mul,
  reciprocal,
  relu,
  sub,
} from "../ops/elementwise.ts";
import { gather } from "../ops/indexing.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { cast, concat, reshape, transpose } from "../ops/movement.ts";
import { reduceMin, reduceSum } from "../ops/reduce.ts";
import { counting, indicesAlong, sizeOf } from "../ops/shape.ts";
import type { Dim } from "../spec.ts";
import { BLOCK, byBlock, inBlocks } from "./blocks.ts";

/** A stretch of one axis for each view, pixels. */
export interface Span {
  /** First pixel, [views n, 1, 1]. */
  readonly start: Tensor;
  /** Number of pixels, [views n, 1, 1]. */
  readonly length: Tensor;
  /** Where 1 it is read backwards, [views n, 1, 1]. */
  readonly flip: Tensor;
}

/** Scales bytes to [0, 1]. */
const BYTE = 1 / 255;

/**
 * Images uint8 [n, h, w, 3] -> [views n, 3, size, size] with values in [0, 1]: a box for each of an image's `views`,
 * or one box for all images. Large views are computed in blocks; `name` is for the symbolic sizes of their windows.
 */
export function resample(
  images: Tensor,
  rows: Span,
  columns: Span,
  size: number,
  { views = 1, name = "" } = {},
): Tensor {
  const large = inBlocks(size) && rows.start.shape[0] !== 1;
  return large
    ? byBlocks(images, rows, columns, size, views, name)
    : whole(images, rows, columns, size, views);
}

function whole(images: Tensor, rows: Span, columns: Span, size: number, views: number): Tensor {
  const [n, height, width] = images.shape as [Dim, Dim, Dim];
  const all = multiplyDims(views, n);
  const down = matrix(images, 1, size, rows, BYTE); // [views n, s, h]
  const across = matrix(images, 2, size, columns); // [views n, s, w]
  const lines = reshape(cast(images, "float32"), [n, height, multiplyDims(3, width)], images); // [n, h, 3 w]
  const byView = views === 1 ? down : reshape(down, [views, n, size, height], images); // [views, n, s, h]
  const squeezed = reshape(matmul(byView, lines), [all, size, width, 3], down, images); // [views n, s, w, 3]
  const planes = reshape(transpose(squeezed, [0, 3, 1, 2]), [all, 3 * size, width], down, images); // [views n, 3 s, w]
  return reshape(matmul(planes, swap(across)), [all, 3, size, size]);
}

/** In blocks: each block of outputs from a window that is gathered from the image. */
function byBlocks(
  images: Tensor,
  rows: Span,
  columns: Span,
  size: number,
  views: number,
  name: string,
): Tensor {
  const [n, height, width] = images.shape as [Dim, Dim, Dim];
  const all = multiplyDims(views, n);
  const line = multiplyDims(3, width);
  const values = cast(reshape(images, [n, height, line], images), "float32"); // [n, h, 3 w]
  const lines = reshape(values, [multiplyDims(n, height), line], values); // [n h, 3 w]
  const image = indicesAlong(images, 0); // [n]
  const owners = concat(Array<Tensor>(views).fill(image), 0); // [views n]
  const down = windows(images, 1, size, rows, owners, `rows${name}`, BYTE);
  const above = gather(lines, down.places); // [views n, blocks, window, 3 w]
  const tall = byBlock(above, down.weights, images); // [views n, 3 w, s]
  const lists = reshape(tall, [multiplyDims(all, width), 3 * size], images); // [views n w, 3 s]
  const across = windows(images, 2, size, columns, indicesAlong(rows.start, 0), `columns${name}`);
  const beside = gather(lists, across.places); // [views n, blocks, window, 3 s]
  return reshape(byBlock(beside, across.weights), [all, 3, size, size]);
}

/**
 * For each block of outputs the rows that its window covers, int64 [views n, blocks, window], of a table that has all
 * pixels of the axis for each of its `owners` [views n]; and their weights [views n, blocks, 32, window]. The window
 * is as wide as a box of all pixels needs.
 */
function windows(
  images: Tensor,
  axis: number,
  size: number,
  span: Span,
  owners: Tensor,
  name: string,
  total = 1,
) {
  const all = span.start.shape[0]!;
  const blocks = size / BLOCK;
  const wide: Span = {
    start: reshape(span.start, [all, 1, 1, 1]),
    length: reshape(span.length, [all, 1, 1, 1]),
    flip: span.flip,
  };
  const centre = reshape(centres(span, size), [all, blocks, BLOCK, 1]); // [views n, blocks, 32, 1]
  const support = supportOf(wide, size); // [views n, 1, 1, 1]
  const first = floor(sub(reduceMin(centre, { axes: [2], keep: true }), support)); // [views n, blocks, 1, 1]
  // The steps between a block's outputs and a triangle at either end, for the largest box that there can be: sizes that
  // hang on values keep a graph from being captured, and compute nearly as much. Then a pixel for each end that is rounded.
  const longest = maximum(sizeOf(images, axis), integers([size])); // [1]
  const reach = div(mul(longest, integers([BLOCK + 1])), integers([size])); // [1]
  const offsets = counting(add(reach, integers([3])), `${name}.window`); // [window]
  const pixel = add(first, offsets); // [views n, blocks, 1, window]
  const weights = weigh(pixel, centre, wide, support, total); // [views n, blocks, 32, window]
  const pixels = cast(sizeOf(images, axis), "float32"); // [1]
  const inside = minimum(maximum(pixel, 0), sub(pixels, 1)); // [views n, blocks, 1, window]; pixels outside have weight 0
  const place = add(mul(reshape(owners, [all, 1, 1, 1]), pixels), inside); // [views n, blocks, 1, window]
  return { weights, places: cast(reshape(place, [all, blocks, offsets.shape[0]!], place), "int64") };
}

/** The matrix [views n, size, pixels] that resamples a span of one axis, its rows summing to `total`. */
function matrix(images: Tensor, axis: number, size: number, span: Span, total = 1): Tensor {
  const pixel = indicesAlong(images, axis); // [pixels]
  return weigh(pixel, centres(span, size), span, supportOf(span, size), total);
}

/** Centres of the outputs, pixels from the edge, [views n, size, 1]. */
function centres({ start, length, flip }: Span, size: number): Tensor {
  const output = constant(
    Float32Array.from({ length: size }, (_, i) => i + 0.5),
    [1, size, 1],
  ); // [1, s, 1]
  const along = mul(output, div(length, size)); // [views n, s, 1]
  const turned = add(along, mul(flip, sub(length, mul(along, 2)))); // [views n, s, 1]
  return add(start, turned); // [views n, s, 1]
}

/** Half the triangle's width, pixels. */
const supportOf = ({ length }: Span, size: number): Tensor => maximum(div(length, size), 1);

/** Weights of pixels [..., pixels] for centres [..., outputs, 1]; support and span have as many axes. */
function weigh(
  pixel: Tensor,
  centre: Tensor,
  { start, length }: Span,
  support: Tensor,
  total: number,
): Tensor {
  const middle = add(pixel, 0.5); // as pixel
  const triangle = relu(sub(support, abs(sub(middle, centre)))); // [..., outputs, pixels], normalised below
  const half = mul(length, 0.5); // as length
  const inside = isPositive(sub(half, abs(sub(middle, add(start, half))))); // [..., 1, pixels]
  const weights = mul(triangle, inside); // [..., outputs, pixels]
  return mul(weights, reciprocal(mul(reduceSum(weights, { axes: [-1], keep: true }), 1 / total)));
}
