/**
 * Contrastive predictive coding (van den Oord et al. 2018, arXiv 1807.03748; Henaff et al. 2019, arXiv 1905.09272): an
 * image is cut into overlapping patches, each encoded by itself; from the rows above, a context predicts the patches
 * some rows below, to be told from all other patches of the batch.
 */
import * as z from "zod";
import { expected } from "../errors.ts";
import type { Tensor } from "../graph/tensor.ts";
import { kaimingNormal, layerNorm, linear } from "../nn/layers.ts";
import { type Contrast, crossEntropy } from "../nn/losses.ts";
import type { Scope } from "../nn/scope.ts";
import { conv } from "../ops/conv.ts";
import { add, mul, relu } from "../ops/elementwise.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { concat, pad, reshape, slice, transpose } from "../ops/movement.ts";
import { normalize } from "../ops/reduce.ts";
import { indicesAlong } from "../ops/shape.ts";
import type { Method } from "./method.ts";
import { standardize } from "./patches.ts";
import { fraction, randomView, share } from "./views.ts";

/** Patches along each side: of a quarter of the image's side, an eighth apart. */
const GRID = 7;
/** The nearest row that shares no pixels with a patch's own. */
const NEAREST = 2;

const config = (imageSize: number, multiple = 1) => {
  // Patches are of an even number of pixels, for they overlap by half, and what the encoder takes.
  const unit = 4 * (multiple % 2 === 0 ? multiple : 2 * multiple);
  if (imageSize % unit !== 0) {
    const near = Math.max(unit, imageSize - (imageSize % unit));
    throw expected(
      "method cpc",
      `an image size that ${unit} divides`,
      `${imageSize}`,
      `try --image-size ${near}`,
    );
  }
  return z.strictObject({
    /** Rows 2 to this many below the context are predicted; the next one shares pixels with it. */
    furthest: z
      .int()
      .min(NEAREST)
      .max(GRID - 1)
      .default(5),
    /** Channels of the context, and of its layers. */
    context: z.int().positive().default(256),
    /** Residual blocks of the context; each sees one more row above. */
    blocks: z.int().min(1).default(5),
    /** Length of predictions and targets. */
    dim: z.int().positive().default(64),
    /** Of their inner products, in place of a temperature. */
    scale: z.number().positive().default(0.1),
    /** Gives each patch mean 0 and deviation 1, lest patches of an image be known by their common brightness. */
    standardize: z.boolean().default(true),
    /** Brightness, contrast and saturation; a quarter of it for hue. */
    jitter: fraction.default(0.4),
    /** Least share of the image's area in a crop. */
    cropScale: share.default(0.6),
  });
};
type Config = z.infer<ReturnType<typeof config>>;

/**
 * The batch meant is 64: its 3136 patches make a matrix of up to 2240 x 3136 scores for each offset, 28 MB, which grows
 * with the square of the batch.
 */
export const cpc: Method<Config> = {
  name: "cpc",
  paper: "Data-Efficient Image Recognition with Contrastive Predictive Coding, arXiv 1905.09272",
  config,
  views: ({ jitter, cropScale }, size) => [
    randomView(size, { scale: [cropScale, 1], jitter: [jitter, jitter, jitter, jitter / 4] }),
  ],
  // Adam's rate is 4e-5 for batches of 64.
  optimizer: () => ({
    name: "adamw",
    lr: 1.6e-4,
    weightDecay: 1e-5,
    warmupEpochs: 0,
    config: { beta1: 0.8, eps: 1e-7 },
  }),
  chance: () => ({ kind: "choice", fixed: 0, perImage: GRID ** 2 }),
  build: (step, config) => {
    const cut = patchesOf(step.views[0]!); // [49n, 3, p, p]
    // All patches of the batch in one call: batch statistics are common to contexts, positives and negatives, so that
    // they cannot tell one from another. Nothing after the encoder has batch statistics.
    const h = step.encode(config.standardize ? standardize(cut) : cut); // [49n, features]
    const targets = step.in("target", () => linear(step, "0", h, { out: config.dim })); // [49n, dim]
    const n = step.views[0]!.shape[0]!;
    const grid = reshape(h, [n, GRID, GRID, h.shape[1]!]); // [n, 7, 7, features]
    const context = step.in("context", () => causalContext(step, grid, config)); // [n, 7, 7, context]
    const offsets = Array.from({ length: config.furthest - NEAREST + 1 }, (_, i) => NEAREST + i);
    const each = offsets.map((k) => predict(step, context, targets, k, config));
    const mean = (of: keyof Contrast) => mul(each.map((e) => e[of]).reduce(add), 1 / each.length); // []
    return { loss: mean("loss"), metrics: { accuracy: mean("accuracy") }, embedding: normalize(targets) };
  },
};

