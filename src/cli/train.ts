import { Command } from "commander";
import { POSITIVES, positivesNamed } from "../api/positives.ts";
import { reportAfterTraining } from "../api/report.ts";
import { train } from "../api/train.ts";
import type { TrainOptions } from "../api/train-options.ts";
import { duration } from "../train/duration.ts";
import {
  CUDA_LIBRARIES,
  DEVICE,
  ENGINE,
  integer,
  nonNegative,
  outputOf,
  PRECISION,
  PROVIDER,
  positive,
  positiveInteger,
  QUIET,
  RANGE,
  report,
  setting,
  share,
  threadCount,
  valueRange,
  wholeNumber,
} from "./options.ts";
import { INTERRUPTED, listenToSignals } from "./signals.ts";

interface Flags extends Omit<TrainOptions, "config" | "knnData"> {
  readonly set?: TrainOptions["config"];
  readonly knn?: string;
  readonly report: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export const trainCommand = () =>
  new Command("train")
    .description("Train an encoder on a folder of images and export it")
    .option(
      "--data <dir>",
      "folder of images, searched recursively, or a list of them, .txt (needed unless --resume)",
    )
    .requiredOption("--out <dir>", "the run's folder")
    .option("--recipe <name>", "published settings by name (see graphs list); other options go before them")
    .option("--method <name>", "training method (default: simclr)")
    .option("--encoder <name>", "encoder (default: resnet18)")
    .option(
      "--image-size <px>",
      "height and width of the views (default: next to the images')",
      positiveInteger,
    )
    .option("--set <key=value>", "a setting of the method; may be given several times", setting)
    .option("--optimizer <name>", "sgd, lars or adamw (default: the encoder's or the method's)")
    .option("--graph <dir>", "train this artifact instead of naming method and encoder")
    .option("--epochs <n>", "(default: 100)", positive)
    .option("--steps <n>", "in place of epochs; 0 exports the encoder as initialised", wholeNumber)
    .option("--batch <n>", "images a step (default: 256, or 64 of more than 64 px)", positiveInteger)
    .option("--micro-batch <n>", "images at a time, for a batch larger than memory", positiveInteger)
    .option("--lr <f>", "peak learning rate (default: the artifact's, grown with the batch)", positive)
    .option("--weight-decay <f>", "(default: the artifact's)", nonNegative)
    .option("--warmup-epochs <n>", "(default: the artifact's)", nonNegative)
    .option("--seed <n>", "(default: 0)", integer)
    .option("--limit <n>", "train on a fixed, balanced sample of this many images", positiveInteger)
    .option(
      "--audio <csv>",
      "of audio-video: a list picture,sound (default: audio files beside the pictures, of the same names)",
    )
    .option("--range <low,high>", `${RANGE} (default: 0,65535 for 16 bits)`, valueRange)
    .option(
      "--positives <source>",
      `what views of an item come from: ${POSITIVES.join(", ")} (default: crops; docs/positives.md)`,
      positivesNamed,
    )
    .option("--window <t>", "how far apart two frames may be: seconds such as 1.5s, or frames such as 8")
    .option("--far <t>", "frames of a clip further apart are unrelated (default: ten windows)")
    .option("--tracks <file>", "boxes of objects over frames: MOT's CSV, COCO's JSON or a CSV with names")
    .option("--track-margin <f>", "shown about a box, of its width and height (default: 0.1)", nonNegative)
    .option("--pairs <file>", "two or more images a line: CSV or JSONL")
    .option(
      "--crop-overlap <f>",
      "least share of the smaller box that crops of an image have in common",
      share,
    )
    .option("--checkpoint-every <n>", "steps between two checkpoints (default: an epoch)", positiveInteger)
    .option("--cache-mb <n>", "memory for decoded images (default: 2048, or a quarter of all)", nonNegative)
    .addOption(PROVIDER)
    .addOption(ENGINE)
    .addOption(DEVICE)
    .addOption(CUDA_LIBRARIES)
    .option(
      "--deterministic",
      "the same bytes each time, with --provider cuda as far as it can (docs/gpu.md)",
    )
    .addOption(PRECISION)
    .option("--tf32", "--precision tf32")
    .option("--no-tf32", "--precision fp32")
    .option("--threads <n>", "(default: one for each core)", threadCount)
    .option("--knn <dir>", "labelled folder for kNN while training")
    .option("--knn-every <n>", "epochs between two kNN (default: 1)", positiveInteger)
    .option("--rank", "RankMe and alpha with kNN, or of training images after each epoch (default)")
    .option("--no-rank", "leave them out")
    .option(
      "--init <path>",
      "start from the weights of a run's folder, an encoder.onnx or a .safetensors file",
    )
    .option("--guard", "stop once the representation has collapsed (default)")
    .option("--no-guard", "go on all the same; the signs of it are logged")
    .option("--resume", "go on with the run in --out")
    .option("--extend-epochs <n>", "with --resume: so many epochs longer than the run began with", positive)
    .option("--extend-steps <n>", "the same in steps", positiveInteger)
    .option("--tensorboard <dir>", "write what TensorBoard reads: event files, and embeddings at the end")
    .option("--no-report", "write no report.html")
    .addOption(QUIET)
    .option("--json", "end with one JSON object on standard output")
    .action(async ({ set, knn, json, quiet, report: wanted, ...flags }: Flags) => {
      const options = { ...flags, ...(set && { config: set }), ...(knn && { knnData: knn }) };
      const surroundings = { output: outputOf(quiet), ...listenToSignals() };
      const result = await train(options, surroundings);
      const { steps, epochs, loss, chance, imagesPerSecond, seconds, run, encoder } = result;
      const shown = wanted && steps > 0 && !result.interrupted;
      const page = shown ? await reportAfterTraining(run, surroundings) : null;
      const beside = loss === null || chance === null ? "" : ` (chance ${chance.toFixed(4)})`;
      report(json, { ...result, report: page }, [
        `${steps} steps (${epochs.toFixed(1)} epochs) in ${duration(seconds)}, ${imagesPerSecond.toFixed(0)} images/s, ` +
          `loss ${loss === null ? "none" : loss.toFixed(4)}${beside}`,
        result.interrupted
          ? `interrupted: go on with  ort-pretrain train --resume --out ${flags.out}`
          : `encoder: ${encoder}`,
        ...(result.audioEncoder === undefined ? [] : [`audio:   ${result.audioEncoder}`]),
        `run:     ${run}`,
        ...(page === null ? [] : [`report:  ${page}`]),
      ]);
      if (result.interrupted) process.exitCode = INTERRUPTED;
    });
