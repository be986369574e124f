/**
 * VICReg (Bardes et al. 2021, arXiv 2105.04906): embeddings of two views are pulled together (invariance), each
 * component keeps its spread over the batch (variance), and no two components tell the same (covariance).
 */
import * as z from "zod";
import { scalar, type Tensor } from "../graph/tensor.ts";
import { mlp } from "../nn/heads.ts";
import { sumOfSquaredProducts } from "../nn/losses.ts";
import { add, div, mul, relu, sqrt, square, sub } from "../ops/elementwise.ts";
import { concat } from "../ops/movement.ts";
import { divideByCount, reduceMean, reduceSum } from "../ops/reduce.ts";
import type { Method } from "./method.ts";
import { SMALL, twoViews, viewSettings } from "./views.ts";

const weight = z.number().min(0);

const config = (imageSize: number) =>
  z.strictObject({
    /** Weight of the mean squared distance between the views' embeddings. */
    invariance: weight.default(25),
    /** Weight of the hinge on each component's standard deviation. */
    variance: weight.default(25),
    /** Weight of the squared covariances. */
    covariance: weight.default(1),
    /** Layers of the projector. */
    layers: z.int().min(1).default(3),
    /** Width of each of them, the last included; 2048 for small images, else 8192. */
    width: z
      .int()
      .positive()
      .default(imageSize <= SMALL ? 2048 : 8192),
    ...viewSettings(imageSize),
  });
type Config = z.infer<ReturnType<typeof config>>;

export const vicreg: Method<Config> = {
  name: "vicreg",
  paper:
    "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning, arXiv 2105.04906",
  config,
  views: (settings, size) => twoViews(size, settings),
  // Small: solo-learn's for CIFAR-10, but for its bound on the trust ratio.
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? { name: "lars", lr: 0.3, weightDecay: 1e-4, warmupEpochs: 1, config: { trust: 0.02 } }
      : { name: "lars", lr: 0.2, weightDecay: 1e-6, warmupEpochs: 10, finalLr: 0.001 },
  least: { images: 2, why: "its loss takes the variance over the images" },
  build: (step, { layers, width, ...weights }) => {
    const project = (view: Tensor) => {
      const h = step.encode(view); // [n, features]
      const sizes = Array<number>(layers).fill(width);
      return step.in("projector", () => mlp(step, h, { sizes, bias: false })); // [n, d]
    };
    // Each view by itself, with batch statistics of its own.
    const [a, b] = step.views.map(project) as [Tensor, Tensor]; // [n, d] each
    const [ofA, ofB] = [spread(a), spread(b)];
    const invariance = reduceMean(square(sub(a, b))); // [], of embeddings as they are, not centred
    const variance = mul(add(ofA.variance, ofB.variance), 0.5); // []
    const covariance = add(ofA.covariance, ofB.covariance); // []
    const regularization = add(mul(variance, weights.variance), mul(covariance, weights.covariance)); // []
    return {
      loss: add(mul(invariance, weights.invariance), regularization),
      metrics: { invariance, variance, covariance },
      embedding: concat([a, b], 0), // [2n, d]
      cut: [a, b],
    };
  },
};

/** The terms v and c of equations 1 to 4, of the embeddings [n, d] of one view, []. */
function spread(z: Tensor): { variance: Tensor; covariance: Tensor } {
  const share = divideByCount(scalar(1), z, [0]); // 1 / n, []
  const perPair = div(share, sub(1, share)); // 1 / (n - 1), []
  const x = mul(sub(z, reduceMean(z, { axes: [0], keep: true })), sqrt(perPair)); // [n, d]: covariance is x' x
  const diagonal = reduceSum(square(x), { axes: [0] }); // [d]
  const std = sqrt(add(diagonal, 1e-4)); // [d]
  const off = sub(sumOfSquaredProducts(x, x), reduceSum(square(diagonal))); // []
  return { variance: reduceMean(relu(sub(1, std))), covariance: divideByCount(off, z, [1]) };
}
