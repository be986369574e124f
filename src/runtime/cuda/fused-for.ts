import type { HalfType } from "../../graph/protos.ts";
import { type Sizes, signatureOf } from "../../graph/signature.ts";
import type { Precision } from "../../spec.ts";
import { fused } from "./fused/lower.ts";
import type { Fused } from "./kernel.ts";

/** A step for batches of these sizes alone, in the precision asked for; undefined where it stays as it is. */
export type Fuse = (graph: Uint8Array, sizes: Sizes, precision: Precision) => Fused | undefined;

/** Leaves steps as they are by "0", to see what fusing them is worth. */
const ASKED = "ORT_PRETRAIN_FUSED";

const HALVES: Readonly<Partial<Record<Precision, HalfType>>> = { bf16: "bfloat16", fp16: "float16" };

/** A step whose passes over memory are fused. */
export const fusedFor: Fuse = (graph, sizes, precision) =>
  process.env[ASKED] === "0" ? undefined : fusedStep(graph, sizes, precision);

export const fusedStep: Fuse = (graph, sizes, precision) => {
  const fed = signatureOf(graph).inputs.map(({ name, shape }) => [name, sizes.of(shape)] as const);
  return fused(graph, new Map(fed), HALVES[precision]);
};
