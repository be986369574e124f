/** What a precision asks of a run's step. */
import type { ArtifactSpec, CompiledArtifact } from "../artifact/compile.ts";
import type { Graphs } from "../artifact/files.ts";
import { expected } from "../errors.ts";
import type { TrainOptions } from "./create.ts";

type Asked = Pick<TrainOptions, "precision">;

/** Of a spec: whether the loss is to be scaled. */
export const scaledFor = ({ precision }: Asked): Pick<ArtifactSpec, "precision"> =>
  precision === "fp16" ? { precision } : {};

/** @throws UserError if a step cannot be computed in the half precision asked for */
export function refuseUnfit({ precision }: Asked, { manifest, graphs }: CompiledArtifact<Graphs>): void {
  if (precision !== "bf16" && precision !== "fp16") return;
  const flag = `--precision ${precision}`;
  // Passes of a step in parts are not fused.
  if (!graphs.step)
    throw expected(flag, "a step that is one graph", "one in parts", "leave out --micro-batch");
  if (precision === "fp16" && !manifest.precision)
    throw expected(
      flag,
      "an artifact whose loss can be scaled",
      `${manifest.name} of another making`,
      "leave out --graph",
    );
}
