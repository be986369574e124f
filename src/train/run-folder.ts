/**
 * A run's folder: the artifact it trains (manifest.json, step.onnx, encode.onnx), config.json with everything needed
 * to repeat it, metrics.jsonl, checkpoints/, best/ of a run that stops early and, at the end, encoder.onnx and report.html; probes.json once it is probed, and
 * repeats/ once it is trained with other seeds too; while it runs, run.lock, and while results of a probe are added, probes.lock.
 */
import { closeSync, constants, existsSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join, relative } from "node:path";
import * as z from "zod";
import { expected, UserError } from "../errors.ts";
import { readWhole, writeFailed, writeFileAtomic } from "../files/atomic.ts";
import { parseJson } from "../files/safetensors.ts";
import { PRECISIONS, type Precision } from "../spec.ts";
import { latestCheckpoint } from "./checkpoint.ts";

export const runFiles = (run: string) => ({
  config: join(run, "config.json"),
  metrics: join(run, "metrics.jsonl"),
  checkpoints: join(run, "checkpoints"),
  /** Of a run that stops early: the checkpoint of its best epoch. */
  best: join(run, "best"),
  encoder: join(run, "encoder.onnx"),
  classifier: join(run, "classifier.onnx"),
  detector: join(run, "detector.onnx"),
  /** Of a method that takes audio. */
  audioEncoder: join(run, "audio-encoder.onnx"),
  probes: join(run, "probes.json"),
});

const count = z.number().int().positive();

/** Seconds, such as "1.5s", or frames, such as "8". */
const extent = z.string().regex(/^[\d.]+s?$/);

const supervisionSchema = z.strictObject({
  /** Of objects, rather than of images. */
  task: z.literal("detection").optional(),
  /** The artifact's labels are places in these. */
  classes: z.array(z.string().max(1000)).min(1),
  /** Share of the images' labels that is used. */
  labels: z.number().positive().max(1),
  /** Share of these that is held out, and looked at after each epoch. */
  heldOut: z.number().min(0).max(1),
  /** The run stops once so many epochs in a row were no better on the images held out. */
  earlyStop: count.nullable(),
  /** Of a CSV of images and labels: the folder that its paths are relative to, if it was given. */
  images: z.string().max(4096).optional(),
});
export type Supervision = z.infer<typeof supervisionSchema>;

export const runConfigSchema = z.strictObject({
  format: z.literal(1),
  /** Published settings that it took. */
  recipe: z.string().max(200).nullable().optional(),
  /** The artifact's name; manifest.json says the rest. */
  artifact: z.string().max(200),
  /** Folder of training images, or a list of them. */
  data: z.string().max(4096),
  /** Images taken of it; null takes all. */
  limit: count.nullable(),
  /** What positives come from, where that is not two crops of one image: what was asked for, and how far apart in time. */
  positives: z
    .discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("frames"), window: extent, far: extent }),
      z.strictObject({
        kind: z.literal("tracks"),
        file: z.string().max(4096),
        margin: z.number().min(0),
        window: extent.nullable(),
      }),
      z.strictObject({ kind: z.literal("pairs"), file: z.string().max(4096) }),
    ])
    .optional(),
  /** Least share of the smaller box that two crops of an image have in common; none where it is left out. */
  cropOverlap: z.number().min(0).max(1).optional(),
  /** Images or items found, and the fingerprint of their names: a resumed run must find the same. */
  images: count,
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
  batch: count,
  /** Images at a time, where the step is in parts. */
  microBatch: count.nullable(),
  /** As it began; `extensions` come on top. */
  steps: z.number().int().min(0),
  /** Each was asked for after `at` steps: from there on the run, and its schedules, are `by` steps longer than it began. */
  extensions: z.array(z.strictObject({ at: z.number().int().min(0), by: count })).optional(),
  seed: z.number().int(),
  /** Peak learning rate; null takes the artifact's, scaled by the batch. */
  lr: z.number().positive().nullable(),
  /** The same of a classifier's own, where the artifact has one. */
  headLr: z.number().positive().nullable().optional(),
  weightDecay: z.number().min(0).nullable(),
  warmupEpochs: z.number().min(0).nullable(),
  /** Sources are kept at this size, pixels. */
  shorterSide: count,
  checkpointEvery: count,
  cacheMb: z.number().min(0),
  provider: z.enum(["cpu", "webgpu", "cuda"]),
  /** What computes the steps; ONNX Runtime for Node where it is left out. */
  engine: z.enum(["training-web"]).optional(),
  /** Which GPU, and the folder of CUDA's libraries, if they were given. */
  device: z.number().int().min(0).optional(),
  cudaLibraries: z.string().max(4096).optional(),
  /** Whether CUDA was asked for kernels that give the same bytes each time, and for a precision, if that was given. */
  deterministic: z.boolean().optional(),
  precision: z.enum(PRECISIONS).optional(),
  /** In its place, of earlier versions. */
  tf32: z.boolean().optional(),
  threads: count.nullable(),
  /** Whether a collapsed representation stops the run; true where it is left out. */
  guard: z.boolean().optional(),
  /** Whether RankMe and alpha are measured; true where it is left out. */
  rank: z.boolean().optional(),
  /** Labelled folder for kNN during training, and how many epochs lie between two looks. */
  knn: z.strictObject({ data: z.string().max(4096), every: count }).nullable(),
  /** Where its first weights came from, as asked for and the file, and how many tensors; its checkpoint of step 0 held them. */
  init: z
    .strictObject({ from: z.string().max(4096), file: z.string().max(4096), tensors: count })
    .nullable()
    .optional(),
  /** The list of pictures and what is heard with them, if it was given. */
  audio: z.string().max(4096).optional(),
  /** Where it learns from labels: which of the images it trains on, and what they are classes of. */
  supervision: supervisionSchema.optional(),
  /** The values of black and white, if they were given. */
  range: z.tuple([z.number(), z.number()]).optional(),
  /** Of the programs that it began with, by their names. */
  versions: z.record(z.string().max(100), z.string().max(100)).optional(),
});
export type RunConfig = z.infer<typeof runConfigSchema>;
export type PositivesConfig = NonNullable<RunConfig["positives"]>;

