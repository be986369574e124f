/** Batch, group and layer normalisation. */
import { addDims, elements } from "../graph/dims.ts";
import {
  axisOf,
  constant,
  fixed,
  type Node,
  operator,
  ShapeError,
  scalar,
  type Tensor,
  transient,
} from "../graph/tensor.ts";
import type { Dim } from "../spec.ts";
import { add, div, mul, reciprocal, sqrt, square, sub } from "./elementwise.ts";
import { chunk, concat, reshape } from "./movement.ts";
import { byPieces, piecesOf } from "./pieces.ts";
import { divideByCount, reduceMean, reduceSum } from "./reduce.ts";
import { target } from "./target.ts";

const EPS = 1e-5;

const channelAxes = (x: Tensor) => x.shape.flatMap((_, i) => (i === 1 ? [] : [i]));
/** A value for each channel [c], to be broadcast over x. */
export const perChannel = (t: Tensor, x: Tensor) =>
  reshape(
    t,
    x.shape.map((size, i) => (i === 1 ? size : 1)),
  );

const channelsFit = ([x, scale]: readonly Tensor[]) => {
  const c = fixed(x!.shape[1], "number of channels");
  if (scale!.shape[0] !== c)
    throw new ShapeError(`expected ${c} channels, found a scale for ${scale!.shape[0]}`);
  return [x!];
};

const affineOp = operator({
  type: "BatchNormalization",
  name: "Affine",
  infer: channelsFit,
  gradient: ({ inputs: [x, a], grad, wants }) => {
    const axes = channelAxes(x!);
    return [
      wants(0) ? scaled(grad, a!) : null, // as x
      wants(1) ? reduceSum(mul(grad, x!), { axes }) : null, // [c]
      wants(2) ? reduceSum(grad, { axes }) : null, // [c]
    ];
  },
});

/** a x + b per channel, a and b [c], in one pass: BatchNormalization's inference form with mean 0 and variance 1. */
export const affine = (x: Tensor, a: Tensor, b?: Tensor): Tensor =>
  target().affine?.(x, a, b) ??
  affineOp([x, a, b ?? rowOf(x, 0), rowOf(x, 0), rowOf(x, 1)], { epsilon: { float: 0 } })[0]!;

/** A value for each channel of x, [c]. */
function rowOf(x: Tensor, value: number): Tensor {
  const size = fixed(x.shape[1], "number of channels");
  return constant(new Float32Array(size).fill(value), [size]);
}

/** a x per channel. Vectors [n, c] are multiplied element-wise, for BatchNormalization loops over the channels. */
const scaled = (x: Tensor, a: Tensor): Tensor =>
  x.shape.length > 2 ? affine(x, a) : mul(x, perChannel(a, x));

const STATISTICS = "BatchStatistics";

// One gradient rule for mean and variance together: with respect to each x it is b x + c per channel, a single pass.
const statisticsOp = operator({
  type: "Identity",
  name: STATISTICS,
  // The statistics are computed already; 1 / m and the chunks of x are for the gradient rule alone.
  taken: 1,
  infer: ([both]) => [both!],
  gradient: ({ inputs: [both, share, ...xs], grad }) => {
    const [mean] = rowsOf(both!); // [c]
    const [ofMean, ofVariance] = rowsOf(mul(grad, share!)); // [c] each
    const b = mul(ofVariance!, 2); // [c]
    const c = sub(ofMean!, mul(b, mean!)); // [c]
    return [null, null, ...xs.map((x) => affine(x, b, c))];
  },
});
const rowsOf = (both: Tensor): readonly Tensor[] =>
  chunk(both, 0, 2).map((row) => reshape(row, [both.shape[1]!]));

/**
 * Mean and biased variance per channel [c] over all axes but the second, and 1 / m [] for m values of a channel.
 * First of each image, then of all images (Chan, Golub and LeVeque 1979): no large numbers are subtracted.
 */
function batchStatistics(x: Tensor): { mean: Tensor; variance: Tensor; share: Tensor } {
  const axes = channelAxes(x);
  const pieces = piecesOf(x);
  // The number of values is read here, while x is in memory: a later node would keep x alive until the end of the
  // step.
  const share = mul(divideByCount(scalar(1), pieces[0]!, axes), 1 / pieces.length); // []
  const inner = axes.filter((axis) => axis > 1);
  const together = (parts: readonly Tensor[]) => reshape(concat(parts, 0), [x.shape[0]!, x.shape[1]!]); // [n, c]
  const ofImages = pieces.map((piece) => reduceMean(piece, { axes: inner, keep: true })); // [n / pieces, c, 1...] each
  const means = together(ofImages); // [n, c]
  const mean = reduceMean(means, { axes: [0] }); // [c]
  const between = reduceMean(square(sub(means, mean)), { axes: [0] }); // [c]
  const within = () => {
    const squares = pieces.map((piece, i) =>
      reduceSum(square(sub(piece, ofImages[i]!)), { axes: inner, keep: true }),
    ); // [n / pieces, c, 1...] each
    return mul(reduceSum(together(squares), { axes: [0] }), share); // [c]
  };
  const variance = inner.length > 0 ? add(within(), between) : between; // [c]
  const row = (t: Tensor) => reshape(t, [1, x.shape[1]!]); // [1, c]
  const [both] = statisticsOp([concat([row(mean), row(variance)], 0), share, ...pieces]);
  const [m, v] = rowsOf(both!);
  return { mean: m!, variance: v!, share };
}

