/** What every row of the comparison is made with. */
import { execFile } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Result } from "./compare.ts";
import { noiseFolder } from "./images.ts";
import type { Command } from "./program.ts";

export interface Surroundings {
  /** The interpreter of the peers' virtual environment. */
  readonly python: string;
  readonly rounds: number;
  /** Whether torch.compile is tried. */
  readonly compiled: boolean;
  /** Folder of small images; made here if not given. */
  readonly data?: string | undefined;
  /** Folder for what is made on the way. */
  readonly out: string;
}

export interface Row {
  readonly what: string;
  /** Of the ratio. */
  readonly aim: `${">=" | "<="} ${number}`;
  readonly measure: (s: Surroundings) => Promise<Result>;
}

export const THREADS = `${availableParallelism()}`;

export const flags = (values: Readonly<Record<string, string | number>>) =>
  Object.entries(values).flatMap(([name, value]) => [`--${name}`, `${value}`]);

export const ROOT = join(import.meta.dirname, "../../..");
const BUILT = join(ROOT, "runs/bench/built");

/** Compiles what `ours` runs: as JavaScript, as it is installed, without the memory of a compiler beside it. */
export const buildOurs = () =>
  promisify(execFile)("npx", ["tsc", "--noEmit", "false", "--rootDir", ".", "--outDir", BUILT], {
    cwd: ROOT,
  });

/** The command for one kind of work of ours.ts, compiled. */
export const ours = (work: string, ...args: readonly string[]): Command => ({
  file: process.execPath,
  args: [join(BUILT, "scripts/bench/peers/ours.js"), work, ...args],
});

/** One of the Python programs. */
export const peer = ({ python }: Surroundings, program: string, ...args: readonly string[]): Command => ({
  file: python,
  args: [join(import.meta.dirname, `${program}.py`), ...args, "--threads", THREADS],
});

/** For one epoch of small images, and what else takes them. */
export const SMALL_IMAGES = 2048;

export const smallImages = async ({ data, out }: Surroundings): Promise<string> =>
  data ?? noiseFolder(out, { name: "small", count: SMALL_IMAGES, sizes: [[32, 32]] });
