/** Losses of detectors, value by value; as torchvision has them, from logits of any size. */
import type { Tensor } from "../graph/tensor.ts";
import {
  abs,
  add,
  div,
  exp,
  log,
  maximum,
  minimum,
  mul,
  neg,
  relu,
  sigmoid,
  square,
  sub,
  where,
} from "../ops/elementwise.ts";
import { chunk } from "../ops/movement.ts";

/** log(1 + exp(x)), safe for large x. */
const softplus = (x: Tensor): Tensor => add(relu(x), log(add(exp(neg(abs(x))), 1)));

/** Weight of what is there; the other classes have 1 less it (Lin et al. 2017, section 4.1). */
const ALPHA = 0.25;

/**
 * Sigmoid focal loss (Lin et al. 2017, arXiv 1708.02002) with alpha 0.25 and gamma 2 of each logit, as logits: its class is
 * there (bool) or not. The sign turns the logit to that of what is wrong: -log(1 - p) = softplus, so that p is exact near 1.
 */
export function focalLoss(logits: Tensor, there: Tensor): Tensor {
  const wrong = mul(logits, where(there, -1, 1)); // as logits
  return mul(where(there, ALPHA, 1 - ALPHA), mul(square(sigmoid(wrong)), softplus(wrong)));
}

/** Cross-entropy of sigmoid(logits) with targets in [0, 1], as logits. */
export const binaryCrossEntropy = (logits: Tensor, targets: Tensor): Tensor =>
  sub(softplus(logits), mul(logits, targets));

/** Keeps empty boxes from a division by 0. */
const EPS = 1e-7;

/**
 * The generalized IoU loss (Rezatofighi et al. 2019, arXiv 1902.09630), 1 - GIoU, of two boxes around one place: each by its
 * distances to left, top, right and bottom, 0 or more, [n, 4, places] -> [n, 1, places].
 */
export function giouLoss(a: Tensor, b: Tensor): Tensor {
  const shared = area(minimum(a, b)); // [n, 1, places], like all below
  const hull = area(maximum(a, b));
  const union = sub(add(area(a), area(b)), shared);
  return add(sub(1, div(shared, add(union, EPS))), div(sub(hull, union), add(hull, EPS)));
}

/** [n, 4, places] -> [n, 1, places]. */
function area(distances: Tensor): Tensor {
  const [before, behind] = chunk(distances, 1, 2); // [n, 2, places] each
  const [width, height] = chunk(add(before!, behind!), 1, 2); // [n, 1, places] each
  return mul(width!, height!);
}
