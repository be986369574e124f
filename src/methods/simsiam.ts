/**
 * SimSiam (Chen and He 2020, arXiv 2011.10566): from one view of an image predict the projection of the other, held
 * constant. Without that stop-gradient the network collapses.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { cosine } from "../nn/cosine.ts";
import { mlp } from "../nn/heads.ts";
import { add, mul } from "../ops/elementwise.ts";
import { concat, stopGradient } from "../ops/movement.ts";
import type { Method } from "./method.ts";
import { fraction, randomView, SMALL, share } from "./views.ts";

// Small images take the paper's appendix D (CIFAR-10): a projector of two layers, no blur, another decay.
const config = (imageSize: number) => {
  const small = imageSize <= SMALL;
  return z.strictObject({
    /** Layers of the projector. */
    layers: z
      .int()
      .min(1)
      .default(small ? 2 : 3),
    /** Length of projections and predictions, and width of the projector's hidden layers. */
    projection: z.int().positive().default(2048),
    /** Width of the predictor's hidden layer, its bottleneck. */
    predictor: z.int().positive().default(512),
    /** Whether projections are constants where they are predicted; without it, they collapse (section 4.1). */
    stopGradient: z.boolean().default(true),
    /** Least share of the image's area in a crop. */
    cropScale: share.default(0.2),
    /** Probability of Gaussian blur. */
    blur: fraction.default(small ? 0 : 0.5),
  });
};
type Config = z.infer<ReturnType<typeof config>>;

export const simsiam: Method<Config> = {
  name: "simsiam",
  paper: "Exploring Simple Siamese Representation Learning, arXiv 2011.10566",
  config,
  views: ({ cropScale, blur }, size) => {
    const view = randomView(size, { scale: [cropScale, 1], blur });
    return [view, view];
  },
  // Small: lightly's rate for CIFAR-10 in batches of 128; the paper has 0.03 for batches of 512.
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? { name: "sgd", lr: 0.12, weightDecay: 5e-4, warmupEpochs: 0 }
      : { name: "sgd", lr: 0.05, weightDecay: 1e-4, warmupEpochs: 0 },
  chance: () => ({ kind: "constant", value: 0 }),
  build: (step, { layers, projection, predictor, ...settings }) => {
    const project = (view: Tensor) => {
      const h = step.encode(view); // [n, features]
      const sizes = Array<number>(layers).fill(projection);
      return step.in("projector", () => mlp(step, h, { sizes, lastBatchNorm: "plain" })); // [n, projection]
    };
    const predict = (z: Tensor) =>
      step.with({ constantRate: true }, () =>
        step.in("predictor", () => mlp(step, z, { sizes: [predictor, projection] })),
      ); // [n, projection]

    // Each view by itself, with batch statistics of its own.
    const z = step.views.map(project); // [n, projection] each
    const [p0, p1] = z.map(predict) as [Tensor, Tensor]; // [n, projection] each
    const [t0, t1] = (settings.stopGradient ? z.map(stopGradient) : z) as [Tensor, Tensor];
    const loss = mul(add(cosine(p0, t1), cosine(p1, t0)), -0.5); // []
    const result = { loss, metrics: {}, embedding: concat([t0, t1], 0) };
    // Cut once only between images and loss: not where predictions depend on the targets.
    return settings.stopGradient ? { ...result, cut: [p0, p1, t0, t1] } : result;
  },
};
