/**
 * The view that a frozen encoder takes: the centre of each image, resampled as `resample` does it, but from one box for all.
 * Places are whole numbers, so that they stay exact where floats become halves or bytes (float16, quantisation), and images
 * are not reshaped, so that there may be none at all.
 */
import { constant, type Tensor } from "../graph/tensor.ts";
import { abs, add, div, less, maximum, minimum, mul, sub } from "../ops/elementwise.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { cast, castToFloat, expand, reshape, transpose } from "../ops/movement.ts";
import { reduceSum } from "../ops/reduce.ts";
import { placesAlong, sizeOf } from "../ops/shape.ts";
import { normalise } from "./augment.ts";

/** Shares of a side are multiples of 1/16. */
const PARTS = 16;

/** Evaluation sees the centre 7/8 of a photo (256 -> 224, say) and the whole of a small image. */
export const centreShare = (size: number): number => (size <= 64 ? 1 : 0.875);

/** Height and width of the squares whose centre is seen at `size` pixels without being resampled. */
export const sideFor = (size: number): number => Math.round(size / centreShare(size));

/** The centre square of each image as `centreSquare` has it, normalised by ImageNet's statistics: [n, 3, size, size]. */
export const centreView = (images: Tensor, size: number, share: number): Tensor =>
  normalise(centreSquare(images, size, share), 255);

/**
 * The centre square of each image, uint8 [n, h, w, 3], `share` of its shorter side (a multiple of 1/16, rounded to whole
 * pixels), resized to `size`: [n, 3, size, size], values from 0 to 255.
 */
export function centreSquare(images: Tensor, size: number, share: number): Tensor {
  const [height, width] = [1, 2].map((axis) => cast(sizeOf(images, axis), "int32")) as [Tensor, Tensor]; // [1] each
  const parts = mul(minimum(height, width), whole(PARTS * share)); // [1]
  const side = div(add(parts, whole(PARTS / 2)), whole(PARTS)); // [1]; whole numbers are divided downwards
  const start = (of: Tensor) => div(sub(of, side), whole(2)); // [1]
  const planes = castToFloat(transpose(images, [0, 3, 1, 2])); // [n, 3, h, w]
  const lines = matmul(planes, weights(images, 2, start(width), side, size)); // [n, 3, h, s]
  const down = swap(weights(images, 1, start(height), side, size)); // [s, h]
  // A matrix on the left is for each image: the runtime would not spread one over no image.
  const each = expand(down, [images.shape[0]!, 1, size, images.shape[1]!], images); // [n, 1, s, h]
  return matmul(each, lines); // [n, 3, s, s]
}

const whole = (...values: readonly number[]): Tensor => constant(Int32Array.from(values), [values.length]);

/**
 * Weights [pixels, size] of an axis's pixels for outputs that divide the stretch of `side` pixels from `start` on: triangles
 * about their centres, as `resample` has them, those of an output summing to 1. Lengths are in units of 1 / (2 size) pixels.
 */
function weights(images: Tensor, axis: number, start: Tensor, side: Tensor, size: number): Tensor {
  const pixel = cast(placesAlong(images, axis), "int32"); // [pixels]
  const middle = reshape(add(mul(sub(pixel, start), whole(2)), whole(1)), [pixel.shape[0]!, 1]); // [pixels, 1]; in halves
  const centre = mul(whole(...Array.from({ length: size }, (_, i) => 2 * i + 1)), side); // [s]
  const support = mul(maximum(side, whole(size)), whole(2)); // [1]
  const height = sub(support, abs(sub(mul(middle, whole(size)), centre))); // [pixels, s]
  const inside = cast(less(abs(sub(middle, side)), side), "int32"); // [pixels, 1]
  const triangle = mul(maximum(height, whole(0)), inside); // [pixels, s]
  const share = div(castToFloat(triangle), castToFloat(support)); // [pixels, s], in [0, 1]
  return div(share, reduceSum(share, { axes: [0], keep: true })); // [pixels, s]
}
