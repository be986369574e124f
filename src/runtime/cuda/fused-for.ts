import type { Sizes } from "../../graph/signature.ts";
import type { Fused } from "./kernel.ts";

/** A step for batches of these sizes alone; undefined where it stays as it is. */
export type Fuse = (graph: Uint8Array, sizes: Sizes) => Fused | undefined;

/** No step is fused so far. */
export const fusedFor: Fuse = () => undefined;
