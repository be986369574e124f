/**
 * A linear classifier of pixels as graphs: one step of training, and prediction. Each place of a feature map gets logits, a
 * 1x1 convolution of the standardised map, and these are upsampled bilinearly to the pixels of a mask, in training as in
 * prediction (Segmenter's "linear" decoder, Strudel et al. 2021, arXiv 2105.05633; the linear evaluation of DINOv2, Oquab et
 * al. 2023, arXiv 2304.07193, section 7.4, which has BatchNorm before the convolution).
 */
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { constant, input, type Tensor } from "../graph/tensor.ts";
import { add, div, equal, maximum, mul, neg, sqrt, square, sub } from "../ops/elementwise.ts";
import { gradients } from "../ops/gradients.ts";
import { matmul } from "../ops/matmul.ts";
import { cast, reshape, transpose } from "../ops/movement.ts";
import { logSoftmaxOp, reduceSum } from "../ops/reduce.ts";
import { argMax } from "../ops/select.ts";

export interface MapSizes {
  readonly channels: number;
  /** Height and width of a feature map. */
  readonly grid: number;
  /** At most 255. */
  readonly classes: number;
}

/** AdamW's, as DINOv2's linear evaluation has them: the decay is that of all parameters. */
const BETAS = [0.9, 0.999] as const;
const EPSILON = 1e-8;
const WEIGHT_DECAY = 1e-4;

const TRAINED = ["weight", "bias"] as const;

/** What training changes, by name and shape; all start at 0. The step's outputs are called `${name}.next`. */
export function segmentationState({
  channels,
  classes,
}: MapSizes): Readonly<Record<string, readonly number[]>> {
  const [weight, bias] = [[channels, classes], [classes]];
  return { weight, bias, "m.weight": weight, "m.bias": bias, "v.weight": weight, "v.bias": bias };
}

/** What AdamW's averages are divided by in step t, counted from 1, for they started at 0. */
export const corrections = (t: number): readonly number[] => BETAS.map((beta) => 1 - beta ** t);

/**
 * One step of AdamW. Inputs: maps [n, channels, grid^2], mean and scale [channels], down [h, grid] and across [w, grid] (see
 * `bilinear`), mask uint8 [n, h, w] with places of classes, and others where a pixel counts for nothing, lr [], `corrections`
 * [2] and the state. Outputs: loss [], the mean cross-entropy of the pixels that count before the step, and the next state.
 */
export function segmentationStep(sizes: MapSizes): Uint8Array {
  const state = stateInputs(sizes);
  const mask = input("mask", "uint8", ["n", "h", "w"]);
  const lr = input("lr", "float32", []);
  const [first, second] = [input("correction1", "float32", []), input("correction2", "float32", [])];

  const logs = logSoftmaxOp(logitsOf(sizes, state)); // [n, h, w, classes]
  const classes = constant(
    Int32Array.from({ length: sizes.classes }, (_, c) => c),
    [sizes.classes],
  );
  const own = reshape(cast(mask, "int32"), ["n", "h", "w", 1], mask);
  const target = cast(equal(own, classes), "float32"); // [n, h, w, classes]; zeros where a pixel counts for nothing
  const loss = neg(div(reduceSum(mul(logs, target)), maximum(reduceSum(target), 1))); // []

  const grads = gradients(
    loss,
    TRAINED.map((name) => state[name]!),
  );
  const outputs: Record<string, Tensor> = { loss };
  TRAINED.forEach((name, i) => {
    const g = grads[i]!; // as the weight or bias, like all below
    const m = add(mul(state[`m.${name}`]!, BETAS[0]), mul(g, 1 - BETAS[0]));
    const v = add(mul(state[`v.${name}`]!, BETAS[1]), mul(square(g), 1 - BETAS[1]));
    const direction = div(div(m, first), add(sqrt(div(v, second)), EPSILON));
    const decayed = add(direction, mul(state[name]!, WEIGHT_DECAY));
    outputs[`${name}.next`] = sub(state[name]!, mul(decayed, lr));
    outputs[`m.${name}.next`] = m;
    outputs[`v.${name}.next`] = v;
  });
  return encodeModel(buildModel(outputs, { name: "segmentation-step" }));
}

/** Inputs: those of the step that logits depend on. Output: predicted uint8 [n, h, w], places of the classes of the highest logits. */
export function segmentationPredict(sizes: MapSizes): Uint8Array {
  const logits = logitsOf(sizes, stateInputs(sizes)); // [n, h, w, classes]
  return encodeModel(
    buildModel({ predicted: cast(argMax(logits), "uint8") }, { name: "segmentation-predict" }),
  );
}

const stateInputs = (sizes: MapSizes): Readonly<Record<string, Tensor>> =>
  Object.fromEntries(
    Object.entries(segmentationState(sizes)).map(([name, shape]) => [name, input(name, "float32", shape)]),
  );

/** Upsampled logits, [n, h, w, classes]. */
function logitsOf(
  { channels, grid, classes }: MapSizes,
  { weight, bias }: Readonly<Record<string, Tensor>>,
): Tensor {
  const maps = input("maps", "float32", ["n", channels, grid ** 2]);
  const [mean, scale] = [input("mean", "float32", [channels]), input("scale", "float32", [channels])];
  const places = transpose(maps, [0, 2, 1]); // [n, grid^2, channels]
  const x = mul(sub(places, mean), scale); // [n, grid^2, channels]
  const coarse = add(matmul(x, weight!), bias!); // [n, grid^2, classes]
  const down = input("down", "float32", ["h", grid]);
  const across = input("across", "float32", ["w", grid]);
  const tall = matmul(down, reshape(coarse, ["n", grid, grid * classes])); // [n, h, grid classes]
  return matmul(across, reshape(tall, ["n", "h", grid, classes])); // [n, h, w, classes]
}

/**
 * The matrix [size, grid] that interpolates `grid` values linearly at the centres of `size` pixels, beyond the outermost ones
 * their value: what PyTorch's `interpolate` computes with align_corners false.
 */
export function bilinear(size: number, grid: number): Float32Array {
  const weights = new Float32Array(size * grid);
  for (let i = 0; i < size; i++) {
    const at = Math.min(Math.max(((i + 0.5) * grid) / size - 0.5, 0), grid - 1);
    const below = Math.min(Math.floor(at), grid - 1);
    const above = Math.min(below + 1, grid - 1);
    weights[i * grid + below]! += 1 - (at - below);
    weights[i * grid + above]! += at - below;
  }
  return weights;
}
