/**
 * What the CPU is built: a batch in chunks that fit its cache, gradients as matrix products, Winograd convolutions, and an
 * order that saves memory.
 */
import { logSoftmaxOp } from "../../ops/reduce.ts";
import type { Target } from "../../ops/target.ts";
import { inputGradient, weightGradient } from "../conv-products.ts";
import { maxPoolWithPlaces } from "../max-pool.ts";
import { nextSumsOf } from "./waits.ts";
import { winogradConv, winogradPays } from "./winograd.ts";

/** @param pieces the chunks in which a step goes through its batch; `piecesFor` chooses what is fastest */
export const cpu = (pieces = 1): Target => ({
  name: "cpu",
  pieces,
  viewByView: true,
  late: true,
  stated: false,
  settles: true,
  conv: (x, w, options) => (winogradPays(x, w, options) ? winogradConv(x, w) : undefined),
  inputGradient,
  weightGradient,
  maxPool: maxPoolWithPlaces,
  logSoftmax: logSoftmaxOp,
  waits: nextSumsOf,
});
