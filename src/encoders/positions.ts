/**
 * Position embeddings for views of another size: their grid resampled by bicubic interpolation, as DINO has it (Caron et
 * al. 2021, arXiv 2104.14294).
 */
import type { Tensor } from "../graph/tensor.ts";
import { matmul } from "../ops/matmul.ts";
import { table } from "../ops/movement.ts";

/** Parameter of cubic convolution (Keys 1981), as PyTorch takes it. */
const A = -0.75;

/** Weight of a value at this distance, in steps of the grid that is read. */
function cubic(distance: number): number {
  const d = Math.abs(distance);
  if (d <= 1) return ((A + 2) * d - (A + 3)) * d * d + 1;
  return d < 2 ? A * (((d - 5) * d + 8) * d - 4) : 0;
}

/** Weights [to, from] of values along an axis, the outermost repeated beyond the ends. */
function cubicWeights(from: number, to: number): number[][] {
  return Array.from({ length: to }, (_, i) => {
    const at = ((i + 0.5) * from) / to - 0.5;
    const first = Math.floor(at) - 1;
    const row = Array<number>(from).fill(0);
    for (let j = first; j < first + 4; j++) row[Math.min(Math.max(j, 0), from - 1)]! += cubic(at - j);
    return row;
  });
}

/**
 * Embeddings [1, 1 + from * from, width] of the class token, which stays, and of a grid -> those of a grid of `to` x `to`:
 * [1, 1 + to * to, width]. One product with a constant, so that it has its gradient.
 *
 * Both grids span the whole view: PyTorch's `interpolate(size=(to, to), mode="bicubic")`. DINO's authors give it a factor
 * of (to + 0.1) / from instead, lest rounding leave out a row; that moves the grid towards its first corner, by a fifth of
 * a patch at the other end for 6 of 14. With sizes nothing is rounded, and a flipped grid gives the flipped result.
 */
export function resamplePositions(positions: Tensor, from: number, to: number): Tensor {
  if (from === to) return positions;
  const weights = cubicWeights(from, to); // [to, from]
  const cells = weights.flatMap((down) =>
    weights.map((across) => [0, ...down.flatMap((d) => across.map((a) => d * a))]),
  );
  const token = cells[0]!.map((_, i) => (i === 0 ? 1 : 0));
  return matmul(table([token, ...cells]), positions); // [1, 1 + to * to, width]
}
