/**
 * FCOS (Tian et al. 2019, arXiv 1904.01355): each place of a feature pyramid tells the classes of the object around it, the
 * distances to the four sides of its box, and how near it is to the middle of that. With the paper's improvements as
 * torchvision has them: centre sampling, the GIoU loss, centre-ness beside the distances, distances in strides. Class scores
 * are as far apart as focal loss makes them (Lin et al. 2017, arXiv 1708.02002).
 */
import * as z from "zod";
import { constant, fixed, type Tensor } from "../graph/tensor.ts";
import { binaryCrossEntropy, focalLoss, giouLoss } from "../nn/detection.ts";
import { convGroupNormRelu } from "../nn/layers.ts";
import { pyramid } from "../nn/pyramid.ts";
import type { Scope } from "../nn/scope.ts";
import { conv } from "../ops/conv.ts";
import {
  add,
  div,
  equal,
  greaterOrEqual,
  maximum,
  minimum,
  mul,
  relu,
  sigmoid,
  sqrt,
} from "../ops/elementwise.ts";
import { cast, chunk, concat, reshape, slice, transpose } from "../ops/movement.ts";
import { perChannel } from "../ops/normalization.ts";
import { globalAveragePool } from "../ops/pool.ts";
import { reduceSum } from "../ops/reduce.ts";
import { indicesAlong } from "../ops/shape.ts";
import type { DetectionLevel, Init } from "../spec.ts";
import type { Method, ObjectTargets } from "./method.ts";
import { coloursOf, exported, keepAverages, ratesOf, transferSettings } from "./transfer.ts";
import { fraction, randomView, share } from "./views.ts";

const config = () =>
  z.strictObject({
    /** Classes to find. */
    classes: z.int().min(1).max(10_000),
    /** Of the pyramid and the head; the paper's 256 are for images four times as large. */
    channels: z.int().min(8).max(1024).multipleOf(8).default(128),
    /** Convolutions before each prediction. */
    convs: z.int().min(0).max(8).default(4),
    /** A place finds an object from the middle of whose box it is no further, in strides along either axis. */
    radius: z.number().positive().max(1000).default(1.5),
    /** Least share of the square's area in a crop. */
    cropScale: share.default(0.4),
    /** Probability of a flip. */
    flip: fraction.default(0.5),
    ...transferSettings,
    /** The peak of the learning rate of pyramid and head over that of the encoder, unless it is given. */
    headRate: z.number().positive().default(1),
  });
type Config = z.infer<ReturnType<typeof config>>;

/** Boxes whose greatest distance to a place is in (4, 8] strides are found on its level; smaller and larger at either end. */
const FROM = 4;
const TO = 8;
/** A level of four places a side or fewer would find nothing: no distance in the view is above four of its strides. */
const LEAST_SIDE = FROM + 1;

const INIT: Init = { kind: "normal", std: 0.01 };
/** What each class begins with: a probability of 0.01. */
const PRIOR = -Math.log((1 - 0.01) / 0.01);

/** What is predicted, all levels one after the other. */
export interface Predictions {
  /** Logits, [n, classes, places]. */
  readonly classes: Tensor;
  /** To left, top, right and bottom in strides, 0 or more, [n, 4, places]. */
  readonly distances: Tensor;
  /** Logits, [n, 1, places]. */
  readonly centerness: Tensor;
}

/** Maps [n, channels, h, w] of a pyramid -> predictions by two towers, whose weights all levels share. */
export function head(
  s: Scope,
  levels: readonly Tensor[],
  { classes, convs }: Pick<Config, "classes" | "convs">,
): Predictions {
  const tower = (name: string, outputs: readonly Output[]) =>
    s.in(name, () => {
      const made = levels.map((x) => {
        const layers = Array.from({ length: convs }, (_, i) => 3 * i);
        const y = s.in("conv", () => layers.reduce((y, at) => convGroupNormRelu(s, at, y, INIT), x)); // as x
        return flat(predict(s, y, outputs)); // [n, all outputs, places of the level]
      });
      return concat(made, 2); // [n, all outputs, places]
    });
  const scores = tower("classification_head", [{ name: "cls_logits", out: classes, bias: PRIOR }]); // [n, classes, places]
  const sides = tower("regression_head", [
    { name: "bbox_reg", out: 4, bias: 0 },
    { name: "bbox_ctrness", out: 1, bias: 0 },
  ]); // [n, 5, places]
  return {
    classes: scores,
    distances: relu(slice(sides, { 1: [0, 4] })),
    centerness: slice(sides, { 1: [4, 5] }),
  };
}

/** A prediction at each place: its name, how many numbers, what each begins with. */
interface Output {
  readonly name: string;
  readonly out: number;
  readonly bias: number;
}

/** x [n, c, h, w] -> [n, all outputs, h, w], by convolutions of 3x3. They are one: of few channels each would take as long. */
function predict(s: Scope, x: Tensor, outputs: readonly Output[]): Tensor {
  const c = fixed(x.shape[1], "number of channels");
  const all = outputs.map(({ name, out, bias }) =>
    s.in(name, () => ({
      weight: s.param("weight", [out, c, 3, 3], INIT), // [out, c, 3, 3]
      bias: s.param("bias", [out], { kind: "constant", value: bias }), // [out]
    })),
  );
  const weight = concat(
    all.map(({ weight }) => weight),
    0,
  ); // [all, c, 3, 3]
  const bias = concat(
    all.map(({ bias }) => bias),
    0,
  ); // [all]
  const y = conv(x, weight, { pad: 1 }); // [n, all, h, w]
  return add(y, perChannel(bias, y));
}

