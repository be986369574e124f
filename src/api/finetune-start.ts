/** What a run of finetune is told: what it starts from, its data and its settings. */
import { existsSync, statSync } from "node:fs";
import { optimizerOf } from "../artifact/artifact-spec.ts";
import { readArtifact } from "../artifact/files.ts";
import { isLabelTable } from "../data/label-table.ts";
import { expected } from "../errors.ts";
import { MAX_CLASSES, readEncoderMetadata } from "../export/metadata.ts";
import { readWhole } from "../files/atomic.ts";
import type { JsonObject, RandAugment } from "../spec.ts";
import { readConfig, runFiles } from "../train/run-folder.ts";
import { type Settings, type TaskName, taskNamed, taskOf } from "./finetune-task.ts";
import { MAX_MODEL } from "./finetune-test.ts";
import { findTraining } from "./supervised.ts";
import type { TrainOptions } from "./train-options.ts";

export const STARTS = ["scratch", "pretrained", "frozen"] as const;
/** Weights drawn anew, those of `encoder`, or those of `encoder` as they are, below a head that is trained. */
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
  | "config"
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
  /** What is learnt: the classes of images, or to find objects. @default "classes" */
  readonly task?: TaskName | undefined;
  /** A run's folder, an encoder.onnx or timm's .safetensors. Needed unless `resume`. */
  readonly encoder?: string | undefined;
  /** The encoder that a .safetensors file holds, and the size that it is to be built for; the others say it themselves. */
  readonly architecture?: string | undefined;
  readonly imageSize?: number | undefined;
  /**
   * Folder with one folder per class; or a .csv of images that may be of several classes or of none, see `findLabelTable`;
   * of objects their annotations, see `findObjects`. Needed unless `resume`.
   */
  readonly data?: string | undefined;
  /** The same to test the exported model on. @default it is not tested */
  readonly test?: string | undefined;
  /** The folder that the paths in a .csv, or in COCO's JSON, are relative to. @default the one that it lies in */
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
  /** The colours of RandAugment. @default none */
  readonly randAugment?: RandAugment | undefined;
}

const EPOCHS = 30;
const HELD_OUT = 0.1;

/** What a new run is told. */
export async function beginning(options: FinetuneOptions): Promise<TrainOptions> {
  const { encoder: path, architecture, imageSize, data, test, images, task: name, ...rest } = options;
  const { labels = 1, heldOut = HELD_OUT, earlyStop = null, from = "pretrained", ...more } = rest;
  const {
    freezeUntil,
    layerDecay,
    labelSmoothing,
    mixup,
    ema,
    jitter,
    randAugment,
    config: set,
    ...shared
  } = more;
  const task = taskNamed(name ?? "classes");
  if (path === undefined || data === undefined)
    throw expected("finetune", "an encoder and --data", path === undefined ? "no encoder" : "no --data");
  if (from === "frozen" && freezeUntil !== undefined)
    throw expected("--freeze-until", "it without --from frozen, which trains the head alone", freezeUntil);
  if (earlyStop !== null && heldOut === 0)
    throw expected("--early-stop", "images held out", "--held-out 0", "leave out one of the two");
  if (images !== undefined && name !== "detection" && !isLabelTable(data))
    throw expected("--images", "it with --data FILE.csv", `--data ${data}`);
  const of = await whatIs(path, architecture, imageSize);
  const supervision = {
    ...(name === "detection" && { task: name }),
    ...{ labels, heldOut, earlyStop, ...(images !== undefined && { images }) },
  };
  const { seed, limit, range } = shared;
  const { sources } = await findTraining(data, { seed, limit, range }, supervision);
  const { classes } = sources;
  const characters = JSON.stringify(classes).length;
  if (characters > MAX_CLASSES)
    throw expected(data, `names of classes of at most ${MAX_CLASSES} characters in all`, `${characters}`);
  await task.check(data, sources);
  if (test !== undefined) await task.checkTest(test, { data, classes }, { images, limit, range });
  const scratch = from === "scratch";
  const batch = shared.batch ?? Math.min(task.batch, sources.files.length);
  const config = given({
    ...task.settings(options, sources),
    ema,
    jitter,
    randAugment: randAugment && { ...randAugment },
    layerDecay,
    freezeUntil: from === "frozen" ? "features" : freezeUntil,
    headRate: scratch ? 1 : undefined,
    ...set,
  });
  const method = { method: task.method, ...of, optimizer: shared.optimizer };
  const usual = optimizerOf({
    method: task.method,
    ...of,
    ...(shared.optimizer && { optimizer: shared.optimizer }),
  });
  const faster = scratch && usual.name === "sgd" ? (task.scratchRate * usual.lr * batch) / 256 : undefined;
  const lr = shared.lr ?? faster;
  const headLr = shared.headLr ?? (lr === undefined ? undefined : lr * (scratch ? 1 : task.headRate));
  return {
    ...{ ...shared, ...method, data, config, supervision, batch, lr, headLr },
    epochs: shared.epochs ?? EPOCHS,
    init: scratch ? undefined : path,
    guard: false,
    rank: false,
  };
}

const given = (settings: Settings): JsonObject =>
  Object.fromEntries(
    Object.entries(settings).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
  );

/** What a run is told that goes on: it knows the rest itself. */
export async function goingOn({
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
  if (test !== undefined)
    await taskOf(supervision).checkTest(test, { data: own, ...supervision }, supervision);
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
