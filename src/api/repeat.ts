/**
 * Trains a run's configuration again with the next seeds, for how far what probes find lies apart. Each training is an
 * ordinary run in `repeats/seed-<s>/` of the run's folder: it goes on where it was cut off, and serves again once it has ended.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { type Artifact, readArtifact, writeArtifact } from "../artifact/files.ts";
import { fingerprint } from "../data/sources.ts";
import { expected, UserError } from "../errors.ts";
import { type Spread, spreadOf } from "../probe/result.ts";
import { initialState } from "../runtime/state.ts";
import { latestStep, saveCheckpoint } from "../train/checkpoint.ts";
import { openProgress } from "../train/progress.ts";
import {
  checkNoRun,
  plannedSteps,
  type RunConfig,
  readConfig,
  runFiles,
  writeConfig,
} from "../train/run-folder.ts";
import { loaded } from "./artifacts.ts";
import { stepAtEnd } from "./early-stop.ts";
import { readEncoder } from "./encoder.ts";
import { firstWeights } from "./init.ts";
import type { ProbeResult } from "./probe.ts";
import { sourcesOfRun } from "./run-sources.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";
import { train } from "./train.ts";
import { versions } from "./versions.ts";

/** Of all trainings, the run's own first. */
export interface Repeats {
  readonly seeds: readonly number[];
  /** Of several linear classifiers of a training, their mean. */
  readonly top1: Spread;
  readonly top5: Spread;
}

/** A training with another seed. */
export interface Training {
  readonly run: string;
  readonly config: RunConfig;
  readonly artifact: Artifact;
  /** Steps that are left; undefined once it has ended, and its encoder stands. */
  readonly left: number | undefined;
}

/** A run, and its trainings with other seeds. */
export interface Again {
  readonly seed: number;
  readonly trainings: readonly Training[];
}

/** What `train --resume` may change, and the programs' versions: two runs may differ in these and be the same. */
const FREE: ReadonlySet<string> = new Set<keyof RunConfig>([
  ...([
    "data",
    "provider",
    "engine",
    "device",
    "cudaLibraries",
    "threads",
    "cacheMb",
    "guard",
    "versions",
  ] as const),
]);

/**
 * Finds what is to be trained, `repeat` - 1 runs, before any work.
 * @param run the folder of a run that has ended
 * @throws UserError of anything else, or if a run of another configuration is in the way.
 */
export async function findAgain(run: string | undefined, repeat: number): Promise<Again> {
  if (!Number.isInteger(repeat) || repeat < 2)
    throw expected("probe, repeat", "a whole number of 2 or more", `${repeat}`);
  if (run === undefined || !existsSync(runFiles(run).config)) {
    const wanted = "the folder of a run, whose config.json says how to train it again";
    throw expected("probe, repeat", wanted, run ?? "features");
  }
  const config = await readConfig(run);
  const artifact = await readArtifact(run);
  const steps = plannedSteps(config);
  const { metadata } = await readEncoder(run);
  if (metadata.steps !== (await stepAtEnd(run, config))) {
    const found = `an encoder of step ${metadata.steps}`;
    throw expected(run, `a run that has ended, after ${steps} steps`, found, "go on with train --resume");
  }
  const { seed } = config;
  if (isDrawn(config) && (await sampleOf(run, config, artifact, seed)).fingerprint !== config.fingerprint)
    throw expected(config.data, "the images that the run began with", "others");
  const trainings: Training[] = [];
  for (let s = seed + 1; s < seed + repeat; s++) trainings.push(await findTraining(run, s, config, artifact));
  return { seed, trainings };
}

async function findTraining(
  origin: string,
  seed: number,
  config: RunConfig,
  artifact: Artifact,
): Promise<Training> {
  const run = join(origin, "repeats", `seed-${seed}`);
  const sample = isDrawn(config) ? await sampleOf(origin, config, artifact, seed) : {};
  const wanted: RunConfig = { ...config, ...sample, seed, versions: versions() };
  const steps = plannedSteps(wanted);
  const training = { run, config: wanted, artifact, left: steps };
  if (!existsSync(runFiles(run).config)) {
    await checkNoRun(run);
    return training;
  }
  await refuseOther(training, origin);
  const { encoder, checkpoints } = runFiles(run);
  if (existsSync(encoder) && (await readEncoder(run)).metadata.steps === (await stepAtEnd(run, wanted)))
    return { ...training, left: undefined };
  return { ...training, left: steps - ((await latestStep(checkpoints)) ?? 0) };
}

