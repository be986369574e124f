/**
 * Large views in blocks along an axis: the outputs of a block are computed together, from one window of inputs. The
 * weights of all other inputs are zero, and so not multiplied.
 */
import { multiplyDims } from "../graph/dims.ts";
import type { Tensor } from "../graph/tensor.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { reshape, transpose } from "../ops/movement.ts";

/** Outputs of a block. */
export const BLOCK = 32;

/** Whether so many outputs along an axis are computed in blocks. */
export const inBlocks = (size: number): boolean => size % BLOCK === 0 && size >= 3 * BLOCK;

/**
 * Products of windows [..., blocks, window, m] with weights [..., blocks, 32, window] -> [..., m, size]. Computed
 * transposed, so that the blocks are put in place by copying runs of 32 values rather than single ones. Symbolic
 * sizes are read from the windows and `from`.
 */
export function byBlock(windows: Tensor, weights: Tensor, ...from: readonly Tensor[]): Tensor {
  const apart = matmul(swap(windows), swap(weights)); // [..., blocks, m, 32]
  const rank = apart.shape.length;
  const [blocks, m] = [apart.shape.at(-3) as number, apart.shape.at(-2)!];
  const leading = apart.shape.slice(0, -3);
  const order = [...leading.map((_, i) => i), rank - 2, rank - 3, rank - 1];
  const whole = multiplyDims(blocks, BLOCK);
  return reshape(transpose(apart, order), [...leading, m, whole], windows, ...from); // [..., m, size]
}
