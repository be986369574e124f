/**
 * Views as operators: crop, resize, flip, colour, blur, solarize and normalise a batch, each image by its own row of
 * parameters. Geometry and blur are matrix products with matrices made from the parameters.
 */
import { divideDims } from "../graph/dims.ts";
import { constant, type Tensor } from "../graph/tensor.ts";
import {
  abs,
  add,
  clip,
  div,
  equal,
  exp,
  floor,
  greater,
  greaterOrEqual,
  isPositive,
  maximum,
  mul,
  neg,
  reciprocal,
  sqrt,
  square,
  sub,
  where,
} from "../ops/elementwise.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { cast, chunk, concat, reshape, slice, split, table } from "../ops/movement.ts";
import { affine as byChannel } from "../ops/normalization.ts";
import { cut, inPieces, piecesOf } from "../ops/pieces.ts";
import { reduceMax, reduceMean, reduceMin, reduceSum } from "../ops/reduce.ts";
import { turnBy } from "../ops/turn.ts";
import { randomFor } from "../random.ts";
import { type Dim, VIEW_COLUMNS, type ViewColumn, type ViewRecipe } from "../spec.ts";
import { BLOCK, inBlocks } from "./blocks.ts";
import { resample } from "./resample.ts";

/** Red, green and blue in the luma of ITU-R BT.601, as torchvision and Pillow weigh them. */
const LUMA = [0.299, 0.587, 0.114] as const;
/** Mean and standard deviation of ImageNet's channels, which normalise every image. */
export const CHANNEL_MEAN = [0.485, 0.456, 0.406] as const;
export const CHANNEL_STD = [0.229, 0.224, 0.225] as const;

/**
 * A view of each image for each of the recipes, [n, 3, size, size] each, normalised: images uint8 [n, h, w, 3], a
 * recipe's parameters float32 [n, columns]. Views that take the same operators are computed together, large ones in
 * chunks (`pieces`) of the batch. `last` makes of views with values in [0, 1] what the encoder takes.
 */
export function augment(
  images: Tensor,
  params: readonly Tensor[],
  recipes: readonly ViewRecipe[],
  pieces = 1,
  last = (view: Tensor): Tensor => normalise(view),
): readonly Tensor[] {
  const all = recipes.map(stagesOf);
  const keys = all.map((stages) => JSON.stringify(stages));
  const views: Tensor[] = [];
  [...new Set(keys)].forEach((key, group) => {
    const places = keys.flatMap((k, i) => (k === key ? [i] : []));
    const stages = all[places[0]!]!;
    const count = isLarge(stages.size) ? pieces : 1;
    const own = places.map((i) => cut(params[i]!, count)); // [n, columns] each
    const made = piecesOf(cut(images, count)).map((piece, j) => {
      const rows = own.map((t) => piecesOf(t)[j]!); // [n / pieces, columns] each
      const together = last(throughStages(piece, concat(rows, 0), stages, `${group}.${j}`)); // [views n / pieces, 3, s, s]
      return split(together, 0, rows);
    });
    places.forEach((place, i) => {
      views[place] = inPieces(made.map((piece) => piece[i]!)); // [n, 3, s, s]
    });
  });
  return views;
}

/**
 * Whether views of so many pixels in height and width are computed in chunks of the batch: small ones are too little
 * work for an operator.
 */
export const isLarge = inBlocks;

/** The part of a recipe that decides which operators its views take; the rest is in their parameters. */
const stagesOf = ({
  size,
  jitter,
  randAugment,
  grayscale,
  blur,
  solarize,
  dropChannels,
  turn,
}: ViewRecipe) => ({
  size,
  hue: jitter.p > 0 && jitter.hue > 0,
  color: jitter.p > 0 || randAugment !== undefined || grayscale > 0,
  blur: blur.p > 0,
  solarize: solarize > 0,
  drop: Boolean(dropChannels),
  turn: Boolean(turn),
});

/** Images [n, h, w, 3] and parameters [views n, columns], view by view -> [views n, 3, s, s] with values in [0, 1]. */
function throughStages(
  images: Tensor,
  params: Tensor,
  stages: ReturnType<typeof stagesOf>,
  name: string,
): Tensor {
  const p = columnsOf(params);
  const x = cropAndResize(images, p, stages.size, name); // [n, 3, s, s] with n for views n, as all below
  const jittered = stages.hue ? turnHue(affine(x, p, "Before"), p.hue) : x;
  const coloured = stages.color ? affine(jittered, p, "After") : jittered;
  const blurred = stages.blur ? blur(coloured, p.sigma, stages.size) : coloured;
  const solarized = stages.solarize ? solarize(blurred, p.solarize) : blurred;
  const dropped = stages.drop ? keepChannel(solarized, p.channel) : solarized;
  return stages.turn ? turnBy(dropped, p.turn) : dropped;
}