/** @throws UserError if the run that is there is of another configuration. */
async function refuseOther({ run, config, artifact }: Training, origin: string): Promise<void> {
  const advice = "remove it to train it anew";
  const [found, wanted]: readonly Readonly<Record<string, unknown>>[] = [await readConfig(run), config];
  const shown = (value: unknown) => (value === undefined ? "none" : JSON.stringify(value).slice(0, 200));
  for (const key of Object.keys({ ...wanted, ...found })) {
    if (FREE.has(key) || isDeepStrictEqual(found![key], wanted![key])) continue;
    throw expected(
      `${run}: "${key}"`,
      `${shown(wanted![key])}, as ${origin} has it`,
      shown(found![key]),
      advice,
    );
  }
  if (!isDeepStrictEqual((await readArtifact(run)).manifest, artifact.manifest))
    throw expected(run, `the graphs of ${origin}`, "others", advice);
}

/** Whether its images depend on the seed: those of a sample do, and where some are held out. */
const isDrawn = ({ limit, supervision }: RunConfig): boolean => limit !== null || supervision !== undefined;

/** The images that a run with that seed takes. */
async function sampleOf(
  run: string,
  config: RunConfig,
  { manifest }: Artifact,
  seed: number,
): Promise<Pick<RunConfig, "images" | "fingerprint">> {
  const { sources } = await sourcesOfRun(run, config, manifest, seed);
  return { images: sources.files.length, fingerprint: fingerprint(sources) };
}

/**
 * The results of a run, with the spread over it and its trainings with other seeds, each of which is trained and probed.
 * @throws UserError as `train` does, with the folder it came from; the signal's reason once it is aborted.
 */
export async function withRepeats(
  results: readonly ProbeResult[],
  { seed, trainings }: Again,
  probesOf: (run: string) => Promise<readonly ProbeResult[]>,
  surroundings: Surroundings = {},
): Promise<readonly ProbeResult[]> {
  const all = [results];
  for (const [i, training] of trainings.entries()) {
    const { run, config } = training;
    const title = `training ${i + 2} of ${trainings.length + 1} (seed ${config.seed})`;
    const stepsAfter = trainings.slice(i + 1).reduce((sum, { left = 0 }) => sum + left, 0);
    await trainAgain(training, { ...surroundings, series: { title, stepsAfter } });
    surroundings.signal?.throwIfAborted();
    all.push(await probesOf(run));
  }
  const seeds = [seed, ...trainings.map(({ config }) => config.seed)];
  return results.map((result, r) =>
    spreadResult(
      result,
      seeds,
      all.map((of) => of[r]!),
    ),
  );
}

async function trainAgain(training: Training, surroundings: Surroundings): Promise<void> {
  const { run, config, left } = training;
  const { series, output = QUIET } = surroundings;
  const said = left === undefined ? `${run} has ended before` : run;
  openProgress(output).end(`${series!.title}: ${said}`);
  if (left === undefined) return;
  try {
    await begin(training);
    await train({ out: run, resume: true, data: config.data }, surroundings);
  } catch (error) {
    if (!(error instanceof UserError) || error.message.includes(run)) throw error;
    throw new UserError(`${run}: ${error.message}`, error.exitCode);
  }
}

/** A folder to go on in: config.json, which makes it a run, comes last but for first weights, which may come twice. */
async function begin({ run, config, artifact }: Training): Promise<void> {
  const { config: file, checkpoints } = runFiles(run);
  if (!existsSync(file)) {
    const { manifest, graphs } = await loaded(artifact);
    await writeArtifact(run, manifest, graphs);
    await writeConfig(run, config);
  }
  if (config.init && (await latestStep(checkpoints)) === undefined) {
    const { given } = await firstWeights(config.init.file, artifact.manifest);
    const tensors = initialState(artifact.manifest, config, given);
    await saveCheckpoint(checkpoints, { step: 0, tensors, progress: {} });
  }
}

/** The first result, with the spread of all, which are of the same kind and settings. */
function spreadResult(
  first: ProbeResult,
  seeds: readonly number[],
  all: readonly ProbeResult[],
): ProbeResult {
  const spread = (figure: (result: ProbeResult) => number) => spreadOf(all.map(figure));
  return {
    ...first,
    repeats: {
      seeds,
      top1: spread(({ seeds, top1 }) => seeds?.mean ?? top1),
      top5: spread(({ top5 }) => top5),
    },
    ...(first.layers && {
      layers: first.layers.map((layer, l) => ({
        ...layer,
        repeats: spread(({ layers }) => layers![l]!.top1),
      })),
    }),
  };
}
