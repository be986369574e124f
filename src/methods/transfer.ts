/**
 * What methods share that train an encoder further: rates by stage, and averages of the weights. Rates that fall from layer
 * to layer are those of BEiT (Bao et al. 2022, arXiv 2106.08254).
 */
import * as z from "zod";
import { unknownName } from "../errors.ts";
import type { Tensor } from "../graph/tensor.ts";
import { add, div, greater, where } from "../ops/elementwise.ts";
import type { Stages, StepScope } from "./method.ts";
import { fraction, type RandomView, share } from "./views.ts";

export const transferSettings = {
  /** Strength of brightness, contrast and saturation, changed in each image; 0 leaves colours as they are. */
  jitter: fraction.default(0),
  /** The colours of RandAugment; left out where there is none. */
  randAugment: z
    .strictObject({ operations: z.int().min(1).max(100), magnitude: z.number().min(0).max(30) })
    .optional(),
  /** Stages up to this one, which is the last of them, stay as they are; null trains all. */
  freezeUntil: z.string().max(100).nullable().default(null),
  /** The learning rate of a stage over that of the next one. */
  layerDecay: share.default(1),
  /** Share of the old value that moving averages of the weights keep, which are exported; 0 exports the weights. */
  ema: z.number().min(0).lt(1).default(0),
};

interface RateSettings {
  readonly freezeUntil: string | null;
  readonly layerDecay: number;
}

/** Stands for the last stage: the head alone is trained. */
const ALL = "features";

/** By a parameter's name, what its learning rate is multiplied with; that of the last stage by one decay. */
export function ratesOf(
  { names, of }: Stages,
  { freezeUntil, layerDecay }: RateSettings,
): (name: string) => number {
  const last = freezeUntil === ALL ? names.length - 1 : names.indexOf(freezeUntil ?? "");
  if (freezeUntil !== null && last < 0) throw unknownName("stage", freezeUntil, [...names, ALL]);
  return (name) => {
    const stage = of.get(name) ?? 0;
    return stage <= last ? 0 : layerDecay ** (names.length - stage);
  };
}

/** Keeps averages of all state, and less of the old value at first: see `warmedDecay`. Nothing where the share is 0. */
export function keepAverages(step: StepScope, ema: number): void {
  if (ema > 0) step.keepAverages(warmedDecay(step, ema));
}

/** The decay, less at first, for the start not to stay in the averages of a short run: (1 + t) / (10 + t) of step t; []. */
function warmedDecay(step: StepScope, ema: number): Tensor {
  const t = step.scalar("step", { kind: "step" }); // []
  const early = div(add(t, 1), add(t, 10)); // []
  return where(greater(early, ema), ema, early);
}

/** Which weights a method with these settings exports. */
export const exported = ({ ema }: { readonly ema: number }) => (ema > 0 ? "average" : "trained");

/** What a view changes of an image's colours. */
export const coloursOf = ({
  jitter,
  randAugment,
}: {
  readonly jitter: number;
  readonly randAugment?: RandomView["randAugment"];
}): RandomView => ({
  jitter: [jitter, jitter, jitter, 0],
  jitterP: jitter === 0 ? 0 : 1,
  randAugment,
  grayscale: 0,
});