/** The values of a channel that a node takes batch statistics of; undefined where it takes none. */
export function statisticsOver({ op, inputs }: Node): Dim | undefined {
  if (op.name !== STATISTICS) return undefined;
  const [, , ...xs] = inputs as Tensor[];
  return xs.map((x) => elements(channelAxes(x).map((axis) => x.shape[axis]!))).reduce(addDims);
}

export interface BatchStatistics {
  readonly y: Tensor;
  /** Of this batch, per channel [c]. */
  readonly mean: Tensor;
  /** Biased (divided by the number of values, m). */
  readonly variance: Tensor;
  /** Divided by m - 1. */
  readonly unbiased: Tensor;
}

/**
 * Normalises x [n, c, ...] over all axes but the second with this batch's mean and variance, then y = scale x + bias
 * (Ioffe and Szegedy 2015). Built from reductions and BatchNormalization's inference form, because WebGPU lacks its
 * training form. y is transient, and in pieces where x is.
 */
export function batchNormTraining(x: Tensor, scale: Tensor, bias: Tensor): BatchStatistics {
  channelsFit([x, scale]);
  const { mean, variance, share } = batchStatistics(x); // [c], [c], []
  const unbiased = div(variance, sub(1, share)); // [c]; not by the variance, which may be 0
  const a = mul(scale, reciprocal(sqrt(add(variance, EPS)))); // [c]
  const b = sub(bias, mul(mean, a)); // [c]
  const y = transient(() => byPieces([x], (piece) => affine(piece, a, b))); // as x
  return { y, mean, variance, unbiased };
}

const frozenOp = operator({
  type: "BatchNormalization",
  infer: channelsFit,
  gradient: ({ inputs: [x, scale, , mean, variance], grad }) => {
    const axes = channelAxes(x!);
    const inverse = reciprocal(sqrt(add(variance!, EPS))); // [c]
    const normal = mul(sub(x!, perChannel(mean!, x!)), perChannel(inverse, x!)); // as x
    const dScale = reduceSum(mul(grad, normal), { axes }); // [c]
    return [mul(grad, perChannel(mul(scale!, inverse), x!)), dScale, reduceSum(grad, { axes }), null, null];
  },
});

/** The same with a given mean and variance [c], which are constants to the gradient. */
export const batchNorm = (x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor): Tensor =>
  frozenOp([x, scale, bias, mean, variance], { epsilon: { float: EPS } })[0]!;

// One gradient rule for mean and variance together, as for those of a batch: with respect to x it is b x + c for each map.
const mapStatisticsOp = operator({
  type: "Identity",
  name: "MapStatistics",
  taken: 1,
  infer: ([both]) => [both!],
  gradient: ({ inputs: [both, x], grad }) => {
    const share = 1 / (fixed(x!.shape[2], "height") * fixed(x!.shape[3], "width"));
    const [mean] = chunk(both!, 1, 2); // [n, c, 1, 1]
    const [ofMean, ofVariance] = chunk(mul(grad, share), 1, 2); // [n, c, 1, 1] each
    const b = mul(ofVariance!, 2); // [n, c, 1, 1]
    return [null, add(mul(x!, b), sub(ofMean!, mul(b, mean!)))];
  },
});

/**
 * Normalises x + shift, x [n, c, h, w] and shift [c], over height, width and c / groups neighbouring channels of each image,
 * then y = scale x + bias for each channel (Wu and He 2018, arXiv 1803.08494). Statistics of a group come from those of its
 * channels, of which a shift only moves the mean: it takes no pass over x.
 */
export function groupNorm(x: Tensor, scale: Tensor, bias: Tensor, groups: number, shift?: Tensor): Tensor {
  channelsFit([x, scale]);
  const [n, c] = x.shape as [Dim, number];
  if (c % groups !== 0) throw new ShapeError(`${c} channels have no ${groups} equal groups`);
  const space = { axes: [2, 3], keep: true };
  const means = reduceMean(x, space); // [n, c, 1, 1]
  const squares = reduceMean(square(sub(x, means)), space); // [n, c, 1, 1]
  const [both] = mapStatisticsOp([concat([means, squares], 1), x]);
  const inGroups = (t: Tensor) => reshape(t, [t.shape.length === 1 ? 1 : n, groups, c / groups], x); // [n or 1, g, c / g]
  const [mean, variance] = chunk(both!, 1, 2).map(inGroups) as [Tensor, Tensor]; // [n, g, c / g] each
  const moved = shift ? add(mean, inGroups(shift)) : mean; // [n, g, c / g]
  const group = { axes: [2], keep: true };
  const off = sub(moved, reduceMean(moved, group)); // [n, g, c / g]
  const whole = reduceMean(add(variance, square(off)), group); // [n, g, 1]
  const a = mul(reciprocal(sqrt(add(whole, EPS))), inGroups(scale)); // [n, g, c / g]
  const b = add(mul(a, sub(off, mean)), inGroups(bias)); // [n, g, c / g]
  const [factor, term] = [a, b].map((t) => reshape(t, [n, c, 1, 1], x)) as [Tensor, Tensor]; // [n, c, 1, 1] each
  return transient(() => add(mul(x, factor), term)); // as x
}

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
