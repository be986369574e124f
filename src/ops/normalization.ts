/** Batch and layer normalisation. */
import {
  axisOf,
  constant,
  fixed,
  type GradientRule,
  operator,
  ShapeError,
  scalar,
  type Tensor,
  transient,
} from "../graph/tensor.ts";
import { add, div, mul, reciprocal, sqrt, square, sub } from "./elementwise.ts";
import { reshape } from "./movement.ts";
import { divideByCount, reduceMean, reduceSum } from "./reduce.ts";

const EPS = 1e-5;

const channelAxes = (x: Tensor) => x.shape.flatMap((_, i) => (i === 1 ? [] : [i]));
const perChannel = (t: Tensor, x: Tensor) =>
  reshape(
    t,
    x.shape.map((size, i) => (i === 1 ? size : 1)),
  );

const frozen = (name: string, gradient: GradientRule) =>
  operator({
    type: "BatchNormalization",
    name,
    infer: ([x, scale]) => {
      const c = fixed(x!.shape[1], "number of channels");
      if (scale!.shape[0] !== c)
        throw new ShapeError(`expected ${c} channels, found a scale for ${scale!.shape[0]}`);
      return [x!];
    },
    gradient,
  });

// Its mean and variance are those of x itself, so the rule is that of the whole (Ioffe and Szegedy 2015), gathered
// per channel: dx = a (dy - (b x + c)), with three small vectors a, b and c: the fewest passes over dy and x. The
// operator's inference form does b x + c in one of them.
const trainOp = frozen("BatchNormTraining", ({ inputs: [x, scale, , mean, variance], grad }) => {
  const axes = channelAxes(x!);
  const inverse = reciprocal(sqrt(add(variance!, EPS))); // [c]
  const sumDy = reduceSum(grad, { axes }); // [c]
  const dScale = mul(inverse, sub(reduceSum(mul(grad, x!), { axes }), mul(mean!, sumDy))); // [c]
  const a = mul(scale!, inverse); // [c]
  const b = divideByCount(mul(inverse, dScale), x!, axes); // [c]
  const c = sub(divideByCount(sumDy, x!, axes), mul(b, mean!)); // [c]
  const dx = mul(sub(grad, affine(x!, b, c)), perChannel(a, x!)); // as x
  return [dx, dScale, sumDy, null, null];
});

/** b x + c per channel. */
function affine(x: Tensor, b: Tensor, c: Tensor): Tensor {
  const size = fixed(x.shape[1], "number of channels");
  const row = (value: number) => constant(new Float32Array(size).fill(value), [size]);
  return frozenOp([x, b, c, row(0), row(1)], { epsilon: { float: 0 } })[0]!;
}

export interface BatchStatistics {
  readonly y: Tensor;
  /** Of this batch, per channel [c]; no gradient passes through these two. */
  readonly mean: Tensor;
  /** Biased (divided by the number of values, m). */
  readonly variance: Tensor;
  /** Divided by m - 1. */
  readonly unbiased: Tensor;
}

/**
 * Normalises x [n, c, ...] over all axes but the second with this batch's mean and variance, then y = scale x + bias.
 * Of reductions and the operator's inference form: that of training is missing on WebGPU. y is transient.
 */
export function batchNormTraining(x: Tensor, scale: Tensor, bias: Tensor): BatchStatistics {
  const axes = channelAxes(x);
  const mean = reduceMean(x, { axes }); // [c]
  // The number of values is read off x here, where x is at hand: x would be held for it until the end of the step.
  const share = divideByCount(scalar(1), x, axes); // 1 / m, []
  const variance = mul(reduceSum(square(sub(x, perChannel(mean, x))), { axes }), share); // [c]
  const unbiased = div(variance, sub(1, share)); // [c]; not by the variance, which may be 0
  const [y] = transient(() => trainOp([x, scale, bias, mean, variance], { epsilon: { float: EPS } }));
  return { y: y!, mean, variance, unbiased };
}

const frozenOp = frozen("BatchNormalization", ({ inputs: [x, scale, , mean, variance], grad }) => {
  const axes = channelAxes(x!);
  const inverse = reciprocal(sqrt(add(variance!, EPS))); // [c]
  const normal = mul(sub(x!, perChannel(mean!, x!)), perChannel(inverse, x!)); // as x
  const dScale = reduceSum(mul(grad, normal), { axes }); // [c]
  return [mul(grad, perChannel(mul(scale!, inverse), x!)), dScale, reduceSum(grad, { axes }), null, null];
});

/** The same with a mean and a variance that are given [c], as constants to the gradient. */
export const batchNorm = (x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor): Tensor =>
  frozenOp([x, scale, bias, mean, variance], { epsilon: { float: EPS } })[0]!;

const layerOp = operator({
  type: "LayerNormalization",
  infer: ([x, scale], { axis }) => {
    const at = axisOf(axis as number, x!.shape.length);
    if (scale!.shape[0] !== x!.shape[at]) {
      throw new ShapeError(`expected ${x!.shape[at]} features, found a scale for ${scale!.shape[0]}`);
    }
    const kept = { dtype: x!.dtype, shape: x!.shape.map((size, i) => (i === at ? 1 : size)) };
    return [x!, kept, kept];
  },
  gradient: ({ inputs: [x, scale], outputs: [, mean, inverse], grad: g }) => {
    const normal = mul(sub(x!, mean!), inverse!); // as x
    const scaled = mul(g, scale!); // as x
    const last = { axes: [-1], keep: true };
    const centred = sub(scaled, reduceMean(scaled, last)); // as x
    const dx = mul(inverse!, sub(centred, mul(normal, reduceMean(mul(scaled, normal), last))));
    return [dx, mul(g, normal), g];
  },
});

/** Normalises the last axis (Ba et al. 2016), then y = scale x + bias. */
export const layerNorm = (x: Tensor, scale: Tensor, bias: Tensor, eps = 1e-6): Tensor =>
  layerOp([x, scale, bias], { axis: -1, epsilon: { float: eps } })[0]!;
