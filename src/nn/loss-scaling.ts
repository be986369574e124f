/**
 * Dynamic loss scaling (Micikevicius et al. 2018, arXiv 1710.03740), by the rule and the settings of PyTorch's GradScaler:
 * small gradients are lost in fp16, so those of a multiple of the loss are computed. A step whose gradients are not all
 * finite is skipped and halves the multiple; 2000 others in a row double it.
 *
 * A step that is skipped changes nothing else. GradScaler leaves parameters and the optimizer's state as they were; here
 * averages, queues, memory banks, prototypes and running statistics rest too. What is no number could come into them from the
 * same forward pass, and an average would otherwise follow parameters that did not move. Scalars that are fed go on with the
 * batches, as schedules of PyTorch do.
 */
import { inScope, type Tensor } from "../graph/tensor.ts";
import { add, div, equal, greaterOrEqual, minimum, mul, where } from "../ops/elementwise.ts";
import { reduceSum } from "../ops/reduce.ts";
import type { Scope } from "./scope.ts";

const INITIAL = 65_536;
const GROWTH = 2;
/** Steps in a row that are not skipped. */
const GROWTH_INTERVAL = 2000;
const BACKOFF = 0.5;
/** The largest power of two in float32: twice as much would be infinite, and halve to infinity. */
const MOST = 2 ** 127;

export interface LossScaling {
  /** What the loss is multiplied by: the gradient with respect to it, from which differentiation begins; float32 []. */
  readonly scale: Tensor;
  /** Steps that were skipped before this one, float32 []. */
  readonly skipped: Tensor;
  /** What gradients of the scaled loss are of the loss itself. */
  unscaled(grads: readonly Tensor[]): readonly Tensor[];
  /**
   * Has all state rest unless each value of these gradients is finite. To be called once all state has its next value.
   *
   * @returns what is worth watching: the scale of this step and the steps skipped so far, float32 [] each
   */
  rest(grads: readonly Tensor[]): Readonly<Record<"lossScale" | "skipped", Tensor>>;
}

/** The scale of a step's loss and its counters, as state of the scope. */
export function lossScaling(s: Scope): LossScaling {
  const here = <T>(body: () => T): T => inScope("lossScaling", body);
  const [scale, good, before] = here(() => [
    s.counter("scale", INITIAL),
    s.counter("good", 0),
    s.counter("skipped", 0),
  ]) as [Tensor, Tensor, Tensor]; // [] each
  return {
    scale,
    skipped: before,
    unscaled: (grads) => here(() => grads.map((grad) => div(grad, scale))), // as the parameters
    rest: (grads) =>
      here(() => {
        const finite = allFinite(grads); // []
        s.restUnless(finite);
        const run = add(good, 1); // []
        const grows = greaterOrEqual(run, GROWTH_INTERVAL); // []
        const larger = where(grows, minimum(mul(scale, GROWTH), MOST), scale); // []
        s.update(scale, where(finite, larger, mul(scale, BACKOFF)));
        s.update(good, where(finite, where(grows, 0, run), 0));
        const skipped = add(before, where(finite, 0, 1)); // []
        s.update(before, skipped);
        return { lossScale: scale, skipped };
      }),
  };
}

/** Whether each value of the tensors is finite, bool []: then 0 times it is 0, and else no number. */
const allFinite = (tensors: readonly Tensor[]): Tensor =>
  equal(tensors.map((t) => reduceSum(mul(t, 0))).reduce(add), 0);