type Columns = Readonly<Record<ViewColumn, Tensor>>;

/** Each parameter as [n, 1, 1]. */
function columnsOf(params: Tensor): Columns {
  const n = params.shape[0]!;
  return Object.fromEntries(
    VIEW_COLUMNS.map((name, i) => [name, reshape(slice(params, { 1: [i, i + 1] }), [n, 1, 1])]),
  ) as unknown as Columns;
}

function cropAndResize(images: Tensor, p: Columns, size: number, name: string): Tensor {
  const rows = { start: p.top, length: p.height, flip: mul(p.flip, 0) }; // [n, 1, 1] each
  const columns = { start: p.left, length: p.width, flip: p.flip }; // [n, 1, 1] each
  const views = divideDims(p.top.shape[0]!, images.shape[0]!) as number;
  return resample(images, rows, columns, size, { views, name }); // [views n, 3, s, s]
}

/** gain x + gray luma + mean average(luma), clipped to [0, 1]; [n, 3, s, s]. The first two are one matrix for each view. */
function affine(x: Tensor, p: Columns, side: "Before" | "After"): Tensor {
  const [n, , height, width] = x.shape as [never, number, number, number];
  const pixels = reshape(x, [n, 3, height * width]); // [n, 3, s s]
  const mix = add(mul(p[`gain${side}`], IDENTITY), mul(p[`gray${side}`], TO_GRAY)); // [n, 3, 3]
  const average = matmul(table([LUMA]), reduceMean(pixels, { axes: [2], keep: true })); // [n, 1, 1]
  const mixed = add(matmul(mix, pixels), mul(average, p[`mean${side}`])); // [n, 3, s s]
  return reshape(clip(mixed, 0, 1), [n, 3, height, width]);
}
const IDENTITY = table([
  [1, 0, 0],
  [0, 1, 0],
  [0, 0, 1],
]);
/** Each channel becomes the luma. */
const TO_GRAY = table([LUMA, LUMA, LUMA]);

/**
 * Rotates the hue by a share of the full circle [n, 1, 1]; value and chroma are kept. A channel is least + chroma
 * clip(2 - d, 0, 1) if its angle is d sixths of the circle from the hue. Conversely, red's distance is d = (1 - r)(3
 * - q) + r q, of red r and q = |green - blue|, both over chroma: always r is 1, or r is 0, or q is 1.
 */
function turnHue(x: Tensor, turn: Tensor): Tensor {
  const n = x.shape[0]!;
  const [red, green, blue] = chunk(x, 1, 3); // [n, 1, s, s] each, as all below
  const least = reduceMin(x, { axes: [1], keep: true });
  const chroma = sub(reduceMax(x, { axes: [1], keep: true }), least);
  const scale = reciprocal(maximum(chroma, 1e-6));
  const r = mul(sub(red!, least), scale);
  const towardsGreen = mul(sub(green!, blue!), scale);
  const q = abs(towardsGreen);
  const distance = add(sub(3, q), mul(r, sub(mul(q, 2), 3))); // in sixths
  const sixth = sub(mul(isPositive(towardsGreen), 1 / 3), 1 / 6); // 1/6 or -1/6
  const hue = add(mul(distance, sixth), reshape(turn, [n, 1, 1, 1]));
  const inside = sub(hue, floor(hue)); // [0, 1), red at 0
  // The distance around the circle is 1/2 - | |hue - angle| - 1/2 |.
  const angles = constant(new Float32Array([0, 1 / 3, 2 / 3]), [1, 3, 1, 1]); // [1, 3, 1, 1]
  const nearness = abs(sub(abs(sub(inside, angles)), 0.5)); // [n, 3, s, s]
  return add(sub(least, chroma), mul(clip(nearness, 1 / 6, 1 / 3), mul(chroma, 6))); // [n, 3, s, s]
}

/**
 * Gaussian blur with a kernel of a tenth of the height (an odd number of pixels), edges mirrored, as SimCLR's
 * appendix A has it; sigma [n, 1, 1], where 0 means no blur.
 */
