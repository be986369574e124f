/** Recipes of views, from what methods say of theirs. */
import * as z from "zod";
import type { RandAugment, ViewRecipe } from "../spec.ts";

/** Up to this many pixels the settings that the papers and their followers give for CIFAR hold. */
export const SMALL = 64;

/** A setting from 0 to 1. */
export const fraction = z.number().min(0).max(1);
/** A setting above 0, up to 1. */
export const share = z.number().positive().max(1);

/** Height and width of a view, pixels: a multiple of what the encoder asks for, by default the one nearest to `size`. */
export const viewSize = (size: number, multiple: number) => {
  const nearest = (to: number) => Math.max(1, Math.round(to / multiple)) * multiple;
  return z
    .int()
    .positive()
    .refine((given) => given % multiple === 0, {
      error: ({ input }) =>
        `expected a multiple of ${multiple}, the encoder's patch, found ${input}; the nearest is ${nearest(input as number)}`,
    })
    .default(nearest(size));
};

export interface RandomView {
  /** Share of the image's area in a crop. @default [0.08, 1] */
  readonly scale?: readonly [number, number];
  /** Brightness, contrast, saturation, hue. @default [0.4, 0.4, 0.4, 0.1] */
  readonly jitter?: readonly [number, number, number, number];
  /** Probability of jitter. @default 0.8 */
  readonly jitterP?: number;
  /** @default none */
  readonly randAugment?: RandAugment | undefined;
  /** Probability of grayscale. @default 0.2 */
  readonly grayscale?: number;
  /** Probability of blur. @default 0 */
  readonly blur?: number;
  /** Probability of solarize. @default 0 */
  readonly solarize?: number;
  /** Probability of a flip. @default 0.5 */
  readonly flip?: number;
}

/** A random resized crop, flipped, with jittered colours: what contrastive methods take. */
export function randomView(size: number, view: RandomView = {}): ViewRecipe {
  const { scale = [0.08, 1], jitter = [0.4, 0.4, 0.4, 0.1], jitterP = 0.8 } = view;
  const { grayscale = 0.2, blur = 0, solarize = 0, flip = 0.5 } = view;
  const [brightness, contrast, saturation, hue] = jitter;
  return {
    size,
    crop: { scale, ratio: [3 / 4, 4 / 3] },
    flip,
    jitter: { p: jitterP, brightness, contrast, saturation, hue },
    ...(view.randAugment && { randAugment: view.randAugment }),
    grayscale,
    blur: { p: blur, sigma: [0.1, 2] },
    solarize,
  };
}

/** Settings of BYOL's views (its appendix B), which Barlow Twins and VICReg took over; small images stay sharp. */
export const viewSettings = (imageSize: number) => {
  const small = imageSize <= SMALL;
  return {
    /** Least share of the image's area in a crop. */
    cropScale: share.default(0.08),
    /** Probability of Gaussian blur in either view. */
    blur: z.tuple([fraction, fraction]).default(small ? [0, 0] : [1, 0.1]),
    /** Probability of solarize in either view. */
    solarize: z.tuple([fraction, fraction]).default(small ? [0, 0] : [0, 0.2]),
  };
};

export interface ViewSettings {
  readonly cropScale: number;
  readonly blur: readonly [number, number];
  readonly solarize: readonly [number, number];
}

/** Two views that differ in blur and solarize. */
export const twoViews = (size: number, { cropScale, blur, solarize }: ViewSettings): readonly ViewRecipe[] =>
  ([0, 1] as const).map((i) =>
    randomView(size, {
      scale: [cropScale, 1],
      jitter: [0.4, 0.4, 0.2, 0.1],
      blur: blur[i],
      solarize: solarize[i],
    }),
  );
