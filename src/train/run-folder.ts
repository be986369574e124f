/**
 * A run's folder: the artifact it trains (manifest.json, step.onnx, encode.onnx), config.json with everything needed
 * to repeat it, metrics.jsonl, checkpoints/ and, at the end, encoder.onnx.
 */
import { appendFileSync, closeSync, existsSync, ftruncateSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { expected, UserError } from "../errors.ts";
import { readWhole, writeFailed, writeFileAtomic } from "../files/atomic.ts";
import { parseJson } from "../files/safetensors.ts";
import type { StepRecord } from "./loop.ts";

export const runFiles = (run: string) => ({
  config: join(run, "config.json"),
  metrics: join(run, "metrics.jsonl"),
  checkpoints: join(run, "checkpoints"),
  encoder: join(run, "encoder.onnx"),
});

const count = z.number().int().positive();

export const runConfigSchema = z.strictObject({
  format: z.literal(1),
  /** The artifact's name; manifest.json says the rest. */
  artifact: z.string().max(200),
  /** Folder of training images. */
  data: z.string().max(4096),
  /** Images taken of it; null takes all. */
  limit: count.nullable(),
  /** Images found, and the fingerprint of their names: a resumed run must find the same. */
  images: count,
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
  batch: count,
  /** Images at a time, where the step is in parts. */
  microBatch: count.nullable(),
  steps: z.number().int().min(0),
  seed: z.number().int(),
  /** Peak learning rate; null takes the artifact's, scaled by the batch. */
  lr: z.number().positive().nullable(),
  weightDecay: z.number().min(0).nullable(),
  warmupEpochs: z.number().min(0).nullable(),
  /** Sources are kept at this size, pixels. */
  shorterSide: count,
  checkpointEvery: count,
  cacheMb: z.number().min(0),
  provider: z.enum(["cpu", "webgpu", "cuda"]),
  threads: count.nullable(),
  /** Labelled folder for kNN during training, and how many epochs lie between two looks. */
  knn: z.strictObject({ data: z.string().max(4096), every: count }).nullable(),
});
export type RunConfig = z.infer<typeof runConfigSchema>;

const MAX_CONFIG = 1_000_000;

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

export interface MetricsLog {
  write(record: StepRecord): void;
  close(): void;
}

/** Opens metrics.jsonl to append; lines after `step`, left by a run that was cut off, are dropped. */
export function openMetrics(run: string, step: number): MetricsLog {
  const path = runFiles(run).metrics;
  const file = openToAppend(path, step);
  return {
    // Synchronous, for asynchronous writes would queue behind hundreds of images to be decoded.
    write(record) {
      const line = `${JSON.stringify(record)}\n`;
      try {
        appendFileSync(file, line);
      } catch (error) {
        throw writeFailed(path, error, line.length, "go on with --resume");
      }
    },
    close: () => closeSync(file),
  };
}

function openToAppend(path: string, step: number): number {
  let file: number | undefined;
  try {
    file = openSync(path, "a+");
    ftruncateSync(file, bytesUpTo(readFileSync(path), step));
    return file;
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
    const found = /^\{"step":(\d+),/.exec(bytes.toString("utf8", end, Math.min(next, end + 40)));
    if (!found || Number(found[1]) > step) return end;
    end = next;
  }
}
