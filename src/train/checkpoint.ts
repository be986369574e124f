/** Checkpoints of a run: `step-00000120.safetensors`, each complete and written all or nothing. */
import { constants } from "node:buffer";
import { createHash } from "node:crypto";
import { readdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { expected, UserError } from "../errors.ts";
import { codeOf, makeFolder, readWhole, TEMPORARY, writeFileAtomic } from "../files/atomic.ts";
import {
  bytesOf,
  decodeSafetensors,
  encodeSafetensors,
  parseJson,
  type TensorData,
} from "../files/safetensors.ts";
import type { JsonObject } from "../spec.ts";

const FORMAT = 1;

/** What a run needs to go on after `step` steps as if it had never stopped. */
export interface Checkpoint {
  /** Steps done. */
  readonly step: number;
  readonly tensors: ReadonlyMap<string, TensorData>;
  /** Where the run stands besides its tensors, such as the position in the data. */
  readonly progress: JsonObject;
}

/**
 * Writes the checkpoint into `dir` (made if need be), then removes all but the `keep` newest (default 2) up to its
 * step, and what killed writes left. One run at a time may write to a folder.
 * @returns the path of the checkpoint.
 * @throws UserError if it cannot be written; older checkpoints then stand as before.
 */
export async function saveCheckpoint(dir: string, checkpoint: Checkpoint, keep = 2): Promise<string> {
  if (!isStep(checkpoint.step)) throw new RangeError(`step ${checkpoint.step}: not a count`);
  const path = join(dir, nameOf(checkpoint.step));
  const bytes = encodeSafetensors(checkpoint.tensors, metadataOf(checkpoint));
  await makeFolder(dir, bytes.length);
  await writeFileAtomic(path, bytes, "go on with --resume");
  const older = (await stepsIn(dir)).filter((step) => step <= checkpoint.step);
  const stale = (await readdir(dir)).filter(
    (f) => TEMPORARY.test(f) && stepOf(f.replace(TEMPORARY, "")) >= 0,
  );
  for (const file of [...older.slice(Math.max(1, keep)).map(nameOf), ...stale]) {
    // A leftover costs space, not the run.
    await rm(join(dir, file), { force: true }).catch(() => {});
  }
  return path;
}

/** Whether a file is named as a checkpoint is. */
export const isCheckpoint = (path: string): boolean => stepOf(basename(path)) >= 0;

/** Whether a file's metadata is that of a checkpoint, whatever the file is named. */
export const isOfCheckpoint = ({ headerSha256 }: Readonly<Record<string, string>>): boolean =>
  headerSha256 !== undefined;

/** The path of the checkpoint of a step, be there one or not. */
export const checkpointAt = (dir: string, step: number): string => join(dir, nameOf(step));

/** Of the checkpoint with the most steps; undefined if `dir` has none or does not exist. */
export const latestStep = async (dir: string): Promise<number | undefined> => (await stepsIn(dir))[0];

/** The path of the checkpoint with the most steps; undefined if `dir` has none or does not exist. */
export async function latestCheckpoint(dir: string): Promise<string | undefined> {
  const [latest] = await stepsIn(dir);
  return latest === undefined ? undefined : join(dir, nameOf(latest));
}

/**
 * Reads a checkpoint and checks that it is what was written, to the last bit.
 * @throws UserError if it is missing or damaged, with the checkpoint to go on from.
 */
export async function loadCheckpoint(path: string): Promise<Checkpoint> {
  const bytes = await readWhole(path, constants.MAX_LENGTH, "a checkpoint");
  try {
    const file = decodeSafetensors(bytes, path);
    if (!isNewer(file.metadata)) return verified(file, path);
  } catch (error) {
    throw error instanceof UserError ? await damaged(path, error) : error;
  }
  throw expected(path, `format ${FORMAT}`, "a newer one", "update ort-pretrain to read it");
}

const isNewer = (metadata: Record<string, string>): boolean =>
  /^[1-9]\d*$/.test(metadata.format ?? "") && Number(metadata.format) > FORMAT;

function verified({ tensors, metadata }: ReturnType<typeof decodeSafetensors>, path: string): Checkpoint {
  const progress = parseJson(new TextEncoder().encode(metadata.progress), `${path}: progress`);
  if (typeof progress !== "object" || progress === null || Array.isArray(progress)) {
    throw expected(path, "progress as an object", "something else");
  }
  const step = Number(metadata.step);
  if (!isStep(step)) throw expected(path, "a step", "something else");
  const checkpoint = { step, tensors, progress: progress as JsonObject };
  // Made anew from what was read, so that a changed name, shape or step shows as well as changed data.
  for (const [key, value] of Object.entries(metadataOf(checkpoint))) {
    if (metadata[key] !== value) throw expected(path, `the ${key} that was saved`, "another");
  }
  return checkpoint;
}

async function damaged(path: string, error: UserError): Promise<UserError> {
  const step = stepOf(basename(path));
  const previous = (await stepsIn(dirname(path))).find((other) => other < step);
  const next = previous === undefined ? "start again" : `go on from the previous one, ${nameOf(previous)}`;
  return new UserError(`${error.message}; the checkpoint is damaged: remove it to ${next}`);
}

function metadataOf({ step, tensors, progress }: Checkpoint): Record<string, string> {
  const data = createHash("sha256");
  for (const tensor of tensors.values()) {
    const bytes = bytesOf(tensor.data);
    // In parts: update() takes less than 2^31 bytes.
    for (let at = 0; at < bytes.length; at += 2 ** 30) data.update(bytes.subarray(at, at + 2 ** 30));
  }
  const metadata = {
    format: `${FORMAT}`,
    step: `${step}`,
    progress: JSON.stringify(progress),
    /** Of the tensors' data, all bytes after the header. */
    sha256: data.digest("hex"),
  };
  // Sorted, because JSON does not keep the order of every name; the order of the data is in their checksum.
  const layout = [...tensors].map(([name, { dtype, shape }]) => JSON.stringify([name, dtype, shape])).sort();
  const header = createHash("sha256").update(JSON.stringify([metadata, layout]));
  return { ...metadata, headerSha256: header.digest("hex") };
}

const isStep = (step: number): boolean => Number.isSafeInteger(step) && step >= 0;
const nameOf = (step: number): string => `step-${String(step).padStart(8, "0")}.safetensors`;

/** The step in a checkpoint's name, -1 for any other name. */
function stepOf(name: string): number {
  const step = Number(/^step-(\d{8,15})\.safetensors$/.exec(name)?.[1] ?? -1);
  return step >= 0 && nameOf(step) === name ? step : -1;
}

/** The steps of the checkpoints in a folder, the newest first. */
async function stepsIn(dir: string): Promise<number[]> {
  try {
    const entries = await readdir(dir, { withFileTypes: true });
    const steps = entries.filter((entry) => !entry.isDirectory()).map((entry) => stepOf(entry.name));
    return steps.filter((step) => step >= 0).sort((a, b) => b - a);
  } catch (error) {
    const code = codeOf(error);
    if (code === "ENOENT") return [];
    throw code === undefined
      ? error
      : expected(dir, "a folder of checkpoints", `one that cannot be read (${code})`);
  }
}
