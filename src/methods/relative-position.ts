/**
 * Relative position (Doersch et al. 2015, arXiv 1505.05192): of two patches of a 3x3 grid, the centre and one of its
 * neighbours, the network tells which neighbour. Gaps, jitter, normalised patches and dropped colours keep it from
 * reading the answer off edges, brightness and the lens's chromatic aberration.
 */
import * as z from "zod";
import { batchNorm, linear } from "../nn/layers.ts";
import { crossEntropy } from "../nn/losses.ts";
import { relu } from "../ops/elementwise.ts";
import { concat, split } from "../ops/movement.ts";
import { unsplit } from "../ops/pieces.ts";
import type { Method } from "./method.ts";
import { colorJitter, gridPatch, lonePatchSize, standardize } from "./patches.ts";
import { fraction, SMALL, share, viewSize } from "./views.ts";

const CENTRE = 4;
const NEIGHBOURS = [0, 1, 2, 3, 5, 6, 7, 8];

const config = (imageSize: number, multiple = 1) =>
  z.strictObject({
    /** Height and width of a patch, pixels; a quarter of the image's, at least 16. */
    patch: viewSize(lonePatchSize(imageSize), multiple),
    /**
     * Side of a patch over that of its cell: about 64 px of 85, as those who train ResNet-50 take it. Small images: 0.65,
     * which with less jitter leaves a gap of whole pixels.
     */
    side: share.default(imageSize <= SMALL ? 0.65 : 0.75),
    /**
     * Share of the gap that each patch moves in. At 0.5 a patch of 96 px moves by 8 to each side (the paper: by 7), and
     * half of the gap is always left. Small images: 0.35.
     */
    jitter: fraction.default(imageSize <= SMALL ? 0.35 : 0.5),
    /**
     * Least share of the image's area that is cut into cells: 255 px of 292 to each side. Small images: 0.4, for their
     * patches move by less than the 8 px of JPEG's blocks, whose edges would tell the places of patches in a crop that
     * hardly moves.
     */
    cropScale: share.default(imageSize <= SMALL ? 0.4 : 0.77),
    /**
     * Strength of each patch's own colour jitter; half of it for hue. None; small images 0.4: their patches touch nearly,
     * and what goes on from one to the next would tell more than what they show.
     */
    colorJitter: fraction.default(imageSize <= SMALL ? 0.4 : 0),
    /** Probability that a patch is gray; 0.66, small images 0.2: too coarse to show a lens's aberration. */
    grayscale: fraction.default(imageSize <= SMALL ? 0.2 : 0.66),
    /**
     * Probability that a patch keeps one channel alone, with noise in place of the others; 0.5, small images 0. The paper
     * drops colours always, the recipe for ResNet-50 has grayscale in its place; here one patch in six stays as it is,
     * lest colour be foreign to the encoder.
     */
    dropChannels: fraction.default(imageSize <= SMALL ? 0 : 0.5),
    /** Width of the head's hidden layer; 256 for small images, else 4096. */
    hidden: z
      .int()
      .positive()
      .default(imageSize <= SMALL ? 256 : 4096),
  });
type Config = z.infer<ReturnType<typeof config>>;

export const relativePosition: Method<Config> = {
  name: "relative-position",
  paper: "Unsupervised Visual Representation Learning by Context Prediction, arXiv 1505.05192",
  config,
  views: ({ patch, colorJitter: strength, grayscale, dropChannels, ...grid }) =>
    [[CENTRE], NEIGHBOURS].map((cells) => ({
      ...gridPatch(patch, { ...grid, cells }),
      jitter: colorJitter(strength),
      grayscale,
      dropChannels,
    })),
  // Small images: as other methods train on CIFAR. Else MMSelfSup's rates, 70 epochs.
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? { name: "sgd", lr: 0.12, weightDecay: 5e-4, warmupEpochs: 1 }
      : {
          name: "sgd",
          lr: 0.1,
          weightDecay: 1e-4,
          warmupEpochs: 5,
          drops: { factor: 0.1, at: [30 / 70, 50 / 70] },
        },
  chance: () => ({ kind: "choice", fixed: NEIGHBOURS.length, perImage: 0 }),
  build: (step, { hidden }) => {
    const patches = standardize(unsplit(step.views)); // [2n, 3, p, p]
    const features = step.encode(patches); // [2n, features]
    const pairs = concat(split(features, 0, step.views), 1); // [n, 2 features]
    const logits = step.in("head", () => {
      const inner = relu(batchNorm(step, "1", linear(step, "0", pairs, { out: hidden, bias: false }))); // [n, hidden]
      return linear(step, "3", inner, { out: NEIGHBOURS.length }); // [n, 8]
    });
    const { loss, accuracy } = crossEntropy(logits, step.drawn(1, "choice"));
    return { loss, metrics: { accuracy }, embedding: features };
  },
};
