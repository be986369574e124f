import { Command } from "commander";
import { type Baseline, type Measured, readBaseline, writeBaseline } from "../api/baseline.ts";
import { hold, measure } from "../api/gate.ts";
import { powerLines, repeatLines } from "../api/gate-report.ts";
import {
  hasTop5,
  type LayerScore,
  PROBE_KINDS,
  type ProbeKind,
  type ProbeResult,
  probes,
  summaryOf,
  writeConfusion,
} from "../api/probe.ts";
import { recordProbes } from "../api/probe-record.ts";
import type { Surroundings } from "../api/surroundings.ts";
import { expected, UserError } from "../errors.ts";
import { checkWritable } from "../files/atomic.ts";
import { splitForeign, withForeignOptions } from "./foreign.ts";
import {
  BASELINE,
  GATE,
  type Gateable,
  type GateFlags,
  gated,
  JUNIT,
  LEAST_OVERLAP,
  SUMMARY,
  TOLERANCE,
  WRITE_BASELINE,
} from "./gate.ts";
import {
  CUDA_LIBRARIES,
  DEVICE,
  integer,
  listOf,
  oneOf,
  outputOf,
  PROVIDER,
  percentage,
  positive,
  positiveInteger,
  QUIET,
  RANGE,
  report,
  threadCount,
  valueRange,
} from "./options.ts";
import { runRank } from "./rank.ts";
import { type RetrievalFlags, runRetrieval } from "./retrieval.ts";
import { runSegmentation, type SegmentationFlags } from "./segmentation.ts";
import { INTERRUPTED, listenToSignals } from "./signals.ts";

interface Flags extends RetrievalFlags, SegmentationFlags, GateFlags {
  readonly kind: readonly Kind[];
  readonly train?: string;
  readonly k?: readonly number[];
  readonly temperature?: readonly number[];
  readonly labels?: number;
  readonly seeds?: number;
  readonly augment?: boolean;
  readonly stages?: readonly string[];
  readonly repeat?: number;
}

/** What is told without labels of images, each by itself. */
const ALONE = ["rank", "retrieval", "segmentation"] as const;
/** Those that tell accuracy, and these. */
const KINDS = [...PROBE_KINDS, ...ALONE] as const;
type Kind = (typeof KINDS)[number];
const isAlone = (kind: Kind): kind is (typeof ALONE)[number] => ALONE.some((alone) => alone === kind);

/** Those that are trained on some images and asked about others. */
const TESTED = [...PROBE_KINDS, "segmentation"] as const;

/** Those that are held to a baseline, and asked about features. */
const GATED = [...PROBE_KINDS, "rank"] as const;

/** The kinds that an option is for, where it is not for all. */
const OWNERS: Readonly<Partial<Record<keyof Flags, readonly Kind[]>>> = {
  ...{ train: PROBE_KINDS, labels: PROBE_KINDS, repeat: PROBE_KINDS },
  ...{ test: TESTED, resamples: TESTED, confusion: TESTED },
  ...{
    k: ["knn"],
    temperature: ["knn"],
    seeds: ["linear"],
    epochs: ["linear", "segmentation"],
    augment: ["linear"],
    stages: ["layers"],
    stage: ["segmentation"],
    data: ALONE,
    audio: ["retrieval"],
    views: ["rank"],
    leastOverlap: ["rank"],
  },
  ...{ features: GATED, baseline: GATED, writeBaseline: GATED, gate: GATED, junit: GATED, summary: GATED },
};

export const probeCommand = () =>
  withForeignOptions(new Command("probe"))
    .description(
      "Say how good an encoder is: kNN and linear classifiers on its frozen features, linear ones on each layer, what features tell without labels, retrieval between pictures and audio, or linear segmentation",
    )
    .argument("[encoder]", "encoder.onnx, a run's folder, or a third-party model")
    .requiredOption(
      "--kind <kinds>",
      "knn, linear, layers or several: knn,linear; or rank or retrieval, which need no labels; or segmentation",
      listOf(kindNamed),
    )
    .option("--train <dir>", "labelled folder: one folder for each class")
    .option("--test <dir>", "labelled folder with the same classes; of segmentation: as --data")
    .option(
      "--data <dir>",
      "of rank: folder of images, searched recursively; of retrieval: with audio files; of segmentation: with images/ and masks/",
    )
    .option("--audio <csv>", "of retrieval: a list picture,sound (default: audio files beside the pictures)")
    .option(
      "--features <train.npy,test.npy>",
      "what embed wrote, in place of an encoder and folders; one of rank",
      listOf(String),
    )
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
    .option(
      "--epochs <n>",
      "of a linear classifier, of pixels too (default: 100; of pixels 1,000 steps or more)",
      positiveInteger,
    )
    .option(
      "--augment",
      "trains a linear classifier on random resized crops and flips, encoded in each epoch",
    )
    .option("--stages <names>", "layers of a third-party model: values of it, NAME,NAME,...", listOf(String))
    .option("--stage <name>", "of segmentation: whose map is classified (default: the last)")
    .option("--views <n>", "of each image, of rank (default: 10)", positiveInteger)
    .option("--resamples <n>", "of the test images, for the interval (default: 1000)", positiveInteger)
    .option(
      "--repeat <n>",
      "of a run: trains it with the next seeds too, n times in all, and gives the spread",
      positiveInteger,
    )
    .option("--range <low,high>", `${RANGE} (default: the encoder's)`, valueRange)
    .addOption(PROVIDER)
    .addOption(DEVICE)
    .addOption(CUDA_LIBRARIES)
    .option("--threads <n>", "(default: one for each core)", threadCount)
    .option("--confusion <file>", "a .csv: how many images of each class were taken for which")
    .addOption(BASELINE)
    .addOption(TOLERANCE)
    .addOption(LEAST_OVERLAP)
    .addOption(GATE)
    .addOption(JUNIT)
    .addOption(SUMMARY)
    .addOption(WRITE_BASELINE)
    .addOption(QUIET)
    .option("--json", "end with one JSON object on standard output")
    .action(async (encoder: string | undefined, flags: Flags) => {
      const { kind: kinds } = flags;
      for (const [option, owners] of Object.entries(OWNERS) as [keyof Flags, readonly Kind[]][]) {
        if (flags[option] !== undefined && !owners.some((owner) => kinds.includes(owner)))
          throw expected(
            flagOf(option),
            `it with --kind ${owners.join(" or ")}`,
            `--kind ${kinds.join(",")}`,
          );
      }
      const alone = kinds.find(isAlone);
      if (alone && kinds.length > 1) throw expected("--kind", `${alone} by itself`, kinds.join(","));
      if (alone === "rank") await runRank(encoder, flags);
      else if (alone === "retrieval") await runRetrieval(encoder, flags);
      else if (alone === "segmentation") await runSegmentation(encoder, flags);
      else await runProbes(encoder, kinds as readonly ProbeKind[], flags);
    });

