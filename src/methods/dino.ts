/**
 * DINO (Caron et al. 2021, arXiv 2104.14294): a student predicts, from each crop, what a teacher says of another large
 * crop. The teacher is the student's moving average; centring and sharpening its outputs keep them from collapse.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { batchNorm, fanInUniform, linear, ZEROS } from "../nn/layers.ts";
import { add, div, gelu, mul, sub } from "../ops/elementwise.ts";
import { gemm } from "../ops/matmul.ts";
import { split, stopGradient } from "../ops/movement.ts";
import { logSoftmax, normalize, reduceMean, softmax } from "../ops/reduce.ts";
import type { Method, StepScope } from "./method.ts";
import { cropSettings, encodeCrops, multiCropViews, predictOthers, targetMetrics } from "./multi-crop.ts";
import { fraction, SMALL } from "./views.ts";

// Defaults for large images are the authors' for ResNet-50; small ones take lightly's for CIFAR-10.
const config = (imageSize: number, multiple = 1) => {
  const small = imageSize <= SMALL;
  return z.strictObject({
    /** Length of the outputs, between which the softmax chooses. */
    outputs: z
      .int()
      .min(2)
      .default(small ? 2048 : 65_536),
    /** Of the student. */
    temperature: z.number().positive().default(0.1),
    /** Of the teacher, once it is warm. */
    teacherTemperature: z.number().positive().default(0.04),
    /** Of the teacher at the start, from where it changes linearly. */
    warmupTeacherTemperature: z.number().positive().default(0.04),
    warmupTeacherTemperatureEpochs: z.number().min(0).default(0),
    /** Share of the old weights that the teacher keeps in each step, at first; a cosine takes it to 1. */
    momentum: fraction.default(small ? 0.99 : 0.996),
    /** Share of the old centre that each step keeps. */
    centreMomentum: fraction.default(0.9),
    /** Epochs before the last layer begins to train. */
    freeze: z.number().min(0).default(1),
    /** Layers of the head before the last. */
    layers: z
      .int()
      .min(1)
      .default(small ? 2 : 3),
    /** Width of the head's hidden layers. */
    hidden: z.int().positive().default(2048),
    /** Batch normalisation in the head's hidden layers. */
    headNorm: z.boolean().default(small),
    /** Length of the unit vectors that the last layer takes. */
    bottleneck: z.int().positive().default(256),
    ...cropSettings(imageSize, 8, multiple),
    /** Probability of Gaussian blur in the two large crops and the small ones. */
    blur: z.tuple([fraction, fraction, fraction]).default(small ? [0, 0, 0] : [1, 0.1, 0.5]),
    /** Probability of solarize in the second large crop. */
    solarize: fraction.default(0.2),
  });
};
type Config = z.infer<ReturnType<typeof config>>;

export const dino: Method<Config> = {
  name: "dino",
  paper: "Emerging Properties in Self-Supervised Vision Transformers, arXiv 2104.14294",
  config,
  views: ({ blur: [first, second, small], solarize, ...crops }, size) => {
    const jitter = [0.4, 0.4, 0.2, 0.1] as const;
    const large = [
      { jitter, blur: first },
      { jitter, blur: second, solarize },
    ] as const;
    return multiCropViews(size, crops, large, { jitter, blur: small });
  },
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? { name: "sgd", lr: 0.12, weightDecay: 5e-4, warmupEpochs: 0 }
      : { name: "sgd", lr: 0.03, weightDecay: 1e-4, warmupEpochs: 10 },
  exports: "average",
  chance: ({ outputs }) => ({ kind: "choice", fixed: outputs, perImage: 0 }),
  build: (step, settings) => {
    const { outputs, temperature, teacherTemperature, momentum, centreMomentum } = settings;
    const { warmupTeacherTemperature, warmupTeacherTemperatureEpochs, freeze } = settings;
    const views = step.views; // [n, 3, s, s] each
    const large = views.slice(0, 2); // [n, 3, s, s] each
    const decay = step.scalar("momentum", { kind: "cosine", from: momentum, to: 1, warmupEpochs: 0 });
    const trains = step.scalar("lastTrains", { kind: "start", steps: 0, epochs: freeze });
    const tau = step.scalar("temperature", { kind: "constant", value: temperature });
    const teacherTau = step.scalar("teacherTemperature", {
      kind: "linear",
      from: warmupTeacherTemperature,
      to: teacherTemperature,
      epochs: warmupTeacherTemperatureEpochs,
    });
    const centre = step.buffer("centre", [outputs], ZEROS); // [outputs]
    const unit = (crops: readonly Tensor[]) => bottleneck(step, encodeCrops(step, crops), settings); // [crops n, bottleneck]
    const last = (x: Tensor) => step.with({ trains }, () => lastLayer(step, x, outputs)); // [crops n, outputs]

    const embeddings = unit(views); // [views n, bottleneck]
    const student = last(embeddings); // [views n, outputs]
    const teacher = stopGradient(step.with({ average: decay }, () => last(unit(large)))); // [2n, outputs]
    const targets = softmax(div(sub(teacher, centre), teacherTau)); // [2n, outputs]
    const loss = predictOthers(split(targets, 0, large), split(logSoftmax(div(student, tau)), 0, views));
    const recent = reduceMean(teacher, { axes: [0] }); // [outputs]
    step.update(centre, add(mul(centre, centreMomentum), mul(recent, 1 - centreMomentum)));
    const { usage, entropy } = targetMetrics(targets);
    return { loss, metrics: { usage, targetEntropy: entropy }, embedding: embeddings };
  },
};

/** [rows, features] -> unit vectors [rows, bottleneck] */
const bottleneck = (step: StepScope, h: Tensor, settings: Config): Tensor =>
  step.in("head", () => {
    const { layers, hidden, headNorm, bottleneck: out } = settings;
    const init = { kind: "truncated-normal", std: 0.02 } as const;
    let x = h;
    for (let i = 0; i < layers - 1; i++) {
      const y = linear(step, `${i}`, x, { out: hidden, bias: !headNorm, init }); // [rows, hidden]
      x = gelu(headNorm ? batchNorm(step, `${i}.norm`, y) : y);
    }
    return normalize(linear(step, `${layers - 1}`, x, { out, init }));
  });

/** Weight normalisation with g fixed at 1: cosines with the rows of the weight, [rows, bottleneck] -> [rows, outputs]. */
const lastLayer = (step: StepScope, x: Tensor, outputs: number): Tensor =>
  step.in("head.last", () => {
    const size = x.shape[1] as number;
    const w = step.param("weight", [outputs, size], fanInUniform(size)); // [outputs, bottleneck]
    return gemm(x, normalize(w), null, { transB: true });
  });
