/** Method + encoder + optimizer -> the models that ONNX Runtime's training API runs, from the same builder as steps. */
import { expected } from "../errors.ts";
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { scalar, type Tensor } from "../graph/tensor.ts";
import { type Hyperparameters, lrSchedule } from "../nn/optimizers.ts";
import type { State } from "../nn/scope.ts";
import { reshape } from "../ops/movement.ts";
import { builtFor, portable, target } from "../ops/target.ts";
import { type OptimizerOperator, optimizerModel } from "../ort-training/optimizer-model.ts";
import { evaluationModel, type Parameter, trainingModel } from "../ort-training/training-model.ts";
import type { Schedule, StateEntry } from "../spec.ts";
import { type ArtifactSpec, optimizerOf, resolveSpec } from "./artifact-spec.ts";
import { openStep } from "./compile.ts";
import { encodeGraph } from "./encode.ts";
import { gradientOf, gradientStep, nextOf, nexts, trainingStep, watched } from "./step.ts";

/** Who updates the parameters: the step's own graph, or the runtime's optimizer operator. */
export const UPDATES = ["graph", "runtime"] as const;
export type UpdateBy = (typeof UPDATES)[number];

export interface OrtTraining {
  readonly training: Uint8Array;
  readonly evaluation: Uint8Array;
  /** @param rates of the steps, for the runtime's optimizer */
  readonly optimizer: (rates: Float32Array) => Uint8Array;
  /** Of those rates, for 256 images a step; undefined where the step's graph updates. */
  readonly rate: Schedule | undefined;
  /** What the checkpoint holds. */
  readonly parameters: readonly (Parameter & Pick<StateEntry, "init">)[];
}

/**
 * In the forms of a target. By "graph", the training model is the whole step, whatever its optimizer. The runtime's optimizer is to update something
 * all the same: it counts its steps, in a parameter of that name.
 *
 * By "runtime", the training model sums gradients, and the optimizer model updates: AdamW, with weight decay on all
 * parameters alike, or SGD, whose weight decay and momentum are in the training model: one step of it for each update.
 *
 * @throws UserError if the runtime's optimizers cannot do what the method or the optimizer wants
 */
export const ortTraining = (spec: ArtifactSpec, by: UpdateBy, target = portable): OrtTraining =>
  builtFor(target, () => built(spec, by));

function built(spec: ArtifactSpec, by: UpdateBy): OrtTraining {
  const opened = openStep(spec);
  const { scope, method, config, perImage } = opened;
  const choice = optimizerOf(spec);
  const operator = by === "runtime" ? operatorOf(spec) : undefined;
  const { step, outputs, inputs } = operator
    ? gradientStep(scope, method, config, choice)
    : trainingStep(scope, method, config, choice, spec.precision);
  if (operator) for (const param of scope.params) refuseUnlike(param, choice);
  const name = `${spec.method}-${spec.encoder}-${spec.imageSize}`;
  const model = (given: Readonly<Record<string, Tensor>>, part: string) =>
    encodeModel(
      buildModel(given, { name: `${name}-${part}`, inputs: [...perImage, ...inputs], late: target().late }),
    );
  const state = scope.all
    .filter(({ rows }) => !rows)
    .map(({ name, shape, init, role }) => {
      const trained = operator !== undefined && role === "param";
      return { name, shape, init, trained, output: trained ? gradientOf(name) : nextOf(name) };
    });
  const parameters = operator ? state : [...state, COUNTER];
  const counted = operator ? {} : { [COUNTER.output]: reshape(scalar(-1), [1]) };
  const banks = nexts(scope.all.filter(({ rows }) => rows));
  return {
    training: trainingModel(model({ ...outputs, ...counted }, "training"), parameters),
    evaluation: evaluationModel(
      model({ ...watched(step), ...banks }, "evaluation"),
      encodeGraph({ ...spec, config: resolveSpec(spec).method.config }, name),
      parameters,
    ),
    optimizer: (rates) =>
      operator ? optimizerModel(operator, rates) : optimizerModel(COUNTING, Float32Array.of(1)),
    rate: operator && lrSchedule(choice),
    parameters,
  };
}

/** Moves a parameter by its rate against the sign of its gradient. SGD would warn at each step that its output has a shape. */
const COUNTING: OptimizerOperator = { name: "adamw", beta1: 0, beta2: 0, eps: 0, weightDecay: 0 };
/** Its gradient is -1, and its rate 1. */
const COUNTER = {
  name: "steps",
  shape: [1],
  init: { kind: "constant", value: 0 },
  trained: true,
  output: gradientOf("steps"),
} as const;

const ADVICE = "take --update graph";

/** The operator that does what an optimizer does. */
function operatorOf(spec: ArtifactSpec): OptimizerOperator {
  if (spec.precision)
    throw expected("--update runtime", "a loss that is not scaled", `precision ${spec.precision}`, ADVICE);
  const { optimizer } = resolveSpec(spec);
  const { weightDecay, beta1, beta2, eps } = optimizer.config as Record<string, number>;
  if (optimizer.name === "sgd") return { name: "sgd" };
  if (optimizer.name === "adamw")
    return { name: "adamw", beta1: beta1!, beta2: beta2!, eps: eps!, weightDecay: weightDecay! };
  throw expected("--update runtime", "optimizer sgd or adamw", optimizer.name, ADVICE);
}

/** @throws UserError unless a parameter is updated as all others are */
function refuseUnlike({ name, traits, tensor, value, decay }: State, { biasLr = 1 }: Hyperparameters): void {
  const unlike =
    (traits.constantRate && "has a rate of its own") ||
    (!decay && biasLr !== 1 && "has a rate of its own") ||
    (traits.trains && "rests at first") ||
    (value !== tensor && "is projected");
  if (unlike)
    throw expected(
      "--update runtime",
      "parameters that are updated alike",
      `${name}, which ${unlike}`,
      ADVICE,
    );
}
