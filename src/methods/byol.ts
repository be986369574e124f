/**
 * BYOL (Grill et al. 2020, arXiv 2006.07733): an online network predicts, from one view of an image, what a target
 * network makes of the other. The target is the moving average of the online network; nothing pushes images apart.
 *
 * The average is updated at the start of a step, with the parameters that the step before left: the same targets as
 * if it were updated after the optimizer.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { cosine } from "../nn/cosine.ts";
import { mlp } from "../nn/heads.ts";
import { add, mul, sub } from "../ops/elementwise.ts";
import { concat, stopGradient } from "../ops/movement.ts";
import type { Method } from "./method.ts";
import { fraction, SMALL, twoViews, viewSettings } from "./views.ts";

// Small images take lightly's settings for CIFAR-10, large ones those of the paper's longest run, 1000 epochs.
const config = (imageSize: number) => {
  const small = imageSize <= SMALL;
  return z.strictObject({
    /** Share of the old weights that the target keeps in each step, at first; a cosine takes it to 1. */
    momentum: fraction.default(small ? 0.99 : 0.996),
    /** Width of the hidden layers of projector and predictor. */
    hidden: z
      .int()
      .positive()
      .default(small ? 1024 : 4096),
    /** Length of projections and predictions. */
    projection: z.int().positive().default(256),
    ...viewSettings(imageSize),
  });
};
type Config = z.infer<ReturnType<typeof config>>;

export const byol: Method<Config> = {
  name: "byol",
  paper: "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning, arXiv 2006.07733",
  config,
  views: (settings, size) => twoViews(size, settings),
  // Small: 0.12 and 5e-4 for the mean of two negative cosines; this loss is four times as steep.
  // Shorter runs on large images want faster averages and rates: 300 epochs 0.99 and 0.3, 100 epochs 0.99 and 0.45.
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? { name: "sgd", lr: 0.03, weightDecay: 2e-3, warmupEpochs: 0 }
      : { name: "lars", lr: 0.2, weightDecay: 1e-6, warmupEpochs: 10 },
  chance: () => ({ kind: "constant", value: 4 }),
  build: (step, { momentum, hidden, projection }) => {
    const decay = step.scalar("momentum", { kind: "cosine", from: momentum, to: 1, warmupEpochs: 0 });
    const head = (name: string, x: Tensor) =>
      step.in(name, () => mlp(step, x, { sizes: [hidden, projection], bias: false })); // [n, projection]
    const project = (view: Tensor) => head("projector", step.encode(view)); // [n, projection]

    // Each view by itself, with batch statistics of its own.
    const z = step.views.map(project); // [n, projection] each
    const [p0, p1] = z.map((x) => head("predictor", x)) as [Tensor, Tensor]; // [n, projection] each
    const [t0, t1] = step.with({ average: decay }, () => step.views.map(project)) as [Tensor, Tensor];
    // 2 - 2 cos, both ways.
    const loss = sub(4, mul(add(cosine(p0, t1), cosine(p1, t0)), 2)); // []
    const seen = z.map(stopGradient); // [n, projection] each: predictions are cut below them
    return { loss, metrics: {}, embedding: concat(seen, 0), cut: [p0, p1, t0, t1, ...seen] };
  },
};
