import { Command } from "commander";
import type { EncoderOptions } from "../api/encoder.ts";
import {
  checkBaseline,
  type ProbeResult,
  probe,
  probeKindNamed,
  readBaseline,
  writeBaseline,
} from "../api/probe.ts";
import { expected, UserError } from "../errors.ts";
import { checkWritable } from "../files/atomic.ts";
import {
  CUDA_LIBRARIES,
  DEVICE,
  integer,
  nonNegative,
  outputOf,
  PROVIDER,
  positive,
  positiveInteger,
  RANGE,
  report,
  threadCount,
  valueRange,
} from "./options.ts";

interface Flags extends Pick<EncoderOptions, "provider" | "device" | "cudaLibraries" | "threads"> {
  readonly kind: string;
  readonly train: string;
  readonly test: string;
  readonly limit?: number;
  readonly k?: number;
  readonly temperature?: number;
  readonly seed?: number;
  readonly range?: readonly [number, number];
  readonly baseline?: string;
  readonly tolerance: number;
  readonly writeBaseline?: string;
  readonly json?: boolean;
}

export const probeCommand = () =>
  new Command("probe")
    .description("Say how good an encoder is, by kNN or a linear classifier on its frozen features")
    .argument("<encoder>", "encoder.onnx or a run's folder")
    .requiredOption("--kind <kind>", "knn or linear")
    .requiredOption("--train <dir>", "labelled folder: one folder for each class")
    .requiredOption("--test <dir>", "labelled folder with the same classes")
    .option("--limit <n>", "a fixed, balanced sample of this many images of each", positiveInteger)
    .option("--k <n>", "neighbours of kNN (default: 200)", positiveInteger)
    .option("--temperature <t>", "of kNN's votes (default: 0.1)", positive)
    .option("--seed <n>", "(default: 0)", integer)
    .option("--range <low,high>", `${RANGE} (default: the encoder's)`, valueRange)
    .addOption(PROVIDER)
    .addOption(DEVICE)
    .addOption(CUDA_LIBRARIES)
    .option("--threads <n>", "(default: one for each core)", threadCount)
    .option("--baseline <file>", "end with 1 if top-1 fell below this file's")
    .option("--tolerance <points>", "by more than this", nonNegative, 0)
    .option("--write-baseline <file>", "write the result for later runs")
    .option("--json", "end with one JSON object on standard output")
    .action(async (encoder: string, flags: Flags) => {
      if (flags.baseline !== undefined && flags.writeBaseline !== undefined) {
        throw new UserError("probe: expected --baseline or --write-baseline, found both");
      }
      const kind = probeKindNamed(flags.kind);
      for (const option of ["k", "temperature"] as const) {
        if (kind !== "knn" && flags[option] !== undefined)
          throw expected(`--${option}`, "it with --kind knn", `--kind ${kind}`);
      }
      // Before the work, of which no fault of a file should be told last.
      if (flags.baseline !== undefined) await readBaseline(flags.baseline, kind);
      if (flags.writeBaseline !== undefined) await checkWritable(flags.writeBaseline);
      const result = await probe({ ...flags, encoder, kind }, { output: outputOf() });
      report(flags.json, result, [describe(result)]); // first, so that no fault of a file loses it
      if (flags.writeBaseline !== undefined) await writeBaseline(flags.writeBaseline, result);
      if (flags.baseline !== undefined) await checkBaseline(flags.baseline, result, flags.tolerance);
    });

function describe(result: ProbeResult): string {
  const how =
    result.kind === "knn"
      ? `k = ${result.k}, T = ${result.temperature}`
      : `learning rate ${result.lr}, ${result.epochs} epochs`;
  return (
    `${result.kind} top-1 ${result.top1.toFixed(2)} %  ` +
    `(${how}; ${result.train} train and ${result.test} test images, ${result.features} features)`
  );
}
