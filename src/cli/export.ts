import { Command } from "commander";
import { exportEncoder } from "../api/export.ts";
import { report } from "./options.ts";

export const exportCommand = () =>
  new Command("export")
    .description("Write the frozen encoder of a run's latest checkpoint")
    .argument("<run>", "the run's folder")
    .requiredOption("--out <dir>", "folder for encoder.onnx")
    .option("--json", "end with one JSON object on standard output")
    .action(async (run: string, { out, json }: { out: string; json?: boolean }) => {
      const result = await exportEncoder(run, { out });
      report(json, result, [
        `${result.encoder}: ${(result.bytes / 1e6).toFixed(1)} MB, ${result.steps} steps, ` +
          `within ${result.maxRelative.toExponential(1)} of the training-time encoder`,
      ]);
    });
