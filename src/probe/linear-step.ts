/**
 * Softmax regression as graphs: one step of training, and prediction. Several candidates, one for each learning
 * rate, are trained side by side on the same batches: their weights lie next to each other, so that all their logits
 * are one matrix product, and nothing of one candidate reaches another.
 */
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { input, integers, type Tensor } from "../graph/tensor.ts";
import { add, equal, mul, neg, sub } from "../ops/elementwise.ts";
import { gradients } from "../ops/gradients.ts";
import { matmul } from "../ops/matmul.ts";
import { cast, reshape } from "../ops/movement.ts";
import { logSoftmaxOp, reduceMean, reduceSum } from "../ops/reduce.ts";
import { argMax, topK } from "../ops/select.ts";
import { RANKED } from "./result.ts";

export interface LinearSizes {
  /** Length of a feature vector. */
  readonly d: number;
  readonly candidates: number;
  readonly classes: number;
}

const MOMENTUM = 0.9;

/** What training changes, by name and shape; all start at 0. The step's outputs are called `${name}.next`. */
export const linearState = ({
  d,
  candidates,
  classes,
}: LinearSizes): Readonly<Record<string, readonly number[]>> => ({
  weight: [d, candidates, classes],
  bias: [candidates, classes],
  "momentum.weight": [d, candidates, classes],
  "momentum.bias": [candidates, classes],
});

/**
 * One step of SGD with momentum 0.9 (v = 0.9 v + g, w = w - lr v) and no weight decay. Inputs: features
 * [n, d], mean and scale [d], labels int64 [n], lr [candidates, 1] and the state. Outputs: loss [candidates], the mean
 * cross-entropy of each before the step, and the next state.
 */
export function linearStep(sizes: LinearSizes): Uint8Array {
  const { candidates, classes } = sizes;
  const state = stateInputs(sizes);
  const labels = input("labels", "int64", ["n"]);
  const lr = input("lr", "float32", [candidates, 1]);

  const logs = logSoftmaxOp(logitsOf(sizes, state)); // [n, candidates, classes]
  const classNumbers = integers(Array.from({ length: classes }, (_, c) => c)); // [classes]
  const target = cast(equal(reshape(labels, ["n", 1, 1]), classNumbers), "float32"); // [n, 1, classes]
  const hit = reduceSum(mul(logs, target), { axes: [2] }); // [n, candidates]
  const loss = neg(reduceMean(hit, { axes: [0] })); // [candidates]

  const trained = ["weight", "bias"] as const;
  // The sum of the losses: each candidate's weights get the gradient of its own.
  const grads = gradients(
    reduceSum(loss),
    trained.map((name) => state[name]!),
  );
  const outputs: Record<string, Tensor> = { loss };
  trained.forEach((name, i) => {
    const v = add(mul(state[`momentum.${name}`]!, MOMENTUM), grads[i]!); // as the weight or bias
    outputs[`${name}.next`] = sub(state[name]!, mul(v, lr));
    outputs[`momentum.${name}.next`] = v;
  });
  return encodeModel(buildModel(outputs, { name: "linear-step" }));
}

/**
 * Inputs: features [n, d], mean and scale [d], weight and bias. Outputs, int64: predicted [n, candidates], and ranked
 * [n, candidates, width], the classes of the highest logits, highest first.
 */
export function linearPredict(sizes: LinearSizes): Uint8Array {
  const logits = logitsOf(sizes, stateInputs(sizes)); // [n, candidates, classes]
  const ranked = topK(logits, Math.min(RANKED, sizes.classes)).indices;
  return encodeModel(buildModel({ predicted: argMax(logits), ranked }, { name: "linear-predict" }));
}

const stateInputs = (sizes: LinearSizes): Readonly<Record<string, Tensor>> =>
  Object.fromEntries(
    Object.entries(linearState(sizes)).map(([name, shape]) => [name, input(name, "float32", shape)]),
  );

/** Logits of standardised features, [n, candidates, classes]. */
function logitsOf({ d, candidates, classes }: LinearSizes, state: Readonly<Record<string, Tensor>>): Tensor {
  const features = input("features", "float32", ["n", d]);
  const mean = input("mean", "float32", [d]);
  const scale = input("scale", "float32", [d]);
  const x = mul(sub(features, mean), scale); // [n, d]
  const weight = reshape(state.weight!, [d, candidates * classes]);
  return add(reshape(matmul(x, weight), ["n", candidates, classes]), state.bias!);
}
