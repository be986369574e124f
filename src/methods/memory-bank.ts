/**
 * A memory bank (Wu et al. 2018): for each image of the data the embedding that it had when it was last seen, smoothed
 * over the epochs. A batch is scored against its own rows, the positives, and against rows drawn at random from the
 * images outside of the batch, so that no positive is among the negatives. All rows of the batch share these negatives.
 */
import type { Tensor } from "../graph/tensor.ts";
import { type Contrast, infoNce } from "../nn/losses.ts";
import type { Scope } from "../nn/scope.ts";
import {
  add,
  div,
  exp,
  greater,
  greaterOrEqual,
  log,
  maximum,
  mul,
  neg,
  sub,
  where,
} from "../ops/elementwise.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { cast, concat, reshape, stopGradient } from "../ops/movement.ts";
import { logSumExp, normalize, reduceMax, reduceMean, reduceSum } from "../ops/reduce.ts";
import { countOf } from "../ops/shape.ts";
import type { Chance } from "../spec.ts";

export interface MemoryBank {
  /** The batch's rows as they were before the step, [n, d]. */
  readonly own: Tensor;
  /** Rows of other images, [m, d]: as many as asked for, or all that there are. */
  readonly others: Tensor;
}

/** A row of `dim` values for each image, at first in a direction drawn at random; `negatives` others are fed. */
export const memoryBank = (s: Scope, of: Tensor, dim: number, negatives: number): MemoryBank =>
  s.rows("bank", [dim], { kind: "directions" }, { of, count: negatives });

/** The batch's rows take in its embeddings [n, d], of unit length: normalize(momentum old + (1 - momentum) new). */
export const remember = (s: Scope, { own }: MemoryBank, embeddings: Tensor, momentum: number): void =>
  s.update(own, normalize(add(mul(own, momentum), mul(embeddings, 1 - momentum)))); // [n, d]

export type BankLoss = "nce" | "softmax" | "infonce";

/** InfoNCE chooses one row; the other losses tell each of the negatives besides. */
export const bankChance = (loss: BankLoss): Chance => ({ kind: "bank", each: loss !== "infonce" });

/** The loss of embeddings [n, d], of unit length, against the bank; averaged over the rows. */
export function contrastWithBank(
  s: Scope,
  loss: BankLoss,
  embeddings: Tensor,
  bank: MemoryBank,
  temperature: Tensor,
): Contrast {
  if (loss === "infonce") return infoNce(embeddings, bank.own, bank.others, temperature);
  const hit = div(reduceSum(mul(embeddings, bank.own), { axes: [1], keep: true }), temperature); // [n, 1]
  const rest = div(matmul(embeddings, swap(bank.others)), temperature); // [n, m]
  const all = concat([hit, rest], 1); // [n, 1 + m]
  const terms = loss === "nce" ? nce(s, hit, rest, all) : softmaxNce(hit, rest, all); // [n, 1]
  const best = reduceMax(all, { axes: [1], keep: true }); // [n, 1]
  return { loss: reduceMean(terms), accuracy: reduceMean(cast(greaterOrEqual(hit, best), "float32")) };
}

/**
 * Noise-contrastive estimation (Wu et al. 2018, equations 4 to 8): with P = exp(score) / Z and noise that draws each of
 * N images with probability Pn = 1 / N, h = P / (P + K Pn) is the probability that a score is the positive's, and the
 * loss is -log h(positive) - sum over the K negatives of log(1 - h(negative)). K counts the negatives that were fed.
 * Here c = K Pn Z, so that h = exp(score) / (exp(score) + c).
 */
function nce(s: Scope, hit: Tensor, rest: Tensor, all: Tensor): Tensor {
  const images = s.scalar("instances", { kind: "images" }); // N
  const z = partition(s, mul(reduceMean(exp(all)), images)); // []
  const negatives = reshape(countOf(rest, [1]).symbolic[0]!, []); // K
  const c = mul(div(negatives, images), z); // []
  const positive = log(add(mul(exp(neg(hit)), c), 1)); // [n, 1]
  const noise = log(add(div(exp(rest), c), 1)); // [n, m]
  return add(positive, reduceSum(noise, { axes: [1], keep: true })); // [n, 1]
}

/** Z, estimated from the first scores of the first batch and constant from then on, as the authors have it. */
function partition(s: Scope, estimate: Tensor): Tensor {
  const kept = s.buffer("Z", [], { kind: "constant", value: 0 });
  let z = kept;
  s.advance(kept, (latest) => {
    z = where(greater(latest, 0), latest, stopGradient(estimate)); // []
    return z;
  });
  return z;
}

/** A probability this near to 1 counts as this much below it. */
const LEAST = 1e-7;

/**
 * Misra and van der Maaten 2019, equations 4 and 5: h is the softmax over the positive and the negatives, and the loss
 * -log h(positive) - sum over negatives of log(1 - h(negative)). To the letter, equation 4 for a negative counts it
 * twice below the line and leaves the positive out; one softmax for all is what it means.
 */
function softmaxNce(hit: Tensor, rest: Tensor, all: Tensor): Tensor {
  const total = logSumExp(all); // [n, 1]
  const missed = log(maximum(sub(1, exp(sub(rest, total))), LEAST)); // [n, m]
  return sub(sub(total, hit), reduceSum(missed, { axes: [1], keep: true })); // [n, 1]
}