/** Views [n, 3, 8t, 8t] -> 7 x 7 patches of 2t pixels, t apart, by image and row: [49n, 3, 2t, 2t]. */
export function patchesOf(views: Tensor): Tensor {
  const [n, c, side] = views.shape as [never, number, number];
  const t = side / (GRID + 1);
  const strips = reshape(views, [n, c, GRID + 1, t, GRID + 1, t]); // [n, 3, 8, t, 8, t]
  const pairs = (x: Tensor, axis: number) =>
    concat([slice(x, { [axis]: [0, GRID] }), slice(x, { [axis]: [1, GRID + 1] })], axis + 1);
  const patches = pairs(pairs(strips, 2), 4); // [n, 3, 7, 2t, 7, 2t]
  return reshape(transpose(patches, [0, 2, 4, 1, 3, 5]), [-1, c, 2 * t, 2 * t]);
}

/**
 * Encoded patches [n, 7, 7, features] -> [n, 7, 7, context]. Each place sees its row and those above, by convolutions
 * of two rows and three columns (the second paper's appendix); normalisation is of each place by itself.
 */
export function causalContext(
  s: Scope,
  grid: Tensor,
  { context, blocks }: Pick<Config, "context" | "blocks">,
): Tensor {
  const out = context;
  let x = linear(s, "in", layerNorm(s, "norm", grid), { out }); // [n, 7, 7, context]
  for (let i = 0; i < blocks; i++) {
    const block = () => {
      const inner = relu(linear(s, "0", layerNorm(s, "norm", x), { out })); // [n, 7, 7, context]
      return linear(s, "2", relu(downward(s, "1", inner)), { out }); // [n, 7, 7, context]
    };
    x = add(x, s.in(`blocks.${i}`, block));
  }
  return layerNorm(s, "out", x);
}

/** Each place from three of its row and three of the row above: [n, 7, 7, c], of zeros outside. */
const downward = (s: Scope, name: string, x: Tensor): Tensor =>
  s.in(name, () => {
    const c = x.shape[3] as number;
    const w = s.param("weight", [c, c, 2, 3], kaimingNormal(6 * c));
    const planes = pad(transpose(x, [0, 3, 1, 2]), [0, 0, 1, 1], [0, 0, 0, 1]); // [n, c, 8, 9]
    return transpose(conv(planes, w), [0, 2, 3, 1]);
  });

/** InfoNCE: which of the batch's patches lies `k` rows below each place? [n, 7, 7, context] and [49n, dim]. */
function predict(s: Scope, context: Tensor, targets: Tensor, k: number, { dim, scale }: Config): Contrast {
  const above = slice(context, { 1: [0, GRID - k] }); // [n, 7 - k, 7, context]
  const predicted = s.in("predict", () => linear(s, `${k}`, above, { out: dim })); // [n, 7 - k, 7, dim]
  const rows = reshape(predicted, [-1, dim]); // [n (7 - k) 7, dim]
  const places = reshape(indicesAlong(targets, 0), [context.shape[0]!, GRID, GRID]); // [n, 7, 7]
  const labels = reshape(slice(places, { 1: [k, GRID] }), [rows.shape[0]!]); // [n (7 - k) 7]
  return crossEntropy(matmul(mul(rows, scale), swap(targets)), labels); // of [n (7 - k) 7, 49n]
}
