/** Optimizers as subgraphs: from each parameter's gradient to its next value. */
import * as z from "zod";
import { inScope, type Tensor } from "../graph/tensor.ts";
import { add, div, exp, greater, mul, reciprocal, sqrt, square, sub, where } from "../ops/elementwise.ts";
import { reduceSum } from "../ops/reduce.ts";
import type { Schedule } from "../spec.ts";
import type { Scope, State, Traits } from "./scope.ts";

export interface Hyperparameters {
  /** The peak of the learning rate for 256 images a step; it grows with the batch. */
  readonly lr: number;
  /** Not applied to parameters of one axis (biases, normalisation). */
  readonly weightDecay: number;
  readonly warmupEpochs: number;
  /** The learning rate at the end of its cosine, as a share of the peak. @default 0 */
  readonly finalLr?: number;
  /** In place of the cosine: multiplied by `factor` at each share of the run in `at`. */
  readonly drops?: { readonly factor: number; readonly at: readonly number[] };
  /** The learning rate of parameters of one axis, as a multiple of that of the others. @default 1 */
  readonly biasLr?: number;
}

export interface Optimizer {
  readonly config: z.ZodType<Record<string, number | boolean>>;
  /** For all parameters with the same rates: a function that gives a parameter's next value and updates its slots. */
  readonly step: (rates: Rates, config: never) => Update;
  /** Where a step is the learning rate times a direction that does not depend on it: a function that gives that. */
  readonly direction?: ((rates: Pick<Rates, "weightDecay">, config: never) => Update) | undefined;
}
type Update = (s: Scope, param: State, grad: Tensor) => Tensor;
interface Rates {
  readonly lr: Tensor;
  readonly weightDecay: Tensor;
  /** Counted from 1. */
  readonly step: () => Tensor;
}

const define = <C extends Record<string, number | boolean>>(o: {
  config: z.ZodType<C>;
  step: (rates: Rates, config: C) => Update;
  direction?: (rates: Pick<Rates, "weightDecay">, config: C) => Update;
}): Optimizer => o;

const decayed = (param: State, grad: Tensor, weightDecay: Tensor): Tensor =>
  param.decay ? add(grad, mul(param.value, weightDecay)) : grad;

interface Momentum {
  readonly momentum: number;
  readonly nesterov: boolean;
}

const withMomentum =
  ({ weightDecay }: Pick<Rates, "weightDecay">, { momentum, nesterov }: Momentum): Update =>
  (s, param, grad) => {
    const g = decayed(param, grad, weightDecay); // as the parameter, like all below
    const slot = s.slot(param, "momentum");
    const v = add(mul(slot, momentum), g);
    s.update(slot, v);
    return nesterov ? add(g, mul(v, momentum)) : v;
  };

/** Momentum as PyTorch has it: v = momentum v + g, w = w - lr v; the learning rate lies outside the momentum. */
const sgd = define({
  config: z.strictObject({
    momentum: z.number().min(0).max(1).default(0.9),
    nesterov: z.boolean().default(false),
  }),
  step(rates, config) {
    const direction = withMomentum(rates, config);
    return (s, param, grad) => sub(param.value, mul(direction(s, param, grad), rates.lr));
  },
  direction: withMomentum,
});

/**
 * LARS (You et al. 2017) as SimCLR's authors run it: the learning rate, times trust |w| / |g|, lies inside the
 * momentum. Parameters of one axis have neither weight decay nor trust ratio.
 */
const lars = define({
  config: z.strictObject({
    momentum: z.number().min(0).max(1).default(0.9),
    trust: z.number().positive().default(0.001),
  }),
  step:
    ({ lr, weightDecay }, { momentum, trust }) =>
    (s, param, grad) => {
      const g = decayed(param, grad, weightDecay); // as the parameter, like all below
      const slot = s.slot(param, "momentum");
      const v = add(
        mul(slot, momentum),
        mul(g, param.decay ? mul(lr, trustRatio(param.value, g, trust)) : lr),
      );
      s.update(slot, v);
      return sub(param.value, v);
    },
});

/** trust |w| / |g|, or 1 where either is 0; float32 []. */
function trustRatio(w: Tensor, g: Tensor, trust: number): Tensor {
  const [weight, gradient] = [w, g].map((t) => sqrt(reduceSum(square(t)))); // []
  const both = mul(weight!, gradient!); // []
  return where(greater(both, 0), mul(div(weight!, where(greater(both, 0), gradient!, 1)), trust), 1);
}

