/**
 * Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): the cross-correlation matrix of the embeddings of two views
 * shall be the identity, so that each component is the same for both views and independent of the others.
 */
import * as z from "zod";
import { constant, fixed, scalar, type Tensor } from "../graph/tensor.ts";
import { mlp } from "../nn/heads.ts";
import { sumOfSquaredProducts } from "../nn/losses.ts";
import { add, mul, square, sub } from "../ops/elementwise.ts";
import { concat } from "../ops/movement.ts";
import { batchNormTraining } from "../ops/normalization.ts";
import { divideByCount, reduceSum } from "../ops/reduce.ts";
import type { Method } from "./method.ts";
import { SMALL, twoViews, viewSettings } from "./views.ts";

// Small images take lightly's loss and projector for CIFAR-10.
const config = (imageSize: number) => {
  const small = imageSize <= SMALL;
  return z.strictObject({
    /** Weight of the redundancy reduction against the invariance. */
    lambda: z
      .number()
      .min(0)
      .default(small ? 0.005 : 0.0051),
    /** Layers of the projector. */
    layers: z
      .int()
      .min(1)
      .default(small ? 2 : 3),
    /** Width of each of them, the last included. */
    width: z
      .int()
      .positive()
      .default(small ? 2048 : 8192),
    ...viewSettings(imageSize),
  });
};
type Config = z.infer<ReturnType<typeof config>>;

export const barlowTwins: Method<Config> = {
  name: "barlow-twins",
  paper: "Barlow Twins: Self-Supervised Learning via Redundancy Reduction, arXiv 2103.03230",
  config,
  views: (settings, size) => twoViews(size, settings),
  // Small: solo-learn's for CIFAR-10, whose loss is a tenth of this: to LARS that matters where there is no trust
  // ratio. Under lightly's SGD the first steps, as steep as the embedding is long, leave few dimensions in use.
  // Large: the paper's 0.2 for weights, 0.0048 for biases and normalisation; both fall to a thousandth.
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? { name: "lars", lr: 0.3, biasLr: 0.1, weightDecay: 1e-4, warmupEpochs: 1, config: { trust: 0.02 } }
      : {
          name: "lars",
          lr: 0.2,
          biasLr: 0.0048 / 0.2,
          weightDecay: 1e-6,
          warmupEpochs: 10,
          finalLr: 0.001,
        },
  build: (step, { lambda, layers, width }) => {
    const project = (view: Tensor) => {
      const h = step.encode(view); // [n, features]
      const sizes = Array<number>(layers).fill(width);
      return step.in("projector", () => mlp(step, h, { sizes, bias: false })); // [n, d]
    };
    // Each view by itself, with batch statistics of its own.
    const [a, b] = step.views.map(project) as [Tensor, Tensor]; // [n, d] each
    const { invariance, redundancy } = correlationTerms(a, b);
    return {
      loss: add(invariance, mul(redundancy, lambda)),
      metrics: { invariance, redundancy },
      embedding: concat([a, b], 0), // [2n, d]
      cut: [a, b],
    };
  },
};

/** The two sums of equation 1, over the diagonal of the cross-correlation matrix and over the rest, []. */
function correlationTerms(a: Tensor, b: Tensor): { invariance: Tensor; redundancy: Tensor } {
  const [x, y] = [standardize(a), standardize(b)]; // [n, d] each
  const scale = divideByCount(scalar(1), x, [0]); // 1 / n, []
  const diagonal = mul(reduceSum(mul(x, y), { axes: [0] }), scale); // [d]
  const all = mul(sumOfSquaredProducts(x, y), square(scale)); // []
  return {
    invariance: reduceSum(square(sub(1, diagonal))),
    redundancy: sub(all, reduceSum(square(diagonal))),
  };
}

/** Each component with mean 0 and variance 1 over the batch: batch normalisation without scale and bias, [n, d]. */
function standardize(x: Tensor): Tensor {
  const d = fixed(x.shape[1], "length of the embedding");
  const row = (value: number) => constant(new Float32Array(d).fill(value), [d]); // [d]
  return batchNormTraining(x, row(1), row(0)).y;
}
