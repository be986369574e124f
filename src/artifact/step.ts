/** A training step as graphs: forward pass, backward pass and update in one, or in four for batches larger than memory. */
import { expected } from "../errors.ts";
import { type BuildOptions, buildModel, reach } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { input, scalar, type Tensor } from "../graph/tensor.ts";
import type { Method, OptimizerChoice, Step } from "../methods/method.ts";
import { lossScaling } from "../nn/loss-scaling.ts";
import { applyDirection, applyOptimizer, optimizers } from "../nn/optimizers.ts";
import type { State } from "../nn/scope.ts";
import { add, mul } from "../ops/elementwise.ts";
import { gradients } from "../ops/gradients.ts";
import { reduceSum } from "../ops/reduce.ts";
import { target } from "../ops/target.ts";
import type { Manifest, StepGraph } from "../spec.ts";
import { settled } from "./in-place.ts";
import type { TrainingScope } from "./scope.ts";

/** The name of the output that holds a state tensor's next value. */
export const nextOf = (state: string): string => `${state}.next`;

type Tensors = Record<string, Tensor>;

export const watched = ({ loss, metrics, embedding }: Step): Tensors => ({ loss, ...metrics, embedding });

export const nexts = (states: readonly State[]): Tensors =>
  Object.fromEntries(states.map((s) => [nextOf(s.name), s.next ?? s.tensor]));

const inputsOf = (scope: TrainingScope): readonly Tensor[] => [
  ...scope.scalars.map((s) => s.tensor),
  ...scope.permutations.values(),
  ...scope.supervision.inputs,
  ...scope.inputs,
];

/** Gives each parameter its next value from its gradient, in the order of `scope.params`. */
function optimize(
  scope: TrainingScope,
  choice: OptimizerChoice,
  grads: readonly Tensor[],
  skipped?: Tensor,
): void {
  const optimizer = optimizers[choice.name]!;
  const byParam = new Map<State, Tensor>(scope.params.map((p, i) => [p, grads[i]!]));
  applyOptimizer(scope, optimizer, optimizer.config.parse(choice.config ?? {}), byParam, choice, skipped);
}

/**
 * The method's loss in the scope, its gradients, and the optimizer's update: the step's outputs by name. For fp16 the loss
 * is scaled (see `lossScaling`).
 */
export function trainingStep<C>(
  scope: TrainingScope,
  method: Method<C>,
  config: C,
  choice: OptimizerChoice,
  precision?: Manifest["precision"],
) {
  const built = method.build(scope, config);
  const [tensors, values] = [scope.params.map((p) => p.tensor), scope.params.map((p) => p.value)];
  const others = Object.values({ ...watched(built), ...nexts(scope.all) });
  const scaling = precision && lossScaling(scope);
  const found = gradients(built.loss, values, scaling?.scale);
  const grads = target().settles ? settled(tensors, found, others) : found;
  optimize(scope, choice, scaling?.unscaled(grads) ?? grads, scaling?.skipped);
  const step = { ...built, metrics: { ...built.metrics, ...scaling?.rest(grads) } };
  return { step, outputs: { ...watched(step), ...nexts(scope.all) }, inputs: inputsOf(scope) };
}

/**
 * The step for an optimizer that lies outside of it: in place of what the parameters become, the gradients with respect to
 * them, "gradient.NAME", or the directions of an optimizer whose step is the learning rate times one.
 */
export function gradientStep<C>(
  scope: TrainingScope,
  method: Method<C>,
  config: C,
  { name, config: settings, ...choice }: OptimizerChoice,
) {
  const step = method.build(scope, config);
  const { params } = scope;
  const values = params.map((p) => p.tensor);
  const byParam = new Map(gradients(step.loss, values).map((grad, i) => [params[i]!, grad]));
  const optimizer = optimizers[name]!;
  const given = optimizer.direction
    ? applyDirection(scope, optimizer, optimizer.config.parse(settings ?? {}), byParam, choice)
    : [...byParam.values()];
  const others = nexts(scope.all.filter((s) => s.role !== "param"));
  const names = params.map((p) => gradientOf(p.name));
  return { step, outputs: { ...watched(step), ...others, ...named(names, given) }, inputs: inputsOf(scope) };
}

