import { Command } from "commander";
import { type FinetuneResult, finetune, finetuneSummary } from "../api/finetune.ts";
import { compareFinetuned, comparisonLines } from "../api/finetune-compare.ts";
import { type FinetuneOptions, STARTS, type Start } from "../api/finetune-start.ts";
import { MEASURES, TASKS } from "../api/finetune-task.ts";
import { expected } from "../errors.ts";
import type { RandAugment } from "../spec.ts";
import { duration } from "../train/duration.ts";
import {
  CUDA_LIBRARIES,
  DEVICE,
  integer,
  listOf,
  nonNegative,
  oneOf,
  outputOf,
  PROVIDER,
  percentage,
  positive,
  positiveInteger,
  QUIET,
  RANGE,
  report,
  setting,
  share,
  threadCount,
  valueRange,
} from "./options.ts";
import { INTERRUPTED, listenToSignals } from "./signals.ts";

interface Flags extends Omit<FinetuneOptions, "labels" | "architecture" | "config"> {
  readonly set?: FinetuneOptions["config"];
  readonly encoder?: string;
  readonly labels?: readonly number[];
  readonly seeds?: number;
  readonly compare?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** RandAugment's N and M. */
function operations(text: string): RandAugment {
  const [operations = 0, magnitude = Number.NaN, ...more] = text.split(",").map(Number);
  if (
    Number.isInteger(operations) &&
    operations > 0 &&
    magnitude >= 0 &&
    magnitude <= 30 &&
    more.length === 0
  )
    return { operations, magnitude };
  throw expected("--rand-augment", "operations and a magnitude of 0 to 30, such as 2,9", text);
}

export const finetuneCommand = () =>
  new Command("finetune")
    .description("Train a whole encoder further, for the classes of labelled images or to find objects")
    .argument("[encoder]", "a run's folder, an encoder.onnx or a .safetensors file (needed unless --resume)")
    .option("--task <name>", `${TASKS.join(" or ")} (default: classes)`, oneOf("task", TASKS))
    .option(
      "--data <path>",
      "folder with one folder per class, or a .csv of images and labels; for detection annotations of COCO, Pascal VOC or " +
        "YOLO (needed unless --resume)",
    )
    .option(
      "--images <dir>",
      "folder that paths in a .csv or COCO's .json are relative to (default: its own)",
    )
    .requiredOption("--out <dir>", "the run's folder")
    .option("--test <path>", "the same to test the exported model on")
    .option("--limit <n>", "take fixed, balanced samples of this many images", positiveInteger)
    .option("--labels <percent>", "share of the labels, such as 10% (default: 100%)", listOf(percentage))
    .option("--from <start>", `${STARTS.join(", ")} (default: pretrained)`, oneOf("start", STARTS))
    .option("--encoder <name>", "what a .safetensors file holds")
    .option("--image-size <px>", "height and width of the views (default: the encoder's)", positiveInteger)
    .option("--lr <f>", "peak learning rate of the encoder", positive)
    .option(
      "--head-lr <f>",
      "that of the head (default: 10 times --lr; from scratch, and for detection, --lr)",
      positive,
    )
    .option("--epochs <n>", "(default: 30)", positive)
    .option(
      "--batch <n>",
      "images a step (default: 64, for detection 16; all if there are fewer)",
      positiveInteger,
    )
    .option("--optimizer <name>", "sgd, lars or adamw (default: the encoder's, else sgd)")
    .option("--weight-decay <f>", "(default: the optimizer's)", nonNegative)
    .option("--warmup-epochs <n>", "(default: the optimizer's)", nonNegative)
    .option("--set <key=value>", "a setting of the method, such as channels=64; may be repeated", setting)
    .option("--freeze-until <stage>", "this stage and those before it stay as they are")
    .option("--layer-decay <f>", "learning rate of a stage over that of the next (default: 1)", share)
    .option("--label-smoothing <f>", "(default: 0.1, or 0 of a .csv)", share)
    .option("--mixup <alpha>", "mixes images and classes by shares from Beta(alpha, alpha)", nonNegative)
    .option("--ema <f>", "export moving averages of the weights, which keep this share each step", share)
    .option("--jitter <f>", "strength of changes of colour (default: 0)", share)
    .option(
      "--rand-augment <n,m>",
      "so many changes of colour in a row, of this magnitude of 30, such as 2,9",
      operations,
    )
    .option("--held-out <f>", "share of the images, of each class, that is held out (default: 0.1)", share)
    .option(
      "--early-stop <n>",
      "stop after so many epochs without gain on those held out, and export the best",
      positiveInteger,
    )
    .option("--seed <n>", "(default: 0)", integer)
    .option("--seeds <n>", "train so often, with --seed and the next ones, and compare", positiveInteger)
    .option("--compare", "from scratch beside pretrained, for each of --labels, a list with commas")
    .option("--range <low,high>", `${RANGE} (default: 0,65535 for 16 bits)`, valueRange)
    .option("--checkpoint-every <n>", "steps between two checkpoints (default: an epoch)", positiveInteger)
    .option("--cache-mb <n>", "memory for decoded images (default: 2048, or a quarter of all)", nonNegative)
    .addOption(PROVIDER)
    .addOption(DEVICE)
    .addOption(CUDA_LIBRARIES)
    .option("--threads <n>", "(default: one for each core)", threadCount)
    .option("--resume", "go on with the run in --out")
    .addOption(QUIET)
    .option("--json", "end with one JSON object on standard output")
    .action(async (encoder: string | undefined, flags: Flags) => {
      const { encoder: architecture, labels, seeds, compare, json, quiet, from, set, ...rest } = flags;
      const options = { ...rest, encoder, architecture, ...(set && { config: set }) };
      const surroundings = { output: outputOf(quiet), ...listenToSignals() };
      if (compare || seeds !== undefined || (labels && labels.length > 1)) {
        if (rest.resume) throw expected("finetune --resume", "one run", "several");
        const starts: readonly Start[] = compare ? ["scratch", "pretrained"] : [from ?? "pretrained"];
        const result = await compareFinetuned(
          { ...options, starts, shares: labels ?? [1], seeds },
          surroundings,
        );
        report(json, result, comparisonLines(result));
        if (surroundings.signal.aborted) process.exitCode = INTERRUPTED;
        return;
      }
      const result = await finetune({ ...options, labels: labels?.[0], from }, surroundings);
      report(json, finetuneSummary(result), [
        ...trainedLines(result),
        ...testLines(result),
        ...modelLines(result),
        `run:     ${result.run}`,
      ]);
      if (result.interrupted) process.exitCode = INTERRUPTED;
    });

function modelLines({ classifier, detector, run }: FinetuneResult): readonly string[] {
  const all = Object.entries({ classifier, detector }).filter(([, path]) => path !== null);
  return all.length > 0
    ? all.map(([name, path]) => `${name}: ${path}`)
    : [`interrupted: go on with  ort-pretrain finetune --resume --out ${run}`];
}

function trainedLines(result: FinetuneResult): readonly string[] {
  const { steps, epochs, seconds, images, heldOut, validation, measure, bestEpoch, interrupted } = result;
  const what = measure === "top1" ? "" : `${MEASURES[measure]} `;
  const held = validation === null ? "" : `, ${what}${validation.toFixed(2)} % of ${heldOut} held out`;
  const best = `the weights of epoch ${bestEpoch}, the best of those held out, are exported`;
  return [
    `${steps} steps (${epochs.toFixed(1)} epochs) of ${images} images in ${duration(seconds)}${held}`,
    ...(bestEpoch === null || interrupted ? [] : [best]),
  ];
}

/** What the test images say, and those of each class. */
function testLines({ test, averagePrecision, detection }: FinetuneResult): readonly string[] {
  const percent = (value: number | null) => (value === null ? "-" : value.toFixed(2));
  const within = ({ low, high }: { readonly low: number | null; readonly high: number | null }) =>
    `(95 % interval ${percent(low)} to ${percent(high)})`;
  if (test)
    return [
      `top-1 ${test.top1.toFixed(2)} % ${within(test)}, ` +
        `top-5 ${test.top5.toFixed(2)} %, of ${test.images.length} test images`,
      ...test.classes.map((own) => `  ${own.class}: ${own.top1.toFixed(2)} % of ${own.images}`),
    ];
  if (detection)
    return [
      `AP50 ${percent(detection.ap50)} % ${within(detection)}, AP ${percent(detection.ap)} %, ` +
        `AP75 ${percent(detection.ap75)} %, of ${detection.objects} objects in ${detection.images} test images`,
      ...detection.classes.map(
        (own) =>
          `  ${own.class}: AP50 ${percent(own.ap50)} %, AP ${percent(own.ap)} %, of ${own.objects} objects`,
      ),
    ];
  if (!averagePrecision) return [];
  const { mean, images, classes } = averagePrecision;
  return [
    `mAP ${mean.toFixed(2)} % ${within(averagePrecision)}, of ${images} test images`,
    ...classes.map((own) => `  ${own.class}: AP ${own.averagePrecision.toFixed(2)} %, ${own.images} images`),
  ];
}
