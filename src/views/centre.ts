/**
 * The view that a frozen encoder takes: the centre of each image, or the whole, resampled as `resample` does it, but from one
 * box for all. Places are whole numbers, so that they stay exact where floats become halves or bytes (float16, quantisation), and images
 * are not reshaped, so that there may be none at all.
 */
import { constant, type Tensor } from "../graph/tensor.ts";
import { abs, add, div, less, maximum, minimum, mul, sub } from "../ops/elementwise.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { cast, castToFloat, expand, reshape, transpose } from "../ops/movement.ts";
import { reduceSum } from "../ops/reduce.ts";
import { placesAlong, sizeOf } from "../ops/shape.ts";
import { CHANNEL_MEAN, normalise } from "./augment.ts";

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
  return resampled(images, planesOf(images), (axis) => {
    const share = weights(images, axis, start(axis === 1 ? height : width), side, size); // [pixels, s]
    return div(share, sumOf(share)); // [pixels, s]
  });
}

/**
 * The whole of each image as `wholeSquare` has it, normalised by ImageNet's statistics: [n, 3, size, size]. What is not there
 * is about 0.
 */
export const wholeView = (images: Tensor, size: number): Tensor => normalise(wholeSquare(images, size), 255);

/** What lies beside an image in its square: the mean colour of photos, from 0 to 255. */
export const BESIDE = CHANNEL_MEAN.map((mean) => Math.round(255 * mean));

/**
 * The square whose top left corner each image, uint8 [n, h, w, 3], fills as far as it goes, its longer side the square's,
 * resized to `size`: [n, 3, size, size], values from 0 to 255. The square itself is never made: less the colour beside them,
 * images lie in zeros, of which the outputs' weights are the same along either axis.
 */
export function wholeSquare(images: Tensor, size: number): Tensor {
  const [height, width] = [1, 2].map((axis) => cast(sizeOf(images, axis), "int32")) as [Tensor, Tensor]; // [1] each
  const side = maximum(height, width); // [1]
  const [down, across] = [1, 2].map((axis) => weights(images, axis, whole(0), side, size)) as [
    Tensor,
    Tensor,
  ]; // [h, s], [w, s]
  const total = maximum(sumOf(down), sumOf(across)); // [1, s]: along the longer side, which is all there
  const beside = constant(Float32Array.from(BESIDE), [3, 1, 1]); // [3, 1, 1]
  const planes = sub(planesOf(images), beside); // [n, 3, h, w]
  const square = resampled(images, planes, (axis) => div([down, across][axis - 1]!, total)); // [n, 3, s, s]
  return add(square, beside);
}

const planesOf = (images: Tensor): Tensor => castToFloat(transpose(images, [0, 3, 1, 2])); // [n, 3, h, w]

const sumOf = (share: Tensor): Tensor => reduceSum(share, { axes: [0], keep: true }); // [1, s]

/** Planes [n, 3, h, w] of images by the weights [pixels, s] of their rows, axis 1, and columns, axis 2: [n, 3, s, s]. */
function resampled(images: Tensor, planes: Tensor, weightsOf: (axis: 1 | 2) => Tensor): Tensor {
  const lines = matmul(planes, weightsOf(2)); // [n, 3, h, s]
  const down = swap(weightsOf(1)); // [s, h]
  // A matrix on the left is for each image: the runtime would not spread one over no image.
  const each = expand(down, [images.shape[0]!, 1, ...down.shape], images); // [n, 1, s, h]
  return matmul(each, lines); // [n, 3, s, s]
}

const whole = (...values: readonly number[]): Tensor => constant(Int32Array.from(values), [values.length]);

/**
 * Weights [pixels, size] of an axis's pixels for outputs that divide the stretch of `side` pixels from `start` on: triangles
 * about their centres, as `resample` has them; those of an output do not sum to 1 yet. Lengths are in units of 1 / (2 size)
 * pixels.
 */
function weights(images: Tensor, axis: number, start: Tensor, side: Tensor, size: number): Tensor {
  const pixel = cast(placesAlong(images, axis), "int32"); // [pixels]
  const middle = reshape(add(mul(sub(pixel, start), whole(2)), whole(1)), [pixel.shape[0]!, 1]); // [pixels, 1]; in halves
  const centre = mul(whole(...Array.from({ length: size }, (_, i) => 2 * i + 1)), side); // [s]
  const support = mul(maximum(side, whole(size)), whole(2)); // [1]
  const height = sub(support, abs(sub(mul(middle, whole(size)), centre))); // [pixels, s]
  const inside = cast(less(abs(sub(middle, side)), side), "int32"); // [pixels, 1]
  const triangle = mul(maximum(height, whole(0)), inside); // [pixels, s]
  return div(castToFloat(triangle), castToFloat(support)); // [pixels, s], in [0, 1]
}
