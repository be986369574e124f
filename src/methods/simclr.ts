/**
 * SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of each image, an encoder, a projector of two layers, and
 * NT-Xent between the projections of all views in the batch.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { batchNorm, linear } from "../nn/layers.ts";
import { ntXent } from "../nn/losses.ts";
import { relu } from "../ops/elementwise.ts";
import { concat, split } from "../ops/movement.ts";
import { unsplit } from "../ops/pieces.ts";
import type { Method } from "./method.ts";
import { fraction, randomView, SMALL, share } from "./views.ts";

// Small images take the settings of the paper's appendix B.9 (CIFAR-10): half the jitter, no blur.
const config = (imageSize: number) =>
  z.strictObject({
    /** Of NT-Xent; 0.5 for small images, else 0.1. */
    temperature: z
      .number()
      .positive()
      .default(imageSize <= SMALL ? 0.5 : 0.1),
    /** Width of the projector's hidden layer; 0 takes that of the features. */
    hidden: z.number().int().min(0).default(0),
    /** Length of the projection. */
    projection: z.number().int().positive().default(128),
    /** s of the paper: jitter is s times (0.8, 0.8, 0.8, 0.2). */
    strength: z
      .number()
      .min(0)
      .default(imageSize <= SMALL ? 0.5 : 1),
    /** Probability of Gaussian blur. */
    blur: fraction.default(imageSize <= SMALL ? 0 : 0.5),
    /** Least share of the image's area in a crop. */
    cropScale: share.default(0.08),
  });
type Config = z.infer<ReturnType<typeof config>>;

export const simclr: Method<Config> = {
  name: "simclr",
  paper: "A Simple Framework for Contrastive Learning of Visual Representations, arXiv 2002.05709",
  config,
  views: ({ strength: s, blur, cropScale }, size) => {
    const view = randomView(size, {
      scale: [cropScale, 1],
      jitter: [0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s],
      blur,
    });
    return [view, view];
  },
  // LARS and its rates are the paper's, for batches of thousands; SGD is what small batches on CIFAR train with.
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? { name: "sgd", lr: 0.12, weightDecay: 5e-4, warmupEpochs: 1 }
      : { name: "lars", lr: 0.3, weightDecay: 1e-6, warmupEpochs: 10 },
  least: { images: 2, why: "it tells the images of a batch apart" },
  chance: () => ({ kind: "choice", fixed: -1, perImage: 2 }),
  build: (step, { temperature, hidden, projection }) => {
    const h = step.encode(unsplit(step.views)); // [2n, features]
    const z = step.in("projector", () => {
      const width = hidden || (h.shape[1] as number);
      const inner = relu(batchNorm(step, "1", linear(step, "0", h, { out: width, bias: false }))); // [2n, hidden]
      return linear(step, "3", inner, { out: projection, bias: false }); // [2n, projection]
    });
    const [a, b] = split(z, 0, step.views) as [Tensor, Tensor]; // [n, projection] each
    const tau = step.scalar("temperature", { kind: "constant", value: temperature });
    const { loss, accuracy } = ntXent(a, b, tau);
    return { loss, metrics: { accuracy }, embedding: concat([a, b], 0), cut: [a, b] };
  },
};
