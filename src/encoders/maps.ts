/** Stages of an encoder as feature maps, for what predicts something at each place. */
import type { Tensor } from "../graph/tensor.ts";
import type { Stage } from "./encoder.ts";
import { mapOf } from "./pooled.ts";

/** Maps that are taken of a residual network: those of strides 8, 16 and 32 where it has the stem for large images. */
const LAST = 3;

/**
 * Feature maps [n, c, h, w], finest first: of residual networks those of the last three stages, of a ViT the patches of its
 * last block, as ViTDet takes them (Li et al. 2022, arXiv 2203.16527).
 */
export function mapsOf(stages: readonly Stage[]): readonly Tensor[] {
  const maps = stages.map(({ x }) => x).filter(({ shape }) => shape.length === 4);
  if (maps.length > 0) return maps.slice(-LAST);
  return [mapOf(stages.map(({ x }) => x).findLast(({ shape }) => shape.length === 3)!)]; // [n, width, g, g]
}
