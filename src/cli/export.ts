import { Command } from "commander";
import { exportEncoder } from "../api/export.ts";
import { QUIET, report } from "./options.ts";

interface Flags {
  readonly out: string;
  readonly data?: string;
  readonly stages?: boolean;
  readonly safetensors?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export const exportCommand = () =>
  new Command("export")
    .description("Write the frozen encoder of a run's latest checkpoint")
    .argument("<run>", "the run's folder")
    .requiredOption("--out <dir>", "folder for encoder.onnx")
    .option(
      "--data <dir>",
      "images to compare it with the trained one on (default: the run's, or drawn ones)",
    )
    .option("--stages", "with each stage, pooled, as a further output: for probe --kind layers")
    .option("--safetensors", "its weights as well, as encoder.safetensors with timm's names")
    .addOption(QUIET)
    .option("--json", "end with one JSON object on standard output")
    .action(async (run: string, { json, quiet: _, ...options }: Flags) => {
      const result = await exportEncoder(run, options);
      report(json, result, [
        `${result.encoder}: ${(result.bytes / 1e6).toFixed(1)} MB, ${result.steps} steps, ` +
          `within ${result.maxRelative.toExponential(1)} of the training-time encoder, ` +
          `compared on ${result.compared}`,
        ...(result.safetensors === undefined ? [] : [`${result.safetensors}: the weights, by timm's names`]),
        ...(result.audio
          ? [`${result.audio.encoder}: ${(result.audio.bytes / 1e6).toFixed(1)} MB, of audio`]
          : []),
      ]);
    });
