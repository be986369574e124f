/**
 * MoCo (He et al. 2019, arXiv 1911.05722) with the settings of its version 2 (Chen et al. 2020, arXiv 2003.04297):
 * each query must find the key of its image's other view among the keys of earlier batches, kept in a queue. Keys come
 * from a moving average of the encoder.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { linear } from "../nn/layers.ts";
import { infoNce } from "../nn/losses.ts";
import { add, mul, relu } from "../ops/elementwise.ts";
import { gather, putRows } from "../ops/indexing.ts";
import { concat, slice } from "../ops/movement.ts";
import { normalize } from "../ops/reduce.ts";
import type { Method, StepScope } from "./method.ts";
import { fraction, randomView, SMALL, share } from "./views.ts";

const config = (imageSize: number) => {
  const small = imageSize <= SMALL;
  return z.strictObject({
    /** 0.2; 0.1 for small images, 0.07 in version 1. */
    temperature: z
      .number()
      .positive()
      .default(small ? 0.1 : 0.2),
    /** Keys that are kept, K. */
    queue: z
      .int()
      .positive()
      .default(small ? 4096 : 65_536),
    /** Share of the old weights that the key encoder keeps in each step. */
    momentum: fraction.default(small ? 0.99 : 0.999),
    /** Two layers, or the one of version 1. */
    head: z.enum(["mlp", "linear"]).default("mlp"),
    /** Length of queries and keys. */
    dim: z.int().positive().default(128),
    /** Both views query, each against the other's key. */
    symmetric: z.boolean().default(false),
    /**
     * Parts of the batch with batch statistics of their own, as on so many devices; keys are shuffled among them, lest
     * statistics tell which key is whose. Divides the batch.
     */
    splits: z.int().min(1).max(64).default(8),
    /** Brightness, contrast and saturation; a quarter of it for hue. Version 1: as much for hue, always. */
    jitter: z.number().min(0).default(0.4),
    hue: z.number().min(0).max(0.5).default(0.1),
    jitterP: fraction.default(0.8),
    blur: fraction.default(small ? 0 : 0.5),
    /** Least share of the image's area in a crop. */
    cropScale: share.default(0.2),
  });
};
type Config = z.infer<ReturnType<typeof config>>;

export const moco: Method<Config> = {
  name: "moco",
  paper: "Momentum Contrast for Unsupervised Visual Representation Learning, arXiv 1911.05722",
  config,
  views: ({ jitter, hue, jitterP, blur, cropScale }, size) => {
    const view = randomView(size, {
      scale: [cropScale, 1],
      jitter: [jitter, jitter, jitter, hue],
      jitterP,
      blur,
    });
    return [view, view];
  },
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? { name: "sgd", lr: 0.12, weightDecay: 5e-4, warmupEpochs: 0 }
      : { name: "sgd", lr: 0.03, weightDecay: 1e-4, warmupEpochs: 0 },
  batchMultiple: "splits",
  chance: ({ queue }) => ({ kind: "choice", fixed: 1 + queue, perImage: 0 }),
  build: (step, { temperature, queue: length, momentum, head, dim, symmetric, splits }) => {
    const [a, b] = step.views as [Tensor, Tensor]; // [n, 3, s, s] each
    const tau = step.scalar("temperature", { kind: "constant", value: temperature });
    const decay = step.scalar("momentum", { kind: "constant", value: momentum });
    const queue = step.buffer("queue", [length, dim], { kind: "directions" }); // [K, dim]
    const embed = (x: Tensor) =>
      step.with({ splits }, () => normalize(project(step, step.encode(x), head, dim))); // [n, dim]
    const keyOf = (x: Tensor, order: Tensor) => {
      const shuffled = step.with({ average: decay }, () => embed(gather(x, order))); // [n, dim]
      return putRows(shuffled, order); // [n, dim]
    };
    const contrast = (query: Tensor, key: Tensor) => infoNce(query, key, queue, tau);

    const query = embed(a); // [n, dim]
    const key = keyOf(b, step.permutation("shuffle")); // [n, dim]
    const first = contrast(query, key);
    if (!symmetric) {
      enqueue(step, queue, [key]);
      return { loss: first.loss, metrics: { accuracy: first.accuracy }, embedding: query };
    }
    const keyOfFirst = keyOf(a, step.permutation("shuffle2")); // [n, dim]
    const queryOfSecond = embed(b); // [n, dim]
    const second = contrast(queryOfSecond, keyOfFirst);
    enqueue(step, queue, [key, keyOfFirst]);
    return {
      loss: mul(add(first.loss, second.loss), 0.5),
      metrics: { accuracy: mul(add(first.accuracy, second.accuracy), 0.5) },
      embedding: concat([query, queryOfSecond], 0), // [2n, dim]
    };
  },
};

/** [n, features] -> [n, dim] */
const project = (step: StepScope, h: Tensor, head: Config["head"], dim: number): Tensor =>
  step.in("projector", () => {
    if (head === "linear") return linear(step, "0", h, { out: dim });
    return linear(step, "2", relu(linear(step, "0", h, { out: h.shape[1] as number })), { out: dim });
  });

/** The newest keys in front; as many of the oldest fall out. */
function enqueue(step: StepScope, queue: Tensor, keys: readonly Tensor[]): void {
  const length = queue.shape[0] as number;
  step.update(queue, slice(concat([...keys, queue], 0), { 0: [0, length] })); // [K, dim]
}