async function runProbes(
  encoder: string | undefined,
  kinds: readonly ProbeKind[],
  { kind: _, data: __, views: ___, features, quiet, ...given }: Flags,
): Promise<void> {
  const { model, others: flags } = splitForeign(given);
  const { k, temperature, confusion, repeat } = flags;
  if (features && features.length !== 2)
    throw expected("--features", "two files, to train and to test on", `${features.length}`);
  // Before the work, of which no fault of a file should be told last.
  const knns = (k?.length ?? 1) * (temperature?.length ?? 1);
  const count = kinds.reduce((sum, kind) => sum + (kind === "knn" ? knns : 1), 0);
  if (count > 1 && confusion !== undefined)
    throw expected("--confusion", "one kind of probe with one k and temperature", `${count} of them`);
  if (confusion !== undefined) await checkWritable(confusion);
  const sets = features && ([features[0]!, features[1]!] as const);
  const options = { ...flags, encoder, model, kinds, features: sets };
  const surroundings: Surroundings = {
    output: outputOf(quiet),
    ...(repeat !== undefined && listenToSignals()),
  };
  const work: Gateable<readonly ProbeResult[], Measured, Baseline> = {
    plain: () => probes(options, surroundings),
    measure: (costs, baseline) => measure({ ...options, costs, baseline }, surroundings),
    hold,
    resultOf: (measured) => measured.results,
    linesOf: powerLines,
    read: readBaseline,
    write: writeBaseline,
  };
  const found = await gated(work, encoder !== undefined, flags).catch((error) => {
    if (!surroundings.signal?.aborted) throw error;
    throw new UserError("interrupted: the same command goes on", INTERRUPTED);
  });
  const { result: results, gate, lines, conclude } = found;
  const summaries = results.map(summaryOf);
  const whole = summaries.length === 1 ? summaries[0]! : { probes: summaries };
  // First, so that no fault of a file loses it.
  report(flags.json, { ...whole, ...(gate && { gate }) }, [
    ...results.map(describe),
    ...repeatLines(results),
    ...lines,
  ]);
  await recordProbes(results, options, surroundings);
  if (confusion !== undefined) await writeConfusion(confusion, results[0]!);
  await conclude();
}

const flagOf = (option: keyof Flags): string =>
  `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

const kindNamed = oneOf<Kind>("kind of probe", KINDS);

function describe(result: ProbeResult): string {
  const { seeds, labels } = result;
  const how =
    result.kind === "knn"
      ? `k = ${result.k}, T = ${result.temperature}`
      : `learning rate ${result.lr}, ${result.epochs} epochs${result.augment ? " of crops and flips" : ""}`;
  const [top1, low, high, top5] = [result.top1, result.low, result.high, result.top5].map((x) =>
    x.toFixed(2),
  );
  const five = hasTop5(result) ? `, top-5 ${top5} %` : "";
  const spread = seeds
    ? `; ${seeds.top1.length} seeds: mean ${seeds.mean.toFixed(2)} %, standard deviation ${seeds.std.toFixed(2)}`
    : "";
  const share = labels === undefined ? "" : ` (${Number((100 * labels).toPrecision(3))} % of the labels)`;
  if (result.layers) return describeLayers(result, result.layers);
  return (
    `${result.kind} top-1 ${top1} %  (95 %: ${low} to ${high}${five}; ` +
    `${how}${spread}; ${result.train} train${share} and ${result.test} test images, ${result.features} features)`
  );
}

function describeLayers({ train, test, epochs }: ProbeResult, layers: readonly LayerScore[]): string {
  const width = Math.max(...layers.map(({ name }) => name.length));
  const lines = layers.map(({ name, features, ...scores }) => {
    const [top1, low, high] = [scores.top1, scores.low, scores.high].map((x) => x.toFixed(2));
    return `  ${name.padEnd(width)}  ${top1} %  (95 %: ${low} to ${high}; ${features} values)`;
  });
  return [`layers top-1 (${epochs} epochs; ${train} train and ${test} test images)`, ...lines].join("\n");
}
