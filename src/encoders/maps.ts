/** Stages of an encoder as feature maps, for what predicts something at each place. */
import { fixed, type Tensor } from "../graph/tensor.ts";
import { reshape, slice, transpose } from "../ops/movement.ts";
import type { Stage } from "./encoder.ts";

/** Maps that are taken of a residual network: those of strides 8, 16 and 32 where it has the stem for large images. */
const LAST = 3;

/**
 * Feature maps [n, c, h, w], finest first: of residual networks those of the last three stages, of a ViT the patches of its
 * last block, as ViTDet takes them (Li et al. 2022, arXiv 2203.16527).
 */
export function mapsOf(stages: readonly Stage[]): readonly Tensor[] {
  const maps = stages.map(({ x }) => x).filter(({ shape }) => shape.length === 4);
  if (maps.length > 0) return maps.slice(-LAST);
  const tokens = stages.map(({ x }) => x).findLast(({ shape }) => shape.length === 3)!; // [n, 1 + g^2, width]
  const [n, count, width] = tokens.shape as [Tensor["shape"][0], number, number];
  const side = fixed(Math.sqrt(count - 1), "grid");
  const patches = slice(tokens, { 1: [1, count] }); // [n, g^2, width]
  return [reshape(transpose(patches, [0, 2, 1]), [n!, width, side, side])]; // [n, width, g, g]
}
