import { Command, InvalidArgumentError } from "commander";
import type { EncoderOptions } from "../api/encoder.ts";
import {
  checkBaseline,
  type ProbeKind,
  type ProbeResult,
  probeKindNamed,
  probes,
  readBaseline,
  summaryOf,
  writeBaseline,
  writeConfusion,
} from "../api/probe.ts";
import { expected, UserError } from "../errors.ts";
import { checkWritable } from "../files/atomic.ts";
import {
  CUDA_LIBRARIES,
  DEVICE,
  integer,
  listOf,
  nonNegative,
  outputOf,
  PROVIDER,
  percentage,
  positive,
  positiveInteger,
  RANGE,
  report,
  threadCount,
  valueRange,
} from "./options.ts";

interface Flags extends Pick<EncoderOptions, "provider" | "device" | "cudaLibraries" | "threads"> {
  readonly kind: readonly ProbeKind[];
  readonly train?: string;
  readonly test?: string;
  readonly features?: readonly [string, string];
  readonly limit?: number;
  readonly k?: readonly number[];
  readonly temperature?: readonly number[];
  readonly labels?: number;
  readonly seed?: number;
  readonly seeds?: number;
  readonly resamples?: number;
  readonly range?: readonly [number, number];
  readonly confusion?: string;
  readonly baseline?: string;
  readonly tolerance: number;
  readonly writeBaseline?: string;
  readonly json?: boolean;
}

export const probeCommand = () =>
  new Command("probe")
    .description("Say how good an encoder is, by kNN or a linear classifier on its frozen features")
    .argument("[encoder]", "encoder.onnx or a run's folder")
    .requiredOption("--kind <kinds>", "knn, linear or both: knn,linear", listOf(probeKindNamed))
    .option("--train <dir>", "labelled folder: one folder for each class")
    .option("--test <dir>", "labelled folder with the same classes")
    .option("--features <train.npy,test.npy>", "what embed wrote, in place of an encoder and folders", pair)
    .option("--limit <n>", "a fixed, balanced sample of this many images of each", positiveInteger)
    .option("--labels <share>", "trains on 1%, 10%, ... of the labels, a fixed, balanced subset", percentage)
    .option("--k <n,...>", "neighbours of kNN (default: 200)", listOf(positiveInteger))
    .option("--temperature <t,...>", "of kNN's votes (default: 0.1)", listOf(positive))
    .option("--seed <n>", "(default: 0)", integer)
    .option(
      "--seeds <n>",
      "trains a linear classifier so often, and gives the spread (default: 1)",
      positiveInteger,
    )
    .option("--resamples <n>", "of the test images, for the interval (default: 1000)", positiveInteger)
    .option("--range <low,high>", `${RANGE} (default: the encoder's)`, valueRange)
    .addOption(PROVIDER)
    .addOption(DEVICE)
    .addOption(CUDA_LIBRARIES)
    .option("--threads <n>", "(default: one for each core)", threadCount)
    .option("--confusion <file>", "a .csv: how many images of each class were taken for which")
    .option("--baseline <file>", "end with 1 if top-1 fell below this file's")
    .option("--tolerance <points>", "by more than this", nonNegative, 0)
    .option("--write-baseline <file>", "write the result for later runs")
    .option("--json", "end with one JSON object on standard output")
    .action(async (encoder: string | undefined, { kind: kinds, ...flags }: Flags) => {
      const { k, temperature, baseline, confusion } = flags;
      if (baseline !== undefined && flags.writeBaseline !== undefined) {
        throw new UserError("probe: expected --baseline or --write-baseline, found both");
      }
      const owners = { k: "knn", temperature: "knn", seeds: "linear" } as const;
      for (const [option, kind] of Object.entries(owners) as [keyof typeof owners, ProbeKind][]) {
        if (!kinds.includes(kind) && flags[option] !== undefined)
          throw expected(`--${option}`, `it with --kind ${kind}`, `--kind ${kinds.join(",")}`);
      }
      // Before the work, of which no fault of a file should be told last.
      const knns = (k?.length ?? 1) * (temperature?.length ?? 1);
      const count = kinds.reduce((sum, kind) => sum + (kind === "knn" ? knns : 1), 0);
      for (const option of ["confusion", "baseline", "writeBaseline"] as const) {
        if (count === 1 || flags[option] === undefined) continue;
        const flag = option === "writeBaseline" ? "write-baseline" : option;
        throw expected(`--${flag}`, "one kind of probe with one k and temperature", `${count} of them`);
      }
      if (baseline !== undefined) await readBaseline(baseline, kinds[0]!);
      for (const file of [flags.writeBaseline, confusion]) if (file !== undefined) await checkWritable(file);
      const results = await probes({ ...flags, encoder, kinds }, { output: outputOf() });
      const summaries = results.map(summaryOf);
      const whole = summaries.length === 1 ? summaries[0]! : { probes: summaries };
      report(flags.json, whole, results.map(describe)); // first, so that no fault of a file loses it
      const [result] = results;
      if (confusion !== undefined) await writeConfusion(confusion, result!);
      if (flags.writeBaseline !== undefined) await writeBaseline(flags.writeBaseline, result!);
      if (baseline !== undefined) await checkBaseline(baseline, result!, flags.tolerance);
    });

function pair(text: string): readonly [string, string] {
  const [train, test, ...more] = text.split(",");
  if (!train || !test || more.length > 0)
    throw new InvalidArgumentError("Expected two files with a comma between them.");
  return [train, test];
}

function describe(result: ProbeResult): string {
  const { seeds, labels } = result;
  const how =
    result.kind === "knn"
      ? `k = ${result.k}, T = ${result.temperature}`
      : `learning rate ${result.lr}, ${result.epochs} epochs`;
  const [top1, low, high, top5] = [result.top1, result.low, result.high, result.top5].map((x) =>
    x.toFixed(2),
  );
  // Of five classes or fewer each is among the five.
  const five = result.classes.length > 5 ? `, top-5 ${top5} %` : "";
  const spread = seeds
    ? `; ${seeds.top1.length} seeds: mean ${seeds.mean.toFixed(2)} %, standard deviation ${seeds.std.toFixed(2)}`
    : "";
  const share = labels === undefined ? "" : ` (${100 * labels} % of the labels)`;
  return (
    `${result.kind} top-1 ${top1} %  (95 %: ${low} to ${high}${five}; ` +
    `${how}${spread}; ${result.train} train${share} and ${result.test} test images, ${result.features} features)`
  );
}