/** Of a run where it is on CUDA. */
export const precisionOf = ({ precision, tf32 = true }: RunConfig): Precision =>
  precision ?? (tf32 ? "tf32" : "fp32");

const MAX_CONFIG = 1_000_000;

/** Steps of the whole run, as it was planned when step `at`, counted from 0, was run: the last plan by default. */
export function plannedSteps({ steps, extensions = [] }: RunConfig, at = Number.POSITIVE_INFINITY): number {
  return steps + (extensions.findLast((extension) => extension.at <= at)?.by ?? 0);
}

/** @throws UserError if the folder holds a run, or anything else that a new one would write over. */
export async function checkNoRun(run: string): Promise<void> {
  const { config, metrics, encoder, audioEncoder, probes, checkpoints, best } = runFiles(run);
  if (isRun(run)) {
    throw expected(run, "a folder without a run", "one", "give another --out, or go on with --resume");
  }
  const latest = (await latestCheckpoint(checkpoints)) ?? (await latestCheckpoint(best));
  const foreign = latest ?? [config, metrics, encoder, audioEncoder, probes].find(existsSync);
  if (foreign === undefined) return;
  const found = JSON.stringify(relative(run, foreign));
  throw expected(run, "nothing that a run would write over", found, "move it away or give another --out");
}

/** Whether there is a config.json of a run, be it damaged. */
function isRun(run: string): boolean {
  const { config } = runFiles(run);
  return existsSync(config) && existsSync(join(run, "manifest.json"));
}

export async function writeConfig(run: string, config: RunConfig): Promise<void> {
  await writeFileAtomic(runFiles(run).config, `${JSON.stringify(config, null, 2)}\n`);
}

/** @throws UserError if there is no run, or its config.json is damaged. */
export async function readConfig(run: string): Promise<RunConfig> {
  const path = runFiles(run).config;
  if (!existsSync(path)) throw expected(run, "a run folder with a config.json", "none", "train one first");
  const parsed = runConfigSchema.safeParse(
    parseJson(await readWhole(path, MAX_CONFIG, "a configuration"), path),
  );
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new UserError(`${path}: ${issue!.path.join(".") || "configuration"}: ${issue!.message}`);
}

/**
 * A line of metrics.jsonl; that of the first step holds `chance` as well, where there is one. `seconds` are those of the
 * loop, since the run began or last went on. What came before them is in `startSeconds` of the loop's first line; what a
 * checkpoint and an evaluation after the step took, in `checkpointSeconds` and `evaluationSeconds` of the step's line;
 * the export, in `exportSeconds` of the last.
 */
export interface StepRecord {
  /** Counted from 1. */
  readonly step: number;
  readonly epoch: number;
  readonly [metric: string]: number;
}

export interface MetricsLog {
  /** The last line, that of the step that a run goes on from. */
  readonly last: StepRecord | undefined;
  write(record: StepRecord): void;
  /** Adds to the last line what was measured after it was written. */
  amend(more: Readonly<Record<string, number>>): void;
  close(): void;
}

/** Opens metrics.jsonl to append; lines after `step`, left by a run that was cut off, are dropped. */
export function openMetrics(run: string, step: number): MetricsLog {
  const path = runFiles(run).metrics;
  const { file, lines } = openUpTo(path, step);
  let end = lines.length;
  let lastAt = lines.lastIndexOf(10, end - 2) + 1;
  let last = end === 0 ? undefined : (JSON.parse(lines.toString("utf8", lastAt)) as StepRecord);
  // Synchronous, for asynchronous writes would queue behind hundreds of images to be decoded.
  const writeAt = (record: StepRecord, at: number) => {
    const line = Buffer.from(`${JSON.stringify(record)}\n`);
    try {
      writeSync(file, line, 0, line.length, at);
    } catch (error) {
      throw writeFailed(path, error, line.length, "go on with --resume");
    }
    [last, lastAt, end] = [record, at, at + line.length];
  };
  return {
    get last() {
      return last;
    },
    write: (record) => writeAt(record, end),
    amend: (more) => writeAt({ ...last!, ...more }, lastAt), // longer than what it is written over
    close: () => closeSync(file),
  };
}

function openUpTo(path: string, step: number): { file: number; lines: Buffer } {
  let file: number | undefined;
  try {
    file = openSync(path, constants.O_RDWR | constants.O_CREAT);
    const bytes = readFileSync(file);
    const lines = bytes.subarray(0, bytesUpTo(bytes, step));
    ftruncateSync(file, lines.length);
    return { file, lines };
  } catch (error) {
    if (file !== undefined) closeSync(file);
    throw writeFailed(path, error);
  }
}

/** Length of the whole lines of steps up to `step`. */
function bytesUpTo(bytes: Buffer, step: number): number {
  let end = 0;
  for (;;) {
    const next = bytes.indexOf(10, end) + 1;
    if (next === 0) return end;
    const found = /^\{"step":(\d+),[^\n]*\}\n$/.exec(bytes.toString("utf8", end, next));
    if (!found || Number(found[1]) > step || !isJson(found[0])) return end;
    end = next;
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
