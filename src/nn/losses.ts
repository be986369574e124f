/** Losses over embeddings. */
import type { Tensor } from "../graph/tensor.ts";
import { add, div, equal, exp, greaterOrEqual, log, mul, neg, relu, sub, where } from "../ops/elementwise.ts";
import { gemm, matmul, swap } from "../ops/matmul.ts";
import { cast, concat, reshape, split } from "../ops/movement.ts";
import { logSumExp, normalize, reduceMax, reduceMean, reduceSum } from "../ops/reduce.ts";
import { indicesAlong } from "../ops/shape.ts";

export interface Contrast {
  /** float32 []. */
  readonly loss: Tensor;
  /** Share of the rows whose positive is the most similar of all, float32 []. */
  readonly accuracy: Tensor;
}

/**
 * Cross-entropy of logits [n, classes] with labels float32 [n] (whole numbers from 0), averaged over the rows; the
 * accuracy is that of the greatest logit.
 */
export const crossEntropy = (logits: Tensor, labels: Tensor): Contrast =>
  ofHits(hitsOf(logits, labels), logits);

/** Of logits [n, classes] each row's at its label: [n, 1]. */
function hitsOf(logits: Tensor, labels: Tensor): Tensor {
  const classes = indicesAlong(logits, 1); // [classes]
  const own = equal(reshape(labels, [logits.shape[0]!, 1]), classes); // [n, classes]
  return reduceSum(where(own, logits, 0), { axes: [1], keep: true }); // [n, 1]
}

/** A second class of each row, where images are mixed. */
export interface MixedLabels {
  /** float32 [n]. */
  readonly labels: Tensor;
  /** Of the first class, float32 []; the second has the rest. */
  readonly share: Tensor;
}

/**
 * Cross-entropy as `crossEntropy` has it, with label smoothing (Szegedy et al. 2016, section 7): a share `smoothing` of
 * each target is spread over all classes evenly. Mixed rows (Zhang et al. 2018) have two classes. The accuracy is that of
 * the first.
 */
export function smoothedCrossEntropy(
  logits: Tensor,
  labels: Tensor,
  smoothing: number,
  mixed?: MixedLabels,
): Contrast {
  const hit = hitsOf(logits, labels); // [n, 1]
  const { accuracy } = ofHits(hit, logits);
  const targets = mixed
    ? add(mul(hit, mixed.share), mul(hitsOf(logits, mixed.labels), sub(1, mixed.share)))
    : hit; // [n, 1]
  const even = reduceMean(logits, { axes: [1], keep: true }); // [n, 1]
  // The targets' shares sum to 1, so that the rows' logSumExp counts once.
  const wanted = add(mul(targets, 1 - smoothing), mul(even, smoothing)); // [n, 1]
  return { loss: reduceMean(sub(logSumExp(logits), wanted)), accuracy };
}

/**
 * The cross-entropy of independent classes: of logits [n, classes] and targets float32 [n, classes] from 0 to 1, summed over the
 * classes and averaged over the rows. With label smoothing a share `smoothing` of each target is even: for and against its class.
 */
export function sigmoidCrossEntropy(logits: Tensor, targets: Tensor, smoothing: number): Tensor {
  const wanted = smoothing === 0 ? targets : add(mul(targets, 1 - smoothing), smoothing / 2); // [n, classes]
  const losses = sub(softplus(logits), mul(logits, wanted)); // [n, classes]
  return reduceMean(reduceSum(losses, { axes: [1] })); // []
}

/** log(1 + exp(x)), neither of whose terms overflows. */
function softplus(x: Tensor): Tensor {
  const most = relu(x);
  return add(most, log(add(exp(sub(x, most)), exp(neg(most)))));
}

/**
 * InfoNCE (van den Oord et al. 2018) against negatives that all rows share: queries and positives [n, d], negatives
 * [m, d], all of unit length; averaged over the rows.
 */
export function infoNce(
  queries: Tensor,
  positives: Tensor,
  negatives: Tensor,
  temperature: Tensor,
): Contrast {
  const hit = div(reduceSum(mul(queries, positives), { axes: [1], keep: true }), temperature); // [n, 1]
  const rest = div(matmul(queries, swap(negatives)), temperature); // [n, m]
  return ofHits(hit, concat([hit, rest], 1)); // [n, 1 + m]
}

/** Cross-entropy and accuracy of logits [n, k], one of which is each row's `hit` [n, 1]. */
function ofHits(hit: Tensor, logits: Tensor): Contrast {
  const best = reduceMax(logits, { axes: [1], keep: true }); // [n, 1]
  const accuracy = reduceMean(cast(greaterOrEqual(hit, best), "float32")); // []
  return { loss: reduceMean(sub(logSumExp(logits), hit)), accuracy };
}

/** Stands for minus infinity: far below any similarity, and exp of it is exactly 0. */
const MASKED = -1e9;

/**
 * NT-Xent (Chen et al. 2020, equation 1), averaged over all 2n rows: each row must find the other view of its image
 * among the 2n - 1 other rows. `a` and `b` are [n, d], row i of both from image i; they are normalised here.
 */
export function ntXent(a: Tensor, b: Tensor, temperature: Tensor): Contrast {
  const z = normalize(concat([a, b], 0)); // [2n, d]
  const similarity = div(matmul(z, swap(z)), temperature); // [2n, 2n]
  const own = indicesAlong(z, 0); // [2n]
  const [first, second] = split(own, 0, [a, b]); // [n] each
  const other = concat([second!, first!], 0); // [2n]: the row of the other view
  const column = [own.shape[0]!, 1]; // [2n, 1]
  const self = equal(reshape(own, column), own); // [2n, 2n]
  const positive = equal(reshape(other, column), own); // [2n, 2n]
  const others = where(self, MASKED, similarity); // [2n, 2n]
  const hit = reduceSum(where(positive, similarity, 0), { axes: [1], keep: true }); // [2n, 1]
  return ofHits(hit, others);
}

/**
 * The sum of the squared elements of the d x d matrix a' b, of a and b [n, d]. Equal to that of the elementwise product
 * of a a' and b b', which are n x n: batches are smaller than embeddings are long.
 */
export function sumOfSquaredProducts(a: Tensor, b: Tensor): Tensor {
  const [gramA, gramB] = [a, b].map((x) => gemm(x, x, null, { transB: true })) as [Tensor, Tensor]; // [n, n] each
  return reduceSum(mul(gramA, gramB)); // []
}
