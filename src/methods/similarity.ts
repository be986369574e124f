/**
 * The trivial solution, as a negative control: two views of an image are pulled together and nothing keeps images
 * apart, so that all of them end in one point. No method to train with; what it shows is that a collapse is seen.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { cosine } from "../nn/cosine.ts";
import { mlp } from "../nn/heads.ts";
import { neg } from "../ops/elementwise.ts";
import { concat } from "../ops/movement.ts";
import type { Method } from "./method.ts";
import { fraction, randomView, SMALL, share } from "./views.ts";

const config = (imageSize: number) =>
  z.strictObject({
    /** Width of the projector's hidden layer. */
    hidden: z.int().positive().default(512),
    /** Length of the projection. */
    projection: z.int().positive().default(128),
    /** Least share of the image's area in a crop. */
    cropScale: share.default(0.2),
    /** Probability of Gaussian blur. */
    blur: fraction.default(imageSize <= SMALL ? 0 : 0.5),
  });
type Config = z.infer<ReturnType<typeof config>>;

export const similarity: Method<Config> = {
  name: "similarity",
  paper: "none; the loss of Hadsell et al. 2006 without its contrastive term",
  config,
  views: ({ cropScale, blur }, size) => {
    const view = randomView(size, { scale: [cropScale, 1], blur });
    return [view, view];
  },
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? { name: "sgd", lr: 0.12, weightDecay: 5e-4, warmupEpochs: 0 }
      : { name: "sgd", lr: 0.05, weightDecay: 1e-4, warmupEpochs: 0 },
  chance: () => ({ kind: "constant", value: 0 }),
  build: (step, { hidden, projection }) => {
    // No normalisation at the end: it would keep the batch's projections apart.
    const project = (view: Tensor) => {
      const h = step.encode(view); // [n, features]
      return step.in("projector", () => mlp(step, h, { sizes: [hidden, projection] })); // [n, projection]
    };
    const [a, b] = step.views.map(project) as [Tensor, Tensor]; // [n, projection] each
    return { loss: neg(cosine(a, b)), metrics: {}, embedding: concat([a, b], 0), cut: [a, b] };
  },
};
