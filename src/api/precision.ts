/** How exact a run's arithmetic is, and what that asks of its step. */
import type { ArtifactSpec } from "../artifact/artifact-spec.ts";
import type { CompiledArtifact } from "../artifact/compile.ts";
import type { Graphs } from "../artifact/files.ts";
import { expected } from "../errors.ts";
import type { Provider } from "../runtime/session.ts";
import type { TrainOptions } from "./train-options.ts";

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

/** How exact the provider's arithmetic is to be. @throws UserError if it cannot be told so */
export function exactness({
  provider,
  deterministic,
  precision,
  tf32,
}: Pick<TrainOptions, "deterministic" | "precision" | "tf32"> & {
  readonly provider: Provider;
}) {
  if (deterministic && provider === "webgpu")
    throw expected("--deterministic", "it with --provider cuda or cpu", `--provider ${provider}`);
  if (tf32 !== undefined && provider !== "cuda")
    throw expected("--tf32", "it with --provider cuda", `--provider ${provider}`);
  const told = tf32 === undefined ? precision : tf32 ? "tf32" : "fp32";
  if (precision !== undefined && precision !== told)
    throw expected(
      "--precision",
      `${told}, as by --${tf32 ? "" : "no-"}tf32`,
      precision,
      "leave out one of the two",
    );
  if (told !== undefined && told !== "fp32" && provider !== "cuda")
    throw expected(`--precision ${told}`, "it with --provider cuda", `--provider ${provider}`);
  const always = "deterministic: runs on the CPU always are, on one machine with as many threads";
  return {
    config: { ...(deterministic && { deterministic }), ...(told && { precision: told }) },
    chosen: [
      ...(deterministic && provider === "cpu" ? [always] : []),
      ...(told && provider === "cuda" ? [`provider cuda: precision ${told}`] : []),
    ],
  };
}
