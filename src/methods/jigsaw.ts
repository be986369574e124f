/**
 * Jigsaw (Noroozi and Favaro 2016, arXiv 1603.09246): the tiles of a 3x3 grid are put in one of P orders, and the
 * network tells in which. Each tile passes the encoder by itself; only the head sees all nine.
 */
import * as z from "zod";
import { batchNorm, linear } from "../nn/layers.ts";
import { crossEntropy } from "../nn/losses.ts";
import { relu } from "../ops/elementwise.ts";
import { concat, split } from "../ops/movement.ts";
import { unsplit } from "../ops/pieces.ts";
import type { Method } from "./method.ts";
import { colorJitter, GRID, gridPatch, lonePatchSize, standardize } from "./patches.ts";
import { permutations } from "./permutations.ts";
import { fraction, SMALL, share, viewSize } from "./views.ts";

const config = (imageSize: number, multiple = 1) =>
  z.strictObject({
    /** Orders to tell apart, P. */
    permutations: z.int().min(2).max(10_000).default(100),
    /** Height and width of a tile, pixels; a quarter of the image's, at least 16. */
    patch: viewSize(lonePatchSize(imageSize), multiple),
    /** Side of a tile over that of its cell: about 64 px of 85. */
    side: share.default(0.75),
    /** Share of the gap that each tile moves in: anywhere in its cell. */
    jitter: fraction.default(1),
    /**
     * Least share of the image's area that is cut into cells: the paper's 225 px of 256 to each side. Small images: 0.3,
     * for their tiles move by less than the 8 px of JPEG's blocks, whose edges would tell the places of tiles in a crop
     * that hardly moves.
     */
    cropScale: share.default(imageSize <= SMALL ? 0.3 : 0.77),
    /** Strength of each tile's own colour jitter; half of it for hue. None; small images 0.4, as in relative position. */
    colorJitter: fraction.default(imageSize <= SMALL ? 0.4 : 0),
    /** Probability that the image is gray, or with colour jitter a tile; 0.66, small images 0.2. */
    grayscale: fraction.default(imageSize <= SMALL ? 0.2 : 0.66),
    /** Length of a tile's features in the head; 256 for small images, else 1000. */
    hidden: z
      .int()
      .positive()
      .default(imageSize <= SMALL ? 256 : 1000),
  });
type Config = z.infer<ReturnType<typeof config>>;

export const jigsaw: Method<Config> = {
  name: "jigsaw",
  paper: "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles, arXiv 1603.09246",
  config,
  // The choice that all tiles of an image share is the order: cell orders[choice][j] comes to place j.
  views: ({ permutations: count, patch, colorJitter: strength, grayscale, ...grid }) => {
    const orders = permutations(count);
    return Array.from({ length: GRID * GRID }, (_, place) => {
      const tile = gridPatch(patch, { ...grid, cells: orders.map((order) => order[place]!) });
      const group = { name: "grid", color: strength === 0 };
      return { ...tile, group, jitter: colorJitter(strength), grayscale };
    });
  },
  // Small images: as other methods train on CIFAR. Else VISSL's rates, 105 epochs.
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? { name: "sgd", lr: 0.12, weightDecay: 5e-4, warmupEpochs: 1 }
      : {
          name: "sgd",
          lr: 0.1,
          weightDecay: 1e-4,
          warmupEpochs: 5,
          drops: { factor: 0.1, at: [30 / 105, 60 / 105, 90 / 105, 100 / 105] },
        },
  chance: (config) => ({ kind: "choice", fixed: config.permutations, perImage: 0 }),
  build: (step, { permutations: count, hidden }) => {
    const tiles = standardize(unsplit(step.views)); // [9n, 3, p, p]
    const features = step.encode(tiles); // [9n, features]
    const logits = step.in("head", () => {
      const each = relu(batchNorm(step, "1", linear(step, "0", features, { out: hidden, bias: false }))); // [9n, hidden]
      const inOrder = concat(split(each, 0, step.views), 1); // [n, 9 hidden]
      return linear(step, "3", inOrder, { out: count }); // [n, P]
    });
    const { loss, accuracy } = crossEntropy(logits, step.drawn(0, "choice"));
    return { loss, metrics: { accuracy }, embedding: features };
  },
};
