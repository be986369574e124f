/**
 * Fine-tuning: the whole encoder with a linear classifier on its features, trained by the images' classes. Label smoothing
 * is that of Szegedy et al. 2016 (arXiv 1512.00567), mixup that of Zhang et al. 2018 (arXiv 1710.09412), with one share for
 * a batch. Where an image may be of several classes, each is told by a logistic regression of its own.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { linear } from "../nn/layers.ts";
import { sigmoidCrossEntropy, smoothedCrossEntropy } from "../nn/losses.ts";
import type { Scope } from "../nn/scope.ts";
import { add, mul, sigmoid, sub } from "../ops/elementwise.ts";
import { gather } from "../ops/indexing.ts";
import { softmax } from "../ops/reduce.ts";
import type { Method, StepScope } from "./method.ts";
import { coloursOf, exported, keepAverages, ratesOf, transferSettings } from "./transfer.ts";
import { randomView, SMALL, share } from "./views.ts";

const config = (imageSize: number) =>
  z.strictObject({
    /** Classes to tell apart. */
    classes: z.int().min(2).max(100_000),
    /** Whether an image may be of several classes, or of none; left out where each is of one. */
    independent: z.literal(true).optional(),
    /** Share of each target that is spread over all classes; of independent ones, that is even for and against it. */
    smoothing: z.number().min(0).max(0.99).default(0.1),
    /** Alpha of the Beta distribution that mixup draws its shares from; 0 mixes nothing. */
    mixup: z.number().min(0).max(100).default(0),
    /** Least share of the image's area in a crop. Small images: 0.6, as of a crop of 32 px from one padded by 4 px. */
    cropScale: share.default(imageSize <= SMALL ? 0.6 : 0.08),
    ...transferSettings,
    /** The peak of the classifier's learning rate over that of the encoder, unless it is given. */
    headRate: z.number().positive().default(10),
  });
type Config = z.infer<ReturnType<typeof config>>;

/** Views and labels of the batch, or both mixed with those of another order of it. */
function mixedBatch(step: StepScope, { classes, independent, mixup }: Config) {
  const own = independent ? step.multiHot(classes) : step.labels(); // [n, classes] or [n]
  const [view] = step.views as [Tensor]; // [n, 3, s, s]
  if (mixup === 0) return { view, labels: own };
  const [order, share] = [step.permutation("mixup"), step.share("mixup.share", mixup)]; // [n], []
  const mix = (x: Tensor) => {
    const other = gather(x, order); // as x
    return add(mul(x, share), mul(other, sub(1, share))); // as x
  };
  if (independent) return { view: mix(view), labels: mix(own) };
  return { view: mix(view), labels: own, mixed: { labels: gather(own, order), share } };
}

/** The loss of logits [n, classes], and what else is watched. */
function lossOf(
  logits: Tensor,
  { labels, mixed }: Omit<ReturnType<typeof mixedBatch>, "view">,
  { independent, smoothing }: Config,
) {
  if (independent) return { loss: sigmoidCrossEntropy(logits, labels, smoothing), metrics: {} };
  const { loss, accuracy } = smoothedCrossEntropy(logits, labels, smoothing, mixed);
  return { loss, metrics: { accuracy } };
}

const logitsOf = (s: Scope, features: Tensor, classes: number): Tensor =>
  linear(s, "head", features, { out: classes }); // [n, classes]

export const finetune: Method<Config> = {
  name: "finetune",
  paper: "Do Better ImageNet Models Transfer Better?, arXiv 1805.08974",
  config,
  views: ({ cropScale, ...colours }, size) => [
    randomView(size, { scale: [cropScale, 1], ...coloursOf(colours) }),
  ],
  optimizer: () => ({
    name: "sgd",
    lr: 0.05,
    weightDecay: 1e-4,
    warmupEpochs: 1,
    config: { nesterov: true },
  }),
  classify: (s, features, { classes, independent }) => ({
    probabilities: (independent ? sigmoid : softmax)(logitsOf(s, features, classes)),
  }),
  exports: exported,
  chance: ({ classes, independent }) =>
    independent
      ? { kind: "constant", value: classes * Math.LN2 }
      : { kind: "choice", fixed: classes, perImage: 0 },
  build: (step, settings) => {
    const { classes, ema, headRate } = settings;
    const { view, ...targets } = mixedBatch(step, settings);
    const features = step.with({ rate: ratesOf(step.stages(), settings) }, () => step.encode(view)); // [n, d]
    const logits = step.with({ ownRate: { name: "head", times: headRate } }, () =>
      logitsOf(step, features, classes),
    ); // [n, classes]
    const { loss, metrics } = lossOf(logits, targets, settings);
    keepAverages(step, ema);
    return { loss, metrics, embedding: features };
  },
};