/** Adam with decoupled weight decay (Loshchilov and Hutter 2019), decay times learning rate as in PyTorch. */
const adamw = define({
  config: z.strictObject({
    beta1: z.number().min(0).max(1).default(0.9),
    beta2: z.number().min(0).max(1).default(0.999),
    eps: z.number().positive().default(1e-8),
  }),
  step: ({ lr, weightDecay, step }, { beta1, beta2, eps }) => {
    const corrected = (beta: number) => sub(1, exp(mul(step(), Math.log(beta)))); // []
    const rate = div(lr, corrected(beta1)); // []
    const scale = reciprocal(sqrt(corrected(beta2))); // []
    const kept = sub(1, mul(lr, weightDecay)); // []
    return (s, param, grad) => {
      const first = s.slot(param, "moment1");
      const second = s.slot(param, "moment2");
      const m = add(mul(first, beta1), mul(grad, 1 - beta1)); // as the parameter, like all below
      const v = add(mul(second, beta2), mul(square(grad), 1 - beta2));
      s.update(first, m);
      s.update(second, v);
      const root = add(mul(sqrt(v), scale), eps);
      return sub(param.decay ? mul(param.value, kept) : param.value, div(mul(m, rate), root));
    };
  },
});

export const optimizers: Readonly<Record<string, Optimizer>> = { sgd, lars, adamw };

/**
 * Updates every parameter of the scope from its gradient, in the name scope "update".
 *
 * @param skipped steps before this one that were none to the optimizer, float32 []
 */
export function applyOptimizer(
  s: Scope,
  optimizer: Optimizer,
  config: unknown,
  grads: ReadonlyMap<State, Tensor>,
  choice: Hyperparameters,
  skipped?: Tensor,
): void {
  const { lr, weightDecay, biasLr = 1 } = choice;
  const rate = s.scalar("lr", lrSchedule(choice), "linear");
  const constantRate = () => s.scalar("lr.constant", { kind: "constant", value: lr }, "linear");
  const groupRate = ({ name, times }: NonNullable<Traits["ownRate"]>) =>
    s.scalar(`lr.${name}`, lrSchedule({ ...choice, lr: lr * times }), "linear");
  const decay = s.scalar("weightDecay", { kind: "constant", value: weightDecay });
  const step = () => {
    const run = s.scalar("step", { kind: "step" }); // []
    return skipped ? sub(run, skipped) : run; // []
  };
  const updates = new Map<string, Update>();
  const updateOf = ({ name, decay: weighs, traits }: State): Update => {
    const { constantRate: constant = false, ownRate, rate: rateOf } = traits;
    const factor = (weighs ? 1 : biasLr) * (rateOf?.(name) ?? 1);
    const key = `${constant} ${ownRate?.name} ${factor}`;
    const known = updates.get(key);
    if (known) return known;
    const own = constant ? constantRate() : ownRate ? groupRate(ownRate) : rate;
    const lr = factor === 1 ? own : mul(own, factor);
    const update = optimizer.step({ lr, weightDecay: decay, step }, config as never);
    updates.set(key, update);
    return update;
  };
  for (const [param, grad] of grads)
    inScope("update", () => {
      const update = updateOf(param);
      inScope(param.name, () => s.update(param.tensor, update(s, param, grad)));
    });
}

/**
 * The direction of each parameter's step from its gradient, in the name scope "update".
 *
 * @throws Error unless the optimizer has one
 */
export function applyDirection(
  s: Scope,
  { direction }: Optimizer,
  config: unknown,
  grads: ReadonlyMap<State, Tensor>,
  { weightDecay }: Hyperparameters,
): Tensor[] {
  if (!direction) throw new Error("an optimizer whose step is no direction times the learning rate");
  const rates = { weightDecay: s.scalar("weightDecay", { kind: "constant", value: weightDecay }) };
  const update = direction(rates, config as never);
  return [...grads].map(([param, grad]) =>
    inScope("update", () => inScope(param.name, () => update(s, param, grad))),
  );
}

/** Of `lr`, for 256 images a step. */
export function lrSchedule({ lr, warmupEpochs, finalLr = 0, drops }: Hyperparameters): Schedule {
  return drops
    ? { kind: "steps", from: lr, ...drops, warmupEpochs }
    : { kind: "cosine", from: lr, to: lr * finalLr, warmupEpochs };
}
