/**
 * SwAV (Caron et al. 2020, arXiv 2006.09882): embeddings are compared with prototypes; the code of a crop, an
 * assignment to prototypes that shares them out evenly over the batch, is predicted from the other crops of its image.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { batchNorm, linear, ZEROS } from "../nn/layers.ts";
import { sinkhorn } from "../nn/sinkhorn.ts";
import { abs, add, div, greater, relu, where } from "../ops/elementwise.ts";
import { gemm } from "../ops/matmul.ts";
import { concat, slice, split, zerosLike } from "../ops/movement.ts";
import { logSoftmax, normalize, reduceMax } from "../ops/reduce.ts";
import type { Method, StepScope } from "./method.ts";
import {
  cropSettings,
  encodeCrops,
  multiCropViews,
  oneHot,
  predictOthers,
  targetMetrics,
} from "./multi-crop.ts";
import { fraction, SMALL } from "./views.ts";

// Defaults for large images are the authors' for batches of 4096; small ones take lightly's for CIFAR-10.
const config = (imageSize: number, multiple = 1) => {
  const small = imageSize <= SMALL;
  return z.strictObject({
    /** K. */
    prototypes: z
      .int()
      .min(2)
      .default(small ? 512 : 3000),
    /** Of the prediction. */
    temperature: z.number().positive().default(0.1),
    /** Of the codes: the greater, the more alike. */
    epsilon: z.number().positive().default(0.05),
    sinkhornIterations: z.int().positive().default(3),
    /** Codes as they are, or all of each on its greatest prototype. */
    codes: z.enum(["soft", "hard"]).default("soft"),
    /** Earlier embeddings of each large crop that take part in the sharing out; 0 for none. */
    queue: z.int().min(0).default(0),
    /** Epochs before the queue begins to fill. */
    queueStart: z.number().min(0).default(15),
    /** Steps before the prototypes begin to train. */
    freeze: z
      .int()
      .min(0)
      .default(small ? 0 : 313),
    /** Width of the projector's hidden layer. */
    hidden: z
      .int()
      .positive()
      .default(small ? 512 : 2048),
    /** Length of embeddings. */
    dim: z.int().positive().default(128),
    ...cropSettings(imageSize, 6, multiple),
    /** Jitter is this times (0.8, 0.8, 0.8, 0.2). */
    strength: z
      .number()
      .min(0)
      .default(small ? 0.5 : 1),
    /** Probability of Gaussian blur. */
    blur: fraction.default(small ? 0 : 0.5),
  });
};
type Config = z.infer<ReturnType<typeof config>>;

export const swav: Method<Config> = {
  name: "swav",
  paper: "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments, arXiv 2006.09882",
  config,
  views: ({ strength: s, blur, ...crops }, size) => {
    const view = { jitter: [0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s], blur } as const;
    return multiCropViews(size, crops, [view, view], view);
  },
  // Small: lightly's Adam at 1e-3 for 128 images; its L2 penalty of 1e-6 is as good as none, and so is this decay.
  // Large: 4.8 for 4096 images, down to 0.0048.
  optimizer: (imageSize) =>
    imageSize <= SMALL
      ? { name: "adamw", lr: 2e-3, weightDecay: 1e-6, warmupEpochs: 0 }
      : { name: "lars", lr: 0.3, weightDecay: 1e-6, warmupEpochs: 10, finalLr: 0.001 },
  least: { images: 2, why: "it shares prototypes out among the images of a batch" },
  chance: ({ prototypes }) => ({ kind: "choice", fixed: prototypes, perImage: 0 }),
  build: (step, settings) => {
    const { prototypes: k, dim, freeze, temperature } = settings;
    const views = step.views; // [n, 3, s, s] each
    const tau = step.scalar("temperature", { kind: "constant", value: temperature });
    const trains = step.scalar("prototypesTrain", { kind: "start", steps: freeze, epochs: 0 });
    const z = normalize(project(step, encodeCrops(step, views), settings)); // [views n, dim]
    const prototypes = step.with({ trains }, () =>
      step.param("prototypes.weight", [k, dim], { kind: "directions" }, { project: normalize }),
    ); // [K, dim]
    const scores = scoresOf(z, prototypes); // [views n, K]
    const logs = split(logSoftmax(div(scores, tau)), 0, views); // [n, K] each
    const [embeddings, large] = [z, scores].map((t) => split(t, 0, views).slice(0, 2)); // [n, dim], [n, K] each
    const codes = large!.map((own, i) => {
      const queue = settings.queue > 0 && queued(step, `queue${i}`, embeddings![i]!, prototypes, settings);
      return codesOf(step, own, queue || undefined, settings); // [n, K]
    });
    const { usage, entropy } = targetMetrics(concat(codes, 0));
    return {
      loss: predictOthers(codes, logs),
      metrics: { usage, codeEntropy: entropy },
      embedding: z,
    };
  },
};

/** [rows, features] -> [rows, dim] */
const project = (step: StepScope, h: Tensor, { hidden, dim }: Config): Tensor =>
  step.in("projector", () => {
    const inner = relu(batchNorm(step, "1", linear(step, "0", h, { out: hidden }))); // [rows, hidden]
    return linear(step, "3", inner, { out: dim });
  });

/** Cosines of embeddings [rows, dim] with prototypes [K, dim], both of unit length: [rows, K]. */
const scoresOf = (z: Tensor, prototypes: Tensor): Tensor => gemm(z, prototypes, null, { transB: true });

/** The codes [n, K] of a large crop with scores `own` [n, K], shared out among them and those of its queue. */
function codesOf(step: StepScope, own: Tensor, queue: Queued | undefined, settings: Config): Tensor {
  const { epsilon, sinkhornIterations: iterations, codes } = settings;
  const eps = step.scalar("epsilon", { kind: "constant", value: epsilon });
  const rows = queue ? [own, queue.scores] : [own]; // [n, K], [queue, K]
  const mask = queue && concat([column(own, 1), column(queue.scores, queue.used)], 0); // [n + queue, 1]
  const shared = step.in("sinkhorn", () => sinkhorn(div(concat(rows, 0), eps), { iterations, mask })); // [n + queue, K]
  const [present] = split(shared, 0, rows); // [n, K]
  return codes === "hard" ? oneHot(present!) : present!;
}

/** The value for each row of x, [rows, 1]. */
const column = (x: Tensor, value: Tensor | number): Tensor => add(zerosLike(slice(x, { 1: [0, 1] })), value);

interface Queued {
  /** By the prototypes of today, [queue, K]. */
  readonly scores: Tensor;
  /** 1 once the queue is full, else 0; []. */
  readonly used: Tensor;
}

/** The queue of a large crop, as it was before its embeddings of this step [n, dim] enter. */
function queued(step: StepScope, name: string, own: Tensor, prototypes: Tensor, settings: Config): Queued {
  const { queue: length, queueStart, dim } = settings;
  const queue = step.buffer(name, [length, dim], ZEROS); // [queue, dim], the newest in front
  const started = step.scalar("queue", { kind: "start", steps: 0, epochs: queueStart });
  const filled = slice(concat([own, queue], 0), { 0: [0, length] }); // [queue, dim]
  step.update(queue, where(greater(started, 0), filled, queue));
  const oldest = slice(queue, { 0: [length - 1, length] }); // [1, dim]
  const used = where(greater(reduceMax(abs(oldest)), 0), started, 0); // []
  return { scores: scoresOf(queue, prototypes), used };
}