interface Part {
  readonly outputs: Tensors;
  readonly options: Omit<BuildOptions, "name">;
}

/**
 * The same step in four graphs that cache the gradients with respect to the method's cuts (gradient caching, Gao et
 * al. 2021, arXiv 2101.06983): the loss is that of the whole batch, while each graph that sees images sees a
 * micro-batch. Batch normalisation then takes the statistics of the micro-batch.
 */
export function stepInParts<C>(
  scope: TrainingScope,
  method: Method<C>,
  config: C,
  choice: OptimizerChoice,
  perImage: readonly Tensor[],
) {
  const step = method.build(scope, config);
  if (!step.cut) {
    throw expected(
      "--micro-batch",
      "a method whose loss sees images through embeddings alone, such as simclr",
      method.name,
      "leave it out and take a --batch that fits into memory",
    );
  }
  const cuts = new Map(step.cut.map((t, i) => [t, `cut${i}`]));
  for (const t of step.cut) {
    const before = step.cut.find((other) => other !== t && leadsTo(other, t));
    // Its gradient would be counted twice: by itself and through the other.
    if (before) throw new Error(`${method.name}: cut ${cuts.get(before)} lies behind ${cuts.get(t)}`);
  }
  const throughCuts = (t: Tensor) => !reach([t], cuts).leaves.some((leaf) => perImage.includes(leaf));
  const { loss } = step;
  const updated = scope.all.filter((s) => s.role !== "param");
  const ofCuts = updated.filter((s) => throughCuts(s.next ?? s.tensor));
  const ofImages = updated.filter((s) => !ofCuts.includes(s));

  const seeds = step.cut.map((t, i) => input(gradientOf(`cut${i}`), "float32", t.shape)); // as the cuts
  // Its gradients with respect to parameters are the loss's, because `seeds` are the gradients of the loss with
  // respect to the cuts.
  const stand = step.cut.map((t, i) => reduceSum(mul(t, seeds[i]!))).reduce(add, scalar(0)); // []
  const { params } = scope;
  const grads = gradients(
    stand,
    params.map((p) => p.value),
  );
  const sums = params.map((p) => input(gradientOf(p.name), "float32", p.shape)); // as the parameters
  optimize(scope, choice, sums);
  const slots = scope.all.filter((s) => s.role === "optimizer");

  const byCut = gradients(loss, step.cut);
  const parts: Record<Exclude<StepGraph, "step">, Part> = {
    embed: { outputs: named([...cuts.values()], [...cuts.keys()]), options: { inputs: perImage } },
    contrast: {
      outputs: { ...watched(step), ...named([...cuts.values()].map(gradientOf), byCut), ...nexts(ofCuts) },
      options: { given: cuts },
    },
    backward: {
      outputs: {
        ...named(
          params.map((p) => nextOf(gradientOf(p.name))),
          grads.map((g, i) => add(sums[i]!, g)),
        ),
        ...nexts(ofImages),
      },
      options: { inputs: perImage },
    },
    update: { outputs: nexts([...params, ...slots]), options: {} },
  };
  return { step, parts };
}

const leadsTo = (from: Tensor, to: Tensor): boolean =>
  reach([to]).nodes.some((node) => node.inputs.includes(from));

export const gradientOf = (name: string): string => `gradient.${name}`;

const named = (names: readonly string[], tensors: readonly Tensor[]): Tensors =>
  Object.fromEntries(names.map((name, i) => [name, tensors[i]!]));

/** The encoded graphs of the parts. */
export const encodeParts = (parts: Record<Exclude<StepGraph, "step">, Part>, name: string) =>
  Object.fromEntries(
    Object.entries(parts).map(([part, { outputs, options }]) => [
      part,
      encodeModel(buildModel(outputs, { ...options, name: `${name}-${part}`, late: target().late })),
    ]),
  ) as Record<Exclude<StepGraph, "step">, Uint8Array>;
