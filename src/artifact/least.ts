/** How few images a step can work with. */
import { evaluateDim } from "../graph/dims.ts";
import { reach } from "../graph/model.ts";
import type { Tensor } from "../graph/tensor.ts";
import { statisticsOver } from "../ops/normalization.ts";
import type { Least } from "../spec.ts";

export interface Wanted {
  /** The number of images is a multiple of this. @default 1 */
  readonly unit?: number;
  /** The setting that asks for it, which splits the images in so many parts. */
  readonly splits?: string | undefined;
  /** What a method wants of itself. */
  readonly least?: Least | undefined;
  /** As for `reach`. */
  readonly given?: ReadonlyMap<Tensor, string> | undefined;
}

/**
 * The least number of images, n times `unit`, with which all that leads to `outputs` has what it needs; undefined where
 * `unit` does. Batch statistics need two values of each channel, for the variance that is kept is divided by their number
 * less one. Where all are of one image they need three: two views of it would come out opposite, whatever they show.
 */
export function leastOf(outputs: readonly Tensor[], wanted: Wanted = {}): Least | undefined {
  const { unit = 1, splits, least: own, given } = wanted;
  let most: Least = own ?? { images: 1, why: "" };
  for (const node of reach(outputs, given).nodes) {
    const values = statisticsOver(node);
    if (values === undefined) continue;
    let n = 1;
    while (evaluateDim(values, { n }) < (n * unit > 1 ? 2 : 3)) n++;
    if (n === 1 || n * unit <= most.images) continue;
    const part = node.scope.split(".")[0] || "loss";
    const each = splits === undefined ? "" : ` of each of its ${splits}`;
    most = { images: n * unit, why: `its ${part} takes batch statistics over the images${each}` };
  }
  return most.images > unit ? most : undefined;
}
