/** Layers: operators with their weights, named as PyTorch and timm name them. */

import { divideDims, elements } from "../graph/dims.ts";
import { constant, fixed, ShapeError, type Tensor, transient } from "../graph/tensor.ts";
import * as ops from "../ops/conv.ts";
import { add, mul, relu } from "../ops/elementwise.ts";
import { gemm } from "../ops/matmul.ts";
import { concat, reshape } from "../ops/movement.ts";
import * as norm from "../ops/normalization.ts";
import { byPieces } from "../ops/pieces.ts";
import { reduceMean } from "../ops/reduce.ts";
import { target } from "../ops/target.ts";
import type { Dim, Init } from "../spec.ts";
import type { Scope } from "./scope.ts";

export const ZEROS = { kind: "constant", value: 0 } as const satisfies Init;
export const ONES = { kind: "constant", value: 1 } as const satisfies Init;

/** Normal with variance 2 / fan-out, for layers before a ReLU (He et al. 2015). */
export const kaimingNormal = (fanOut: number): Init => ({ kind: "normal", std: Math.sqrt(2 / fanOut) });

/** Uniform within 1 / sqrt(fan-in): PyTorch's default for linear layers. */
export const fanInUniform = (fanIn: number): Init => ({ kind: "uniform", bound: 1 / Math.sqrt(fanIn) });

export interface ConvOptions extends ops.ConvOptions {
  readonly out: number;
  readonly kernel: number;
  /** Of the weight. @default `kaimingNormal` of the fan-out */
  readonly init?: Init;
}

/** x [n, c, h, w] -> [n, out, h', w'], without bias; in pieces where x is. */
export const conv = (
  s: Scope,
  name: string,
  x: Tensor,
  { out, kernel, init = kaimingNormal(out * kernel * kernel), ...options }: ConvOptions,
): Tensor =>
  s.in(name, () => {
    const perGroup = fixed(x.shape[1], "number of channels") / (options.groups ?? 1);
    const w = s.param("weight", [out, perGroup, kernel, kernel], init);
    const lowered = s.mode === "training" && target().conv?.(x, w, options); // [n, out, h', w']
    if (lowered) return lowered;
    const build = () => byPieces([x], (piece) => ops.conv(piece, w, options)); // [n, out, h', w']
    // A convolution with many more output than input values is recomputed for the backward pass: its input is held.
    const { stride = 1, groups = 1 } = options;
    return out >= 4 * perGroup * groups * stride ** 2 ? transient(build) : build();
  });

/** The same with a bias for each channel. Not in pieces. */
export function biasedConv(s: Scope, name: string, x: Tensor, options: ConvOptions): Tensor {
  const y = conv(s, name, x, options); // [n, out, h', w']
  const bias = s.in(name, () => s.param("bias", [options.out], ZEROS)); // [out]
  return add(y, norm.perChannel(bias, y));
}

/** Share of the old value that running statistics keep (PyTorch's momentum of 0.1 counts the other share). */
const KEPT = 0.9;

export interface BatchNormOptions {
  /** Whether scale and bias are learnt; true by default. */
  readonly affine?: boolean;
}

/**
 * Batch normalisation over all axes but the second; running averages hold the unbiased variance, as PyTorch's do.
 * Where the batch is split in g parts, part i holds the rows i, i + g, ..., and running averages take the parts'
 * mean. In pieces where x is; the statistics are those of all pieces together.
 */
export const batchNorm = (
  s: Scope,
  name: string,
  x: Tensor,
  { affine = true }: BatchNormOptions = {},
): Tensor =>
  s.in(name, () => {
    const c = fixed(x.shape[1], "number of channels");
    const own = (label: string, init: typeof ZEROS | typeof ONES) =>
      affine ? s.param(label, [c], init) : constant(new Float32Array(c).fill(init.value), [c]);
    const scale = own("weight", ONES); // [c]
    const bias = own("bias", ZEROS); // [c]
    const mean = s.buffer("running_mean", [c], ZEROS);
    const variance = s.buffer("running_var", [c], ONES);
    if (s.mode === "evaluation") return norm.batchNorm(x, scale, bias, mean, variance); // as x
    if (s.isFrozen("weight"))
      return byPieces([x], (piece) => norm.batchNorm(piece, scale, bias, mean, variance)); // as x
    const { splits = 1 } = s.traits;
    const parts = (t: Tensor) => (splits === 1 ? t : concat(Array(splits).fill(t), 0)); // [g c]
    const apart = splits === 1 ? x : byPieces([x], (piece) => inParts(piece, splits)); // [n / g, g c, ...]
    const batch = norm.batchNormTraining(apart, parts(scale), parts(bias));
    const ofParts = (t: Tensor) => (splits === 1 ? t : reduceMean(reshape(t, [splits, c]), { axes: [0] })); // [c]
    const keep = (old: Tensor, recent: Tensor) =>
      s.advance(old, (latest) => add(mul(latest, KEPT), mul(ofParts(recent), 1 - KEPT)));
    keep(mean, batch.mean);
    keep(variance, batch.unbiased);
    return splits === 1 ? batch.y : byPieces([batch.y, x], (y, piece) => reshape(y, piece.shape, piece)); // as x
  });

