/**
 * Instance discrimination (Wu et al. 2018, arXiv 1805.01978): every image is a class of its own. One view of each image
 * must find its image's row in a memory bank among the rows of other images.
 */
import * as z from "zod";
import { linear } from "../nn/layers.ts";
import { normalize } from "../ops/reduce.ts";
import { bankChance, contrastWithBank, memoryBank, remember } from "./memory-bank.ts";
import type { Method } from "./method.ts";
import { fraction, randomView, SMALL, share } from "./views.ts";

const config = (imageSize: number) => {
  const small = imageSize <= SMALL;
  return z.strictObject({
    /**
     * The paper's noise-contrastive estimate, or InfoNCE. The authors train CIFAR by the softmax over the whole bank,
     * which InfoNCE comes to where `negatives` reaches the number of images: the default for small images.
     */
    loss: z.enum(["nce", "infonce"]).default(small ? "infonce" : "nce"),
    /** 0.07; 0.1 for small images. */
    temperature: z
      .number()
      .positive()
      .default(small ? 0.1 : 0.07),
    /** Rows of other images that each batch is scored against, K; its images share them. */
    negatives: z.int().positive().default(4096),
    /** Share of its old value that a row of the bank keeps when its image is seen. */
    momentum: fraction.default(0.5),
    /** Length of an embedding. */
    dim: z.int().positive().default(128),
    /** Brightness, contrast, saturation and hue, always. */
    jitter: z.number().min(0).max(0.5).default(0.4),
    /** Least share of the image's area in a crop. */
    cropScale: share.default(0.2),
    /** Probability of a flip; the authors do not flip small images. */
    flip: fraction.default(small ? 0 : 0.5),
  });
};
type Config = z.infer<ReturnType<typeof config>>;

export const instanceDiscrimination: Method<Config> = {
  name: "instance-discrimination",
  paper: "Unsupervised Feature Learning via Non-Parametric Instance-level Discrimination, arXiv 1805.01978",
  config,
  views: ({ jitter, cropScale, flip }, size) => [
    randomView(size, { scale: [cropScale, 1], jitter: [jitter, jitter, jitter, jitter], jitterP: 1, flip }),
  ],
  // The authors' CIFAR rate, 0.03, is for batches of 128.
  optimizer: (imageSize) => ({
    name: "sgd",
    ...(imageSize <= SMALL ? { lr: 0.06, weightDecay: 5e-4 } : { lr: 0.03, weightDecay: 1e-4 }),
    warmupEpochs: 0,
    drops: { factor: 0.1, at: [0.6, 0.8] },
  }),
  chance: ({ loss }) => bankChance(loss),
  build: (step, { loss: kind, temperature, negatives, momentum, dim }) => {
    const h = step.encode(step.views[0]!); // [n, features]
    const v = normalize(step.in("projector", () => linear(step, "0", h, { out: dim }))); // [n, dim]
    const bank = memoryBank(step, v, dim, negatives);
    const tau = step.scalar("temperature", { kind: "constant", value: temperature });
    const { loss, accuracy } = contrastWithBank(step, kind, v, bank, tau);
    remember(step, bank, v, momentum);
    return { loss, metrics: { accuracy }, embedding: v };
  },
};
