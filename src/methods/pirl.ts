/**
 * PIRL (Misra and van der Maaten 2019, arXiv 1912.01991): an image and a transformed copy of it, cut into shuffled
 * patches or turned, must both find the image's row in a memory bank, so that the features do not depend on the
 * transformation.
 */
import * as z from "zod";
import type { Tensor } from "../graph/tensor.ts";
import { linear } from "../nn/layers.ts";
import { add, mul } from "../ops/elementwise.ts";
import { concat, split } from "../ops/movement.ts";
import { unsplit } from "../ops/pieces.ts";
import { normalize } from "../ops/reduce.ts";
import type { ViewRecipe } from "../spec.ts";
import { bankChance, contrastWithBank, memoryBank, remember } from "./memory-bank.ts";
import type { Method, StepScope } from "./method.ts";
import { gridPatch, patchSize } from "./patches.ts";
import { permutations } from "./permutations.ts";
import { fraction, randomView, SMALL, share, viewSize } from "./views.ts";

const config = (imageSize: number, multiple = 1) =>
  z.strictObject({
    /** Nine shuffled patches, or the image rotated by 0 to 3 quarter turns. */
    transform: z.enum(["jigsaw", "rotation"]).default("jigsaw"),
    /**
     * "softmax": the paper's equations 4 and 5. "nce": with a constant partition function, as the authors' code has it.
     * "infonce": the first term of "softmax" alone.
     */
    loss: z.enum(["softmax", "nce", "infonce"]).default("softmax"),
    /** Lambda: the share of the transformed image's loss. */
    weight: fraction.default(0.5),
    temperature: z.number().positive().default(0.07),
    /** Rows of other images that each batch is scored against; its images share them. */
    negatives: z
      .int()
      .positive()
      .default(imageSize <= SMALL ? 4096 : 32_000),
    /** Share of its old value that a row of the bank keeps when its image is seen. */
    momentum: fraction.default(0.5),
    /** Length of an embedding, and of each patch's. */
    dim: z.int().positive().default(128),
    /** Orders that the patches may come in. */
    permutations: z.int().min(1).max(10_000).default(100),
    /** Height and width of a patch, pixels; a quarter of the image's. */
    patch: viewSize(patchSize(imageSize), multiple),
    /** Least share of the image's area in a crop, and in the crop that the patches are cut from. */
    cropScale: share.default(0.08),
    patchCropScale: share.default(0.6),
    /** Brightness, contrast and saturation; half of it for hue. Always, each patch by itself. */
    jitter: fraction.default(0.4),
    grayscale: fraction.default(0.2),
  });
type Config = z.infer<ReturnType<typeof config>>;

export const pirl: Method<Config> = {
  name: "pirl",
  paper: "Self-Supervised Learning of Pretext-Invariant Representations, arXiv 1912.01991",
  config,
  views: (config, size) => {
    const { transform, cropScale, jitter, grayscale } = config;
    const image = randomView(size, {
      scale: [cropScale, 1],
      jitter: [jitter, jitter, jitter, jitter / 2],
      jitterP: 1,
      grayscale,
    });
    return [image, ...(transform === "jigsaw" ? tiles(config, image) : [{ ...image, turn: true }])];
  },
  // The paper's 0.12 is for batches of 1024; it ends at 1.2e-4.
  optimizer: () => ({ name: "sgd", lr: 0.03, weightDecay: 1e-4, warmupEpochs: 0, finalLr: 1e-3 }),
  chance: ({ loss }) => bankChance(loss),
  build: (step, { transform, loss, weight, temperature, negatives, momentum, dim }) => {
    const [image, ...others] = step.views as [Tensor, ...Tensor[]];
    // The transformed first, so that the running statistics end on those of whole images.
    const g = normalize(
      transform === "jigsaw" ? embedTiles(step, others, dim) : embed(step, others[0]!, dim, "rotation"),
    ); // [n, dim]
    const f = normalize(embed(step, image, dim, "projector")); // [n, dim]
    const bank = memoryBank(step, f, dim, negatives);
    const tau = step.scalar("temperature", { kind: "constant", value: temperature });
    const [ofG, ofF] = [g, f].map((v) => contrastWithBank(step, loss, v, bank, tau));
    remember(step, bank, f, momentum);
    return {
      loss: add(mul(ofG!.loss, weight), mul(ofF!.loss, 1 - weight)),
      metrics: { accuracy: ofF!.accuracy, transformedAccuracy: ofG!.accuracy },
      embedding: f,
    };
  },
};

/** The authors' 64 px patches of 85 px cells, at any place in them. */
const [SIDE, FREE] = [64 / 85, 1];

/** Nine patches of one crop in an order drawn for the image, in colours of their own. */
function tiles(
  { permutations: count, patch, patchCropScale: cropScale }: Config,
  { jitter, grayscale }: ViewRecipe,
): readonly ViewRecipe[] {
  const orders = permutations(count);
  return orders[0]!.map((_, place) => ({
    ...gridPatch(patch, {
      cells: orders.map((order) => order[place]!),
      cropScale,
      side: SIDE,
      jitter: FREE,
    }),
    jitter,
    grayscale,
  }));
}

/** Nine patches [n, 3, p, p], each to `dim` values, in their order and all together: [n, dim]. */
function embedTiles(step: StepScope, patches: readonly Tensor[], dim: number): Tensor {
  const each = embed(step, unsplit(patches), dim, "patches"); // [9n, dim]
  const row = concat(split(each, 0, patches), 1); // [n, 9 dim]
  return step.in("jigsaw", () => linear(step, "0", row, { out: dim })); // [n, dim]
}

/** Views [rows, 3, s, s] -> [rows, dim]. */
const embed = (step: StepScope, views: Tensor, dim: number, head: string): Tensor => {
  const h = step.encode(views); // [rows, features]
  return step.in(head, () => linear(step, "0", h, { out: dim }));
};
