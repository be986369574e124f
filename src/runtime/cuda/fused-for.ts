import { type Sizes, signatureOf } from "../../graph/signature.ts";
import type { Precision } from "../../spec.ts";
import { fused } from "./fused/lower.ts";
import type { Fused } from "./kernel.ts";

/** A step for batches of these sizes alone, in the precision asked for; undefined where it stays as it is. */
export type Fuse = (graph: Uint8Array, sizes: Sizes, precision: Precision) => Fused | undefined;

/** Asks for fused steps by "1": their kernels are held to the plain graph on CPUs, and were not run on a GPU so far. */
const ASKED = "ORT_PRETRAIN_FUSED";

/** A step whose passes over memory are fused, where that is asked for. */
export const fusedFor: Fuse = (graph, sizes, precision) =>
  process.env[ASKED] === "1" ? fusedStep(graph, sizes, precision) : undefined;

export const fusedStep: Fuse = (graph, sizes) =>
  fused(graph, new Map(signatureOf(graph).inputs.map(({ name, shape }) => [name, sizes.of(shape)])));
