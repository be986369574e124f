/**
 * Fine-tuning: the whole encoder with a linear classifier on its features, trained by the images' classes. Label smoothing
 * is that of Szegedy et al. 2016 (arXiv 1512.00567), mixup that of Zhang et al. 2018 (arXiv 1710.09412), with one share for
 * a batch.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { linear } from "../nn/layers.ts";
import { smoothedCrossEntropy } from "../nn/losses.ts";
import type { Scope } from "../nn/scope.ts";
import { add, mul, sub } from "../ops/elementwise.ts";
import { gather } from "../ops/indexing.ts";
import { softmax } from "../ops/reduce.ts";
import type { Method, StepScope } from "./method.ts";
import { exported, keepAverages, ratesOf, transferSettings } from "./transfer.ts";
import { fraction, randomView, SMALL, share } from "./views.ts";

const config = (imageSize: number) =>
  z.strictObject({
    /** Classes to tell apart. */
    classes: z.int().min(2).max(100_000),
    /** Share of each target that is spread over all classes. */
    smoothing: z.number().min(0).max(0.99).default(0.1),
    /** Alpha of the Beta distribution that mixup draws its shares from; 0 mixes nothing. */
    mixup: z.number().min(0).max(100).default(0),
    /** Least share of the image's area in a crop. Small images: 0.6, as of a crop of 32 px from one padded by 4 px. */
    cropScale: share.default(imageSize <= SMALL ? 0.6 : 0.08),
    /** Strength of brightness, contrast and saturation, changed in each image; 0 leaves colours as they are. */
    jitter: fraction.default(0),
    ...transferSettings,
    /** The peak of the classifier's learning rate over that of the encoder, unless it is given. */
    headRate: z.number().positive().default(10),
  });
type Config = z.infer<ReturnType<typeof config>>;

/** Images and labels of the batch, or both mixed with those of another order of it. */
function mixedBatch(step: StepScope, alpha: number) {
  const [view, labels] = [step.views[0]!, step.labels()]; // [n, 3, s, s], [n]
  if (alpha === 0) return { view, labels };
  const [order, share] = [step.permutation("mixup"), step.share("mixup.share", alpha)]; // [n], []
  const other = gather(view, order); // [n, 3, s, s]
  return {
    view: add(mul(view, share), mul(other, sub(1, share))), // [n, 3, s, s]
    labels,
    mixed: { labels: gather(labels, order), share },
  };
}

const logitsOf = (s: Scope, features: Tensor, classes: number): Tensor =>
  linear(s, "head", features, { out: classes }); // [n, classes]

export const finetune: Method<Config> = {
  name: "finetune",
  paper: "Do Better ImageNet Models Transfer Better?, arXiv 1805.08974",
  config,
  views: ({ cropScale, jitter }, size) => [
    randomView(size, {
      scale: [cropScale, 1],
      jitter: [jitter, jitter, jitter, 0],
      jitterP: jitter === 0 ? 0 : 1,
      grayscale: 0,
    }),
  ],
  optimizer: () => ({
    name: "sgd",
    lr: 0.05,
    weightDecay: 1e-4,
    warmupEpochs: 1,
    config: { nesterov: true },
  }),
  classify: (s, features, { classes }) => ({ probabilities: softmax(logitsOf(s, features, classes)) }),
  exports: exported,
  chance: ({ classes }) => ({ kind: "choice", fixed: classes, perImage: 0 }),
  build: (step, settings) => {
    const { classes, smoothing, mixup, ema, headRate } = settings;
    const { view, labels, mixed } = mixedBatch(step, mixup);
    const features = step.with({ rate: ratesOf(step.stages(), settings) }, () => step.encode(view)); // [n, d]
    const logits = step.with({ ownRate: { name: "head", times: headRate } }, () =>
      logitsOf(step, features, classes),
    ); // [n, classes]
    const { loss, accuracy } = smoothedCrossEntropy(logits, labels, smoothing, mixed);
    keepAverages(step, ema);
    return { loss, metrics: { accuracy }, embedding: features };
  },
};
