/** The graph that gives values of a third-party model the form of stages of our own encoders. */
import { STAGE_FORMS, type StageForm } from "../encoders/pooled.ts";
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { input } from "../graph/tensor.ts";
import { transpose } from "../ops/movement.ts";
import type { Dim, StageEntry } from "../spec.ts";

export type { StageForm } from "../encoders/pooled.ts";

export interface PoolGraph {
  /** `stage0`, `stage1`, ... float32, in the sizes given -> `pooled0`, ... [n, channels, places]. */
  readonly graph: Uint8Array;
  readonly stages: readonly StageEntry[];
}

/**
 * @param values [n, d], [n, t, d], or square maps [n, c, h, w] or [n, h, w, c]; whatever their n is, it is left free. Of
 *   form "map" none is [n, d]
 */
export function poolGraph(
  values: readonly { readonly name: string; readonly dims: readonly number[] }[],
  form: StageForm = "pooled",
): PoolGraph {
  const pooled = values.map(({ dims: [, ...sizes] }, i) => {
    const x = input(`stage${i}`, "float32", ["n", ...sizes]);
    const [a, b, c] = sizes;
    return STAGE_FORMS[form](c !== undefined && b !== c && a === b ? transpose(x, [0, 3, 1, 2]) : x); // [n, channels, places]
  });
  const outputs = Object.fromEntries(pooled.map((x, i) => [`pooled${i}`, x]));
  const stages = pooled.map(({ shape }, i) => {
    const [, channels, places] = shape as [Dim, number, number];
    return { name: values[i]!.name, channels, places };
  });
  return { graph: encodeModel(buildModel(outputs, { name: "pool-stages" })), stages };
}