/** [n, c, h, w] -> [n, c, h w]. */
function flat(x: Tensor): Tensor {
  const [n, c, height, width] = x.shape as [Tensor["shape"][0], number, number, number];
  return reshape(x, [n!, c, height * width]);
}

/** The three losses, each a sum over the places divided by the number of those with an object, float32 [] each. */
export function losses({ classes, distances, centerness }: Predictions, targets: ObjectTargets) {
  const [n, places] = targets.classes.shape as [Tensor["shape"][0], number];
  const labels = reshape(targets.classes, [n!, 1, places]); // [n, 1, places]
  const wanted = transpose(targets.distances, [0, 2, 1]); // [n, 4, places]
  const found = cast(greaterOrEqual(labels, 0), "float32"); // [n, 1, places]
  const count = maximum(reduceSum(found), 1); // []
  const mean = (values: Tensor) => div(reduceSum(values), count); // []
  const ids = reshape(indicesAlong(classes, 1), [classes.shape[1]!, 1]); // [classes, 1]
  const [before, behind] = chunk(wanted, 1, 2); // [n, 2, places] each
  const balance = div(minimum(before!, behind!), maximum(maximum(before!, behind!), TINY)); // [n, 2, places]
  const [across, down] = chunk(balance, 1, 2); // [n, 1, places] each
  const centre = sqrt(mul(across!, down!)); // [n, 1, places]
  return {
    classification: mean(focalLoss(classes, equal(labels, ids))),
    boxes: mean(mul(found, giouLoss(distances, wanted))),
    centerness: mean(mul(found, binaryCrossEntropy(centerness, centre))),
  };
}
/** Below any distance of a place inside a box; where there is no object, all are 0. */
const TINY = 1e-12;

/**
 * Of maps [n, c, side, side] of a view of so many pixels. Strides are powers of two, doubled from level to level; where they do
 * not divide the view, the last places of a map lie at its edge or beyond.
 */
function levelsOf(maps: readonly Tensor[], size: number): readonly DetectionLevel[] {
  const sides = maps.map(({ shape }) => fixed(shape[2], "height"));
  const finest = 2 ** Math.ceil(Math.log2(size / sides[0]!));
  return sides.map((side, i) => {
    const stride = finest * 2 ** i;
    return {
      side,
      stride,
      from: i === 0 ? 0 : FROM * stride,
      to: i === sides.length - 1 ? null : TO * stride,
    };
  });
}

const pyramidOf = (s: Scope, maps: readonly Tensor[], { channels }: Config): readonly Tensor[] =>
  s.in("pyramid", () => pyramid(s, maps, { channels, least: LEAST_SIDE }));

/** Distances in strides, [n, 4, places], -> left, top, right and bottom in pixels of the view, [n, 4, places]. */
function boxesOf(distances: Tensor, levels: readonly DetectionLevel[]): Tensor {
  const places = levels.flatMap(({ side, stride }) =>
    Array.from({ length: side ** 2 }, (_, i) => ({
      x: (0.5 + (i % side)) * stride,
      y: (0.5 + Math.floor(i / side)) * stride,
      stride,
    })),
  );
  const rows = (values: readonly number[]) => constant(Float32Array.from(values), [4, places.length]); // [4, places]
  const centres = ["x", "y", "x", "y"].flatMap((axis) => places.map((place) => place[axis as "x" | "y"]));
  const steps = [-1, -1, 1, 1].flatMap((sign) => places.map(({ stride }) => sign * stride));
  return add(mul(distances, rows(steps)), rows(centres));
}

export const fcos: Method<Config> = {
  name: "fcos",
  paper: "FCOS: Fully Convolutional One-Stage Object Detection, arXiv 1904.01355",
  config,
  views: ({ cropScale, flip, ...colours }, size) => [
    randomView(size, { scale: [cropScale, 1], flip, ...coloursOf(colours) }),
  ],
  // The paper's 0.01 for 16 images, dropped after 60,000 and 80,000 steps of 90,000.
  optimizer: () => ({
    name: "sgd",
    lr: 0.16,
    weightDecay: 1e-4,
    warmupEpochs: 1,
    drops: { factor: 0.1, at: [6 / 9, 8 / 9] },
  }),
  exports: exported,
  detect: (s, maps, settings, size) => {
    const levels = pyramidOf(s, maps, settings); // [n, channels, h, w] each
    const { classes, distances, centerness } = s.in("head", () => head(s, levels, settings));
    const boxes = boxesOf(distances, levelsOf(levels, size)); // [n, 4, places]
    const scores = sqrt(mul(sigmoid(classes), sigmoid(centerness))); // [n, classes, places]
    return { objects: transpose(concat([boxes, scores], 1), [0, 2, 1]) };
  },
  build: (step, settings) => {
    const view = step.views[0]!; // [n, 3, s, s]
    const maps = step.with({ rate: ratesOf(step.stages(), settings) }, () => step.maps(view)); // [n, c, h, w] each
    const { levels, predicted } = step.with({ ownRate: { name: "head", times: settings.headRate } }, () => {
      const levels = pyramidOf(step, maps, settings); // [n, channels, h, w] each
      return { levels, predicted: step.in("head", () => head(step, levels, settings)) };
    });
    const targets = step.objects(levelsOf(levels, fixed(view.shape[2], "view size")), settings.radius);
    const metrics = losses(predicted, targets);
    keepAverages(step, settings.ema);
    const loss = add(add(metrics.classification, metrics.boxes), metrics.centerness); // []
    return { loss, metrics, embedding: globalAveragePool(maps.at(-1)!) };
  },
};
