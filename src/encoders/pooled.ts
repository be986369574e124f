/**
 * Stages of an encoder in the form that a classifier is trained on. Of images: average-pooled to about 9,000 values, so that
 * layers of many places and of many channels compare (Goyal et al. 2019, arXiv 1905.01235, section 4, from Zhang et al.
 * 2017). Of pixels: the whole map.
 */
import { fixed, type Tensor } from "../graph/tensor.ts";
import { matmul } from "../ops/matmul.ts";
import { concat, reshape, slice, table, transpose } from "../ops/movement.ts";
import type { Dim } from "../spec.ts";

/** Values of a stage, about. */
const VALUES = 9000;

/** The side of the grid, at most `size`, with which `channels` x grid^2 comes nearest to 9,000. */
export function gridFor(channels: number, size: number): number {
  const off = (grid: number) => Math.abs(channels * grid ** 2 - VALUES);
  const least = Math.max(1, Math.floor(Math.sqrt(VALUES / channels)));
  return Math.min(size, off(least + 1) < off(least) ? least + 1 : least);
}

/**
 * A stage as [n, channels, places]: a feature map [n, c, h, w] over a grid of `gridFor`; tokens [n, t, width] with a width
 * for channels, first the class token, if there is one, and then the grid of the patches, the last g^2 tokens of the largest g;
 * features [n, d] in one place.
 */
export function pooledStage(x: Tensor): Tensor {
  const n = x.shape[0]!;
  if (x.shape.length === 2) return reshape(x, [n, x.shape[1]!, 1]);
  const grid = overGrid(mapOf(x)); // [n, c, grid^2]
  if (x.shape.length === 4 || firstPatch(x) === 0) return grid;
  const token = transpose(slice(x, { 1: [0, 1] }), [0, 2, 1]); // [n, width, 1]
  return concat([token, grid], 2); // [n, width, 1 + grid^2]
}

/** A stage that has places, as [n, channels, s^2]: its feature map, or the grid of its patches. */
export function mapStage(x: Tensor): Tensor {
  const map = mapOf(x);
  const [n, c, size] = [map.shape[0]!, fixed(map.shape[1], "channels"), fixed(map.shape[2], "height")];
  return reshape(map, [n, c, size ** 2]);
}

/** What a stage is given as, by name. */
export const STAGE_FORMS = { pooled: pooledStage, map: mapStage } as const;
export type StageForm = keyof typeof STAGE_FORMS;

/** Feature maps as they are; of tokens [n, t, width] those of patches, [n, width, g, g]. */
export function mapOf(x: Tensor): Tensor {
  if (x.shape.length === 4) return x;
  const [n, tokens, width] = x.shape as [Dim, number, number];
  const first = firstPatch(x);
  const side = Math.sqrt(tokens - first);
  const patches = transpose(slice(x, { 1: [first, tokens] }), [0, 2, 1]); // [n, width, g^2]
  return reshape(patches, [n, width, side, side]);
}

/** Tokens before the patches: the class token and registers. */
function firstPatch(x: Tensor): number {
  const tokens = fixed(x.shape[1], "number of tokens");
  return tokens - Math.floor(Math.sqrt(tokens)) ** 2;
}

/** Adaptive average pooling of [n, c, s, s], as PyTorch defines it: [n, c, grid^2]. */
function overGrid(x: Tensor): Tensor {
  const [n, c, size] = [x.shape[0]!, fixed(x.shape[1], "channels"), fixed(x.shape[2], "height")];
  const grid = gridFor(c, size);
  const rows = table(
    Array.from({ length: grid }, (_, i) => {
      const [from, to] = [Math.floor((i * size) / grid), Math.ceil(((i + 1) * size) / grid)];
      return Array.from({ length: size }, (_, at) => (at >= from && at < to ? 1 / (to - from) : 0));
    }),
  ); // [grid, s]
  return reshape(matmul(rows, matmul(x, transpose(rows))), [n, c, grid ** 2]);
}