/** `batchNorm`, then ReLU; its output, too, is recomputed for the backward pass. */
export function batchNormRelu(s: Scope, name: string, x: Tensor): Tensor {
  const y = batchNorm(s, name, x); // as x
  return transient(() => byPieces([y], relu));
}

/** Of group normalisation, at most, and channels of a group, at least. */
const GROUPS = 32;
const LEAST_CHANNELS = 2;

/**
 * A convolution of 3x3, with a bias, its group normalisation and ReLU, named as in a Sequential of PyTorch: the layers `at` and
 * `at + 1`; x [n, c, h, w] -> [n, c, h, w]. Of 32 groups, or as many as there may be of two channels or more.
 */
export function convGroupNormRelu(s: Scope, at: number, x: Tensor, init: Init): Tensor {
  const c = fixed(x.shape[1], "number of channels");
  let groups = Math.max(1, Math.min(GROUPS, Math.floor(c / LEAST_CHANNELS)));
  while (c % groups !== 0) groups--;
  const y = conv(s, `${at}`, x, { out: c, kernel: 3, pad: 1, init }); // as x
  const shift = s.in(`${at}`, () => s.param("bias", [c], ZEROS)); // [c]
  return s.in(`${at + 1}`, () => {
    const [scale, bias] = [s.param("weight", [c], ONES), s.param("bias", [c], ZEROS)]; // [c] each
    const normal = norm.groupNorm(y, scale, bias, groups, shift); // as x
    return transient(() => relu(normal));
  });
}

/** Rows i, i + g, ... of x [n, c, ...] as channels of their own: [n / g, g c, ...]. */
function inParts(x: Tensor, parts: number): Tensor {
  const [n, c, ...rest] = x.shape as [Dim, number, ...Dim[]];
  const rows = divideDims(n, parts);
  if (rows === undefined) throw new ShapeError(`${n} rows have no ${parts} equal parts`);
  return reshape(x, [rows, parts * c, ...rest], x);
}

export interface LinearOptions {
  readonly out: number;
  /** True by default. */
  readonly bias?: boolean;
  /** Of the weight; PyTorch's default by default, where the bias is drawn alike. Else the bias starts at 0. */
  readonly init?: Init;
}

/** x [..., in] -> [..., out]; the weight is [out, in]. */
export const linear = (
  s: Scope,
  name: string,
  x: Tensor,
  { out, bias = true, init }: LinearOptions,
): Tensor =>
  s.in(name, () => {
    const size = fixed(x.shape.at(-1), "number of features");
    const w = s.param("weight", [out, size], init ?? fanInUniform(size));
    const b = bias ? s.param("bias", [out], init ? ZEROS : fanInUniform(size)) : null;
    const rows = reshape(x, [elements(x.shape.slice(0, -1)), size]); // [rows, in]
    const y = gemm(rows, w, b, { transB: true }); // [rows, out]
    return reshape(y, [...x.shape.slice(0, -1), out], x); // [..., out]
  });

/** Layer normalisation of the last axis; recomputed for the backward pass. */
export const layerNorm = (s: Scope, name: string, x: Tensor): Tensor =>
  s.in(name, () => {
    const size = fixed(x.shape.at(-1), "number of features");
    const [scale, bias] = [s.param("weight", [size], ONES), s.param("bias", [size], ZEROS)]; // [size] each
    return transient(() => norm.layerNorm(x, scale, bias)); // as x
  });
