/**
 * Multi-crop (Caron et al. 2020, section 3.3): two large crops of each image, and small ones that cost little. What
 * a large crop is assigned to, all other crops predict.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { add, equal, log, maximum, mul, neg } from "../ops/elementwise.ts";
import { cast, concat, reshape } from "../ops/movement.ts";
import { unsplit } from "../ops/pieces.ts";
import { reduceMax, reduceMean, reduceSum } from "../ops/reduce.ts";
import { argMax } from "../ops/select.ts";
import { indicesAlong } from "../ops/shape.ts";
import type { ViewRecipe } from "../spec.ts";
import type { StepScope } from "./method.ts";
import { type RandomView, randomView, SMALL, share, viewSize } from "./views.ts";

/** Settings of the crops; `smallCrops` is the default for images that are not small, `multiple` the encoder's. */
export const cropSettings = (imageSize: number, smallCrops: number, multiple: number) => ({
  /** Small crops of each image; 0 for small images. */
  smallCrops: z
    .int()
    .min(0)
    .default(imageSize <= SMALL ? 0 : smallCrops),
  /** Their height and width: 96 of 224. */
  smallSize: viewSize((imageSize * 96) / 224, multiple),
  /** Share of the image's area in a large crop. */
  cropScale: z.tuple([share, share]).default([0.14, 1]),
  /** In a small crop. */
  smallCropScale: z.tuple([share, share]).default([0.05, 0.14]),
});

export interface Crops {
  readonly smallCrops: number;
  readonly smallSize: number;
  readonly cropScale: readonly [number, number];
  readonly smallCropScale: readonly [number, number];
}

/** Two large crops, then the small ones. */
export function multiCropViews(
  size: number,
  { smallCrops, smallSize, cropScale, smallCropScale }: Crops,
  large: readonly [RandomView, RandomView],
  small: RandomView,
): readonly ViewRecipe[] {
  return [
    ...large.map((view) => randomView(size, { ...view, scale: cropScale })),
    ...Array<ViewRecipe>(smallCrops).fill(randomView(smallSize, { ...small, scale: smallCropScale })),
  ];
}

/**
 * Views, the large ones first, -> features [views n, d], those of a view together and in their order. All views of a
 * size make one batch, so batch statistics are those of a size.
 */
export function encodeCrops(step: StepScope, views: readonly Tensor[]): Tensor {
  const sizes = [...new Set(views.map(({ shape }) => shape[2]))];
  const batches = sizes.map((size) => views.filter(({ shape }) => shape[2] === size));
  return concat(
    batches.map((batch) => step.encode(unsplit(batch))),
    0,
  );
}

/**
 * Cross-entropy of target i [n, k], that of crop i, with the log-probabilities [n, k] of each other crop: averaged over
 * the rows, the other crops, and the targets.
 */
export function predictOthers(targets: readonly Tensor[], logs: readonly Tensor[]): Tensor {
  const losses = targets.map((target, i) => {
    const others = logs.filter((_, v) => v !== i); // [n, k] each
    const agreement = reduceSum(mul(target, others.reduce(add)), { axes: [1] }); // [n]
    return mul(reduceMean(agreement), -1 / others.length); // []
  });
  return mul(losses.reduce(add), 1 / targets.length);
}

/** 1 at the greatest value of each row (the first of equal ones), else 0; [n, k]. */
export const oneHot = (x: Tensor): Tensor =>
  cast(equal(cast(reshape(argMax(x), [x.shape[0]!, 1]), "float32"), indicesAlong(x, 1)), "float32");

/** What tells a collapse of the targets, rows of probabilities [n, k]; float32 [] each. */
export const targetMetrics = (targets: Tensor) => ({
  /** Share of the k that are the greatest of some row. */
  usage: reduceMean(reduceMax(oneHot(targets), { axes: [0] })),
  /** Entropy of a row in nats, averaged. */
  entropy: neg(reduceMean(reduceSum(mul(targets, log(maximum(targets, 1e-30))), { axes: [1] }))),
});
