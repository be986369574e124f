/** Fine-tunes a whole encoder for classes: a run like any other, from labelled images to classifier.onnx and its accuracy. */
import { existsSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { optimizerOf } from "../artifact/compile.ts";
import { readArtifact } from "../artifact/files.ts";
import { isLabelTable } from "../data/label-table.ts";
import { expected } from "../errors.ts";
import { MAX_CLASSES, readEncoderMetadata } from "../export/metadata.ts";
import { readWhole } from "../files/atomic.ts";
import type { PrecisionScores } from "../probe/average-precision.ts";
import type { Scores } from "../probe/result.ts";
import { readRecords } from "../report/run.ts";
import type { JsonObject } from "../spec.ts";
import { type RunConfig, readConfig, runFiles } from "../train/run-folder.ts";
import { checkClassFolders } from "./class-folders.ts";
import type { TrainOptions } from "./create.ts";
import { bestEpoch } from "./early-stop.ts";
import { exportClassifier } from "./export.ts";
import { findTest, MAX_MODEL, testOf } from "./finetune-test.ts";
import { findTraining } from "./supervised.ts";
import type { Surroundings } from "./surroundings.ts";
import { train } from "./train.ts";

export const STARTS = ["scratch", "pretrained", "frozen"] as const;
/** Weights drawn anew, those of `encoder`, or those of `encoder` as they are, below a classifier that is trained. */
export type Start = (typeof STARTS)[number];

type Shared = Pick<
  TrainOptions,
  | "out"
  | "limit"
  | "epochs"
  | "batch"
  | "lr"
  | "headLr"
  | "weightDecay"
  | "warmupEpochs"
  | "optimizer"
  | "seed"
  | "range"
  | "checkpointEvery"
  | "cacheMb"
  | "provider"
  | "device"
  | "cudaLibraries"
  | "threads"
  | "resume"
>;

export interface FinetuneOptions extends Shared {
  /** A run's folder, an encoder.onnx or timm's .safetensors. Needed unless `resume`. */
  readonly encoder?: string | undefined;
  /** The encoder that a .safetensors file holds, and the size that it is to be built for; the others say it themselves. */
  readonly architecture?: string | undefined;
  readonly imageSize?: number | undefined;
  /**
   * Folder with one folder per class; or a .csv of images that may be of several classes or of none, see `findLabelTable`.
   * Needed unless `resume`.
   */
  readonly data?: string | undefined;
  /** The same to test classifier.onnx on. @default it is not tested */
  readonly test?: string | undefined;
  /** The folder that the paths in a .csv are relative to. @default the one that it lies in */
  readonly images?: string | undefined;
  /** Share of the labels that is used, as of a probe. @default 1 */
  readonly labels?: number | undefined;
  /** Share of these that is held out, of each class. @default 0.1 */
  readonly heldOut?: number | undefined;
  /** Stops once so many epochs in a row were no better on the images held out, and exports the best epoch. @default never */
  readonly earlyStop?: number | undefined;
  /** @default "pretrained" */
  readonly from?: Start | undefined;
  /** This stage and all before it stay as they are. @default none */
  readonly freezeUntil?: string | undefined;
  /** The learning rate of a stage over that of the next one. @default 1 */
  readonly layerDecay?: number | undefined;
  /** @default 0.1, or 0 where an image may be of several classes */
  readonly labelSmoothing?: number | undefined;
  /** Alpha of mixup. @default 0, none */
  readonly mixup?: number | undefined;
  /** Share of the old value that moving averages of the weights keep, which are exported. @default 0, the weights themselves */
  readonly ema?: number | undefined;
  /** Strength of colour jitter. @default 0, none */
  readonly jitter?: number | undefined;
}

export interface FinetuneResult {
  readonly run: string;
  readonly classifier: string | null;
  readonly from: Start;
  readonly labels: number;
  /** That were trained on, and held out. */
  readonly images: number;
  readonly heldOut: number;
  readonly steps: number;
  readonly epochs: number;
  readonly loss: number | null;
  /** What it is judged by: top-1, or where an image may be of several classes the mean average precision. */
  readonly measure: "top1" | "averagePrecision";
  /** That of the images held out, percent, after the epoch whose weights were exported; null where there are none. */
  readonly validation: number | null;
  /** Where the run stops early: the epoch whose weights were exported, counted from 1; else null, for the last weights were. */
  readonly bestEpoch: number | null;
  readonly seconds: number;
  readonly interrupted: boolean;
  /** Of the test images by classifier.onnx, where each is of one class; null without them. */
  readonly test: Scores | null;
  /** The same where they may be of several classes. */
  readonly averagePrecision: PrecisionScores | null;
}

const EPOCHS = 30;
const BATCH = 64;
const HELD_OUT = 0.1;
/** Weights that are drawn learn as fast as the classifier on them, and take a higher rate of SGD. */
const SCRATCH = { rate: 4, headRate: 1 };

/** @throws UserError on wrong options or input, and (exit code 1) if training diverged */
export async function finetune(
  options: FinetuneOptions,
  surroundings: Surroundings = {},
): Promise<FinetuneResult> {
  const { out, test, threads } = options;
  const told = options.resume ? await goingOn(options) : await beginning(options);
  const trained = await train(told, surroundings);
  const config = await readConfig(out);
  const classifier = trained.interrupted ? null : (await exportClassifier(out, threads)).classifier;
  const { supervision, init, images } = config;
  const best = await bestEpoch(out, config);
  const validations = (await readRecords(out)).flatMap(({ validation }) => validation ?? []);
  const { freezeUntil } = (await readArtifact(out)).manifest.method.config;
  const { heldOut } = await findTraining(config.data, sampleOf(config), supervision);
  return {
    run: trained.run,
    classifier,
    from: init ? (freezeUntil === "features" ? "frozen" : "pretrained") : "scratch",
    labels: supervision!.labels,
    images,
    heldOut: heldOut?.files.length ?? 0,
    steps: trained.steps,
    epochs: trained.epochs,
    loss: trained.loss,
    measure: isLabelTable(config.data) ? "averagePrecision" : "top1",
    validation: best?.validation ?? validations.at(-1) ?? null,
    bestEpoch: best?.epoch ?? null,
    seconds: trained.seconds,
    interrupted: trained.interrupted,
    ...(classifier && test !== undefined
      ? await testOf(classifier, test, { ...options, images: supervision!.images }, surroundings)
      : { test: null, averagePrecision: null }),
  };
}

const sampleOf = ({ limit, seed, range }: RunConfig) => ({ limit: limit ?? undefined, seed, range });

/** What a new run is told. */
async function beginning(options: FinetuneOptions): Promise<TrainOptions> {
  const { encoder: path, architecture, imageSize, data, test, images, ...rest } = options;
  const { labels = 1, heldOut = HELD_OUT, earlyStop = null, from = "pretrained", ...more } = rest;
  const { freezeUntil, layerDecay, labelSmoothing, mixup, ema, jitter, ...shared } = more;
  if (path === undefined || data === undefined)
    throw expected("finetune", "an encoder and --data DIR", path === undefined ? "no encoder" : "no --data");
  if (from === "frozen" && freezeUntil !== undefined)
    throw expected(
      "--freeze-until",
      "it without --from frozen, which trains the classifier alone",
      freezeUntil,
    );
  if (earlyStop !== null && heldOut === 0)
    throw expected("--early-stop", "images held out", "--held-out 0", "leave out one of the two");
  if (images !== undefined && !isLabelTable(data))
    throw expected("--images", "it with --data FILE.csv", `--data ${data}`);
  const of = await whatIs(path, architecture, imageSize);
  const supervision = { labels, heldOut, earlyStop, ...(images !== undefined && { images }) };
  const { seed, limit, range } = shared;
  const { sources } = await findTraining(data, { seed, limit, range }, supervision);
  const { classes, labelSets } = sources;
  if (!labelSets) await checkClassFolders(data, classes);
  const characters = JSON.stringify(classes).length;
  if (characters > MAX_CLASSES)
    throw expected(data, `names of classes of at most ${MAX_CLASSES} characters in all`, `${characters}`);
  const independent = labelSets !== undefined;
  if (test !== undefined) await findTest(test, { classes, independent }, { images, limit });
  const scratch = from === "scratch";
  const batch = shared.batch ?? Math.min(BATCH, sources.files.length);
  const config = given({
    smoothing: labelSmoothing ?? (independent ? 0 : undefined), // targets of rare classes would be mostly smoothing
    mixup,
    ema,
    jitter,
    layerDecay,
    freezeUntil: from === "frozen" ? "features" : freezeUntil,
    headRate: scratch ? SCRATCH.headRate : undefined,
  });
  const method = { method: "finetune", ...of, optimizer: shared.optimizer };
  const usual = optimizerOf({
    method: "finetune",
    ...of,
    ...(shared.optimizer && { optimizer: shared.optimizer }),
  });
  const faster = scratch && usual.name === "sgd" ? (SCRATCH.rate * usual.lr * batch) / 256 : undefined;
  const lr = shared.lr ?? faster;
  const headLr =
    shared.headLr ?? (lr === undefined ? undefined : lr * (scratch ? SCRATCH.headRate : HEAD_RATE));
  return {
    ...{ ...shared, ...method, data, config, supervision, batch, lr, headLr },
    epochs: shared.epochs ?? EPOCHS,
    init: scratch ? undefined : path,
    guard: false,
    rank: false,
  };
}

/** The peak of the classifier's rate over that of a pretrained encoder, as the method has it. */
const HEAD_RATE = 10;

const given = (settings: Readonly<Record<string, JsonObject[string] | undefined>>): JsonObject =>
  Object.fromEntries(
    Object.entries(settings).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  );

/** What a run is told that goes on: it knows the rest itself. */
async function goingOn({
  resume,
  out,
  data,
  test,
  provider,
  device,
  cudaLibraries,
  threads,
  cacheMb,
  ...rest
}: FinetuneOptions): Promise<TrainOptions> {
  const [other] = Object.entries(rest).filter(([, value]) => value !== undefined);
  if (other)
    throw expected("finetune --resume", "--out and --test, and where it runs", other[0], "leave it out");
  const { supervision, data: own } = await readConfig(out);
  if (!supervision) throw expected(out, "a run of finetune", "one without classes", "see train --resume");
  const { classes, images } = supervision;
  if (test !== undefined) await findTest(test, { classes, independent: isLabelTable(own) }, { images });
  return { resume, out, data, provider, device, cudaLibraries, threads, cacheMb };
}

/** The encoder's name, and the size that it was built for. */
async function whatIs(
  path: string,
  architecture: string | undefined,
  imageSize: number | undefined,
): Promise<{ readonly encoder: string; readonly imageSize: number }> {
  const isFolder = existsSync(path) && statSync(path).isDirectory();
  const known =
    isFolder && existsSync(runFiles(path).config)
      ? (await readArtifact(path)).manifest.encoder
      : await metadataAt(isFolder ? runFiles(path).encoder : path);
  if (!known) {
    if (architecture !== undefined && imageSize !== undefined) return { encoder: architecture, imageSize };
    throw expected(path, "--encoder and --image-size with it", "one or none of them");
  }
  if (architecture !== undefined && architecture !== known.name)
    throw expected("--encoder", `${known.name}, as ${path} says`, architecture, "leave it out");
  return { encoder: known.name, imageSize: imageSize ?? known.imageSize };
}

/** What an encoder.onnx says of itself; undefined of a .safetensors file. */
async function metadataAt(file: string) {
  if (file.endsWith(".safetensors")) return undefined;
  if (!existsSync(file))
    throw expected(file, "a run's folder, an encoder.onnx or a .safetensors file", "nothing at this path");
  const { encoder, imageSize } = readEncoderMetadata(await readWhole(file, MAX_MODEL, "an encoder"), file);
  return { name: encoder, imageSize };
}

/** A result without its test images: what is printed. */
export function finetuneSummary({ test, ...rest }: FinetuneResult) {
  if (!test) return { ...rest, test };
  const { images, ...scores } = test;
  return { ...rest, test: { ...scores, images: images.length } };
}

/** The folder of one of several runs. */
export const folderOf = (out: string, from: Start, labels: number, seed: number): string =>
  resolve(out, `${from}-${+(100 * labels).toFixed(4)}-${seed}`);