function blur(x: Tensor, sigma: Tensor, size: number): Tensor {
  const n = x.shape[0]!;
  const radius = Math.max(1, Math.floor(Math.floor(size / 10) / 2));
  const distances = constant(
    Float32Array.from({ length: radius + 1 }, (_, t) => t),
    [1, radius + 1],
  ); // [1, r + 1]
  const exponent = div(neg(square(distances)), mul(square(maximum(reshape(sigma, [n, 1]), 1e-3)), 2)); // [n, r + 1]
  const kernel = exp(exponent); // [n, r + 1]
  const both = constant(
    Float32Array.from({ length: radius + 1 }, (_, t) => (t ? 2 : 1)),
    [1, radius + 1],
  ); // [1, r + 1]
  const weights = div(kernel, reduceSum(mul(kernel, both), { axes: [1], keep: true })); // [n, r + 1]
  const bands = bandsOf(weights, size, radius);
  const down = bands.map(({ from, to, matrix }) =>
    matmul(reshape(matrix, [n, 1, ...matrix.shape.slice(1)]), slice(x, { 2: [from, to] })),
  ); // [n, 3, block, s] each
  const lines = reshape(concat(down, 2), [n, 3 * size, size]); // [n, 3 s, s]
  const across = bands.map(({ from, to, matrix }) => matmul(slice(lines, { 2: [from, to] }), swap(matrix))); // [n, 3 s, block] each
  return reshape(concat(across, 2), [n, 3, size, size]);
}

/** A block of outputs along an axis: the pixels [from, to) times a matrix [n, block, to - from]. */
interface Band {
  readonly from: number;
  readonly to: number;
  readonly matrix: Tensor;
}

/** Blur along an axis by weights [n, r + 1] of distances, its ends mirrored; large views block by block. */
function bandsOf(weights: Tensor, size: number, radius: number): readonly Band[] {
  const block = inBlocks(size) ? BLOCK : size;
  return Array.from({ length: size / block }, (_, i) => {
    const [first, end] = [i * block, (i + 1) * block];
    const [from, to] = [Math.max(0, first - radius), Math.min(size, end + radius)];
    const cells = block * (to - from);
    const table = new Float32Array((radius + 1) * cells); // row t takes the pixels at distance t
    for (let t = 0; t <= radius; t++)
      for (let out = first; out < end; out++)
        for (const near of new Set([out - t, out + t]))
          table[t * cells + (out - first) * (to - from) + mirror(near, size) - from]! += 1;
    const matrix = matmul(weights, constant(table, [radius + 1, cells])); // [n, block (to - from)]
    return { from, to, matrix: reshape(matrix, [weights.shape[0]!, block, to - from]) };
  });
}

/** The index within a line, mirrored at the ends, which are not repeated. */
const mirror = (i: number, size: number): number => {
  const inside = i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
  return Math.min(size - 1, Math.max(0, inside));
};

/** Values of 1/2 and above inverted where the flag [n, 1, 1] is 1. */
function solarize(x: Tensor, flag: Tensor): Tensor {
  const high = mul(cast(greaterOrEqual(x, 0.5), "float32"), reshape(flag, [x.shape[0]!, 1, 1, 1])); // [n, 3, s, s]
  return add(x, mul(high, sub(1, mul(x, 2))));
}

/** Standard deviation of the noise in place of a dropped channel, over that of the kept one. */
const FAINT = 0.01;

/**
 * Keeps the channel 1 to 3 that [n, 1, 1] names (0 keeps all). The other two become its mean and faint noise, one
 * fixed draw, as Doersch et al. 2015 (section 3.1) do against chromatic aberration.
 */
function keepChannel(x: Tensor, channel: Tensor): Tensor {
  const [n, , height, width] = x.shape as [Dim, number, number, number];
  const ids = constant(new Float32Array([1, 2, 3]), [1, 3, 1, 1]); // [1, 3, 1, 1]
  const named = reshape(channel, [n, 1, 1, 1]); // [n, 1, 1, 1]
  const kept = cast(equal(ids, named), "float32"); // [n, 3, 1, 1]
  const only = reduceSum(mul(x, kept), { axes: [1], keep: true }); // [n, 1, s, s]
  const mean = reduceMean(only, { axes: [2, 3], keep: true }); // [n, 1, 1, 1]
  const std = sqrt(reduceMean(square(sub(only, mean)), { axes: [2, 3], keep: true })); // [n, 1, 1, 1]
  const random = randomFor("views", "noise", height, width);
  const draws = Float32Array.from({ length: 3 * height * width }, () => random.normal());
  const noise = constant(draws, [1, 3, height, width]); // [1, 3, s, s]
  const filled = add(mean, mul(noise, mul(std, FAINT))); // [n, 3, s, s]
  const all = cast(equal(named, 0), "float32"); // [n, 1, 1, 1]
  return where(greater(add(kept, all), 0), x, filled); // [n, 3, s, s]
}

/** (x / unit - mean) / std per channel, in one pass. */
export function normalise(
  x: Tensor,
  unit = 1,
  means: readonly number[] = CHANNEL_MEAN,
  stds: readonly number[] = CHANNEL_STD,
): Tensor {
  const row = (of: (mean: number, std: number) => number) =>
    constant(
      Float32Array.from(means, (mean, i) => of(mean, stds[i]!)),
      [3],
    );
  return byChannel(
    x,
    row((_, std) => 1 / (unit * std)),
    row((mean, std) => -mean / std),
  );
}
