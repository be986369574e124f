/** A training step as tensors: what a method builds with, and forward, backward and update in one. */
import { input, type Tensor } from "../graph/tensor.ts";
import type { Method, OptimizerChoice, StepScope } from "../methods/method.ts";
import { applyOptimizer, optimizers } from "../nn/optimizers.ts";
import { Scope, type State } from "../nn/scope.ts";
import { gradients } from "../ops/gradients.ts";
import { reshape, slice } from "../ops/movement.ts";
import { VIEW_COLUMNS, type ViewColumn } from "../spec.ts";

export interface StepViews {
  /** [n, 3, size, size] each. */
  readonly views: readonly Tensor[];
  /** Their parameters, float32 [n, columns] each. */
  readonly params: readonly Tensor[];
  /** Views [rows, 3, size, size] -> features [rows, d]. */
  readonly encode: (s: Scope, views: Tensor) => Tensor;
}

export class TrainingScope extends Scope implements StepScope {
  readonly views: readonly Tensor[];
  private readonly viewParams: readonly Tensor[];
  private readonly encoder: StepViews["encode"];
  private readonly orders = new Map<string, Tensor>();

  constructor({ views, params, encode }: StepViews) {
    super("training");
    this.views = views;
    this.viewParams = params;
    this.encoder = encode;
  }

  encode(views: Tensor): Tensor {
    return this.in("encoder", () => this.encoder(this, views)); // [rows, d]
  }

  drawn(view: number, column: ViewColumn): Tensor {
    const params = this.viewParams[view]!; // [n, columns]
    const at = VIEW_COLUMNS.indexOf(column);
    return reshape(slice(params, { 1: [at, at + 1] }), [params.shape[0]!]); // [n]
  }

  permutation(name: string): Tensor {
    const order = this.orders.get(name) ?? input(name, "int64", [this.views[0]!.shape[0]!]); // [n]
    this.orders.set(name, order);
    return order;
  }

  get permutations(): ReadonlyMap<string, Tensor> {
    return this.orders;
  }
}

/** The name of the output that holds a state tensor's next value. */
export const nextOf = (state: string): string => `${state}.next`;

/** The method's loss in the scope, its gradients, and the optimizer's update: what the step puts out, by name. */
export function trainingStep<C>(scope: TrainingScope, method: Method<C>, config: C, choice: OptimizerChoice) {
  const step = method.build(scope, config);
  const trained = scope.params;
  const grads = gradients(
    step.loss,
    trained.map((p) => p.value),
  );
  const byParam = new Map<State, Tensor>(trained.map((p, i) => [p, grads[i]!]));
  const optimizer = optimizers[choice.name]!;
  applyOptimizer(scope, optimizer, optimizer.config.parse(choice.config ?? {}), byParam, choice);
  const outputs: Record<string, Tensor> = { loss: step.loss, ...step.metrics, embedding: step.embedding };
  for (const s of scope.all) outputs[nextOf(s.name)] = s.next ?? s.tensor;
  const inputs = [...scope.scalars.map((s) => s.tensor), ...scope.permutations.values(), ...scope.inputs];
  return { step, outputs, inputs };
}
