/**
 * Lines of large views in blocks: the outputs of a block are made together, from one window of inputs. What each output
 * takes from all others is zero, and so not multiplied.
 */
import { multiplyDims } from "../graph/dims.ts";
import type { Tensor } from "../graph/tensor.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { reshape, transpose } from "../ops/movement.ts";

/** Outputs of a block. */
export const BLOCK = 32;

/** Whether lines of that many outputs are made in blocks. */
export const inBlocks = (size: number): boolean => size % BLOCK === 0 && size >= 3 * BLOCK;

/**
 * Windows of lines [..., blocks, window, m] by weights [..., blocks, 32, window] -> [..., m, size]. Turned on the way, so
 * that runs of 32 values are moved rather than single ones. Symbolic sizes are read off `from` and the windows.
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
