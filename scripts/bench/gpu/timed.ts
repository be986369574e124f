/** Runs of the program that end by the clock: how long they may be is planned from the rate of a short one. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { runFiles, type StepRecord } from "../../../src/train/run-folder.ts";
import { noiseFolder } from "../peers/images.ts";
import { flags, program } from "./part.ts";

/** Labelled folders of a data set. */
export interface Folders {
  readonly train: string;
  readonly test: string;
}

/** Those in `data`, or as many `images` of noise in `out` where none is given. @throws Error if one is missing. */
export async function foldersOf(data: string | undefined, out: string, images: number): Promise<Folders> {
  if (data === undefined) {
    const root = join(out, "noise");
    await mkdir(root, { recursive: true });
    const count = Math.ceil(images / 2);
    for (const name of ["one", "two"]) await noiseFolder(root, { name, count, sizes: [[32, 32]] });
    return { train: root, test: root };
  }
  const [train, test] = [join(data, "train"), join(data, "test")];
  if (!existsSync(train) || !existsSync(test))
    throw new Error(`--data: expected labelled folders train/ and test/, found others in ${data}`);
  return { train, test };
}

/**
 * Trains anew into `run`, to its end or for so many seconds: a checkpoint stands then. Gives whether it was
 * interrupted. `more` goes to the program as it is.
 */
export async function trainFor(
  seconds: number,
  run: string,
  options: Parameters<typeof flags>[0],
  more: readonly string[] = [],
): Promise<boolean> {
  await rm(run, { recursive: true, force: true });
  const { file, args } = program("train", ...flags({ ...options, out: run }), ...more);
  const child = spawn(file, args, { stdio: ["ignore", "ignore", "inherit"] });
  const timer = setTimeout(() => child.kill("SIGINT"), 1000 * Math.max(0, seconds));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(timer);
  if (code !== 0 && code !== 130) throw new Error(`train ended with ${code}`);
  return code === 130;
}

/** A run's steps. */
export async function linesOf(run: string): Promise<readonly StepRecord[]> {
  const text = await readFile(runFiles(run).metrics, "utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as StepRecord);
}

/** Steps that a run may have, at least one, by the rate of another of the same settings. */
export const stepsIn = (seconds: number, imagesPerSecond: number, batch: number): number =>
  Math.max(1, Math.floor((seconds * imagesPerSecond) / batch));
