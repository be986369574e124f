/** Patches of a 3x3 grid, as relative position, the jigsaw puzzle and PIRL take them. */
import type { Tensor } from "../graph/tensor.ts";
import { div, maximum, sqrt, square, sub } from "../ops/elementwise.ts";
import { reduceMean } from "../ops/reduce.ts";
import type { ViewRecipe } from "../spec.ts";

export const GRID = 3;

/** Height and width of a patch for images of that size: 56 px for 224, 8 for 32. */
export const patchSize = (imageSize: number): number => Math.max(1, Math.round(imageSize / 4));

/** The same where the encoder sees patches alone: those of small images are enlarged, for it makes little of 8 px. */
export const lonePatchSize = (imageSize: number): number => Math.max(16, patchSize(imageSize));

export interface GridPatch {
  /** Cells that it may come from, counted by rows. */
  readonly cells: readonly number[];
  /** Least share of the image's area in the crop that is cut into cells. */
  readonly cropScale: number;
  /** Side of the patch over that of its cell. */
  readonly side: number;
  /** Share of the gap that it moves in. */
  readonly jitter: number;
}

/** Colours drawn anew: brightness, contrast and saturation by up to `strength`, hue by up to half of it. */
export const colorJitter = (strength: number): ViewRecipe["jitter"] => ({
  p: strength > 0 ? 0.8 : 0,
  brightness: strength,
  contrast: strength,
  saturation: strength,
  hue: strength / 2,
});

/**
 * A patch of `size` pixels from a cell of the image's crop, in the colours of the image. All patches of an image have
 * one crop, one flip and one choice of cells; where a patch lies in its cell is its own.
 */
export function gridPatch(size: number, { cells, cropScale, side, jitter }: GridPatch): ViewRecipe {
  return {
    size,
    crop: { scale: [cropScale, 1], ratio: [3 / 4, 4 / 3] },
    flip: 0.5,
    group: { name: "grid", color: false },
    patch: { grid: GRID, cells, side, jitter },
    jitter: colorJitter(0),
    grayscale: 0,
    blur: { p: 0, sigma: [0.1, 2] },
    solarize: 0,
  };
}

/**
 * Each patch [rows, 3, p, p] with mean 0 and standard deviation 1 over all its values, so that neither brightness nor
 * contrast tells which patches belong together. A deviation below 1 / sqrt(number of values) counts as that, lest an
 * even patch become noise.
 */
export function standardize(patches: Tensor): Tensor {
  const axes = [1, 2, 3];
  const [, c, h, w] = patches.shape as [never, number, number, number];
  const centred = sub(patches, reduceMean(patches, { axes, keep: true })); // [rows, 3, p, p]
  const variance = reduceMean(square(centred), { axes, keep: true }); // [rows, 1, 1, 1]
  return div(centred, sqrt(maximum(variance, 1 / (c * h * w)))); // [rows, 3, p, p]
}
