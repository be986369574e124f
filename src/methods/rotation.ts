/**
 * RotNet (Gidaris et al. 2018, arXiv 1803.07728): each image is rotated by 0 to 3 quarter turns, and the network
 * tells by how many. Rotations move pixels and never blend them: interpolation would leave traces that give the
 * answer away.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { linear } from "../nn/layers.ts";
import { crossEntropy } from "../nn/losses.ts";
import { add } from "../ops/elementwise.ts";
import { concat, zerosLike } from "../ops/movement.ts";
import { turned } from "../ops/turn.ts";
import type { Method } from "./method.ts";
import { randomView, SMALL, share } from "./views.ts";

const QUARTERS = [0, 1, 2, 3];

const config = (imageSize: number) =>
  z.strictObject({
    /** All four rotations of each image in a batch (small images, as the paper), or one at random. */
    turns: z.enum(["all", "one"]).default(imageSize <= SMALL ? "all" : "one"),
    /**
     * Least share of the image's area in a crop; 0.08. Small images: 0.6, for the paper's crop of 32 px anywhere in an
     * image padded by 4 px to each side, which shows between 0.77 and all of it.
     */
    cropScale: share.default(imageSize <= SMALL ? 0.6 : 0.08),
  });
type Config = z.infer<ReturnType<typeof config>>;

export const rotation: Method<Config> = {
  name: "rotation",
  paper: "Unsupervised Representation Learning by Predicting Image Rotations, arXiv 1803.07728",
  config,
  views: ({ turns, cropScale }, size) => [
    {
      ...randomView(size, { scale: [cropScale, 1], jitterP: 0, grayscale: 0 }),
      turn: turns === "one",
    },
  ],
  // Small: the paper's 0.1 for 128 images, dropped at epochs 60, 120 and 160 of 200. Else VISSL's rates, 105 epochs.
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? {
          name: "sgd",
          lr: 0.2,
          weightDecay: 5e-4,
          warmupEpochs: 0,
          drops: { factor: 0.2, at: [0.3, 0.6, 0.8] },
          config: { nesterov: true },
        }
      : {
          name: "sgd",
          lr: 0.1,
          weightDecay: 1e-4,
          warmupEpochs: 0,
          drops: { factor: 0.1, at: [30 / 105, 60 / 105, 90 / 105, 100 / 105] },
        },
  chance: () => ({ kind: "choice", fixed: QUARTERS.length, perImage: 0 }),
  build: (step, { turns }) => {
    const view = step.views[0]!; // [n, 3, s, s], turned already where there is one turn
    const turn = step.drawn(0, "turn"); // [n]
    const [views, labels] = turns === "all" ? allTurns(view, turn) : [view, turn]; // [4n or n, 3, s, s], [4n or n]
    const features = step.encode(views); // [4n or n, features]
    const logits = linear(step, "head", features, { out: QUARTERS.length }); // [4n or n, 4]
    const { loss, accuracy } = crossEntropy(logits, labels);
    return { loss, metrics: { accuracy }, embedding: features };
  },
};

/** Views rotated by each number of quarter turns, and that number for each row: [4n, 3, s, s] and [4n]. */
function allTurns(view: Tensor, like: Tensor): [views: Tensor, labels: Tensor] {
  const views = QUARTERS.map((k) => turned(view, k)); // [n, 3, s, s] each
  const labels = QUARTERS.map((k) => add(zerosLike(like), k)); // [n] each
  return [concat(views, 0), concat(labels, 0)];
}
