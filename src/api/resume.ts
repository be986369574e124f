/** Opens a run to go on with it. */
import { resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { readArtifact } from "../artifact/files.ts";
import { countOf, fingerprint } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { providerFor } from "../runtime/providers.ts";
import type { Manifest } from "../spec.ts";
import { precisionOf, type RunConfig, readConfig } from "../train/run-folder.ts";
import { lowered, targetOf } from "./artifacts.ts";
import { ARTIFACT_RULES, type Comparison, flagOf, refuseOthers } from "./compare.ts";
import { deviceOf, engineFor, type Opened } from "./create.ts";
import { imagesForKnn } from "./evaluation.ts";
import { exactness } from "./precision.ts";
import { sourcesOfRun } from "./run-sources.ts";
import type { TrainOptions } from "./train-options.ts";

/** The run in `out`, as it was left. @throws UserError if an option would change what it computes. */
export async function reopen(options: TrainOptions, show?: (line: string) => void): Promise<Opened> {
  const stored = await readConfig(options.out);
  const own = await readArtifact(options.out);
  await refuseChanges(options, stored, own.manifest);
  const { provider, chosen } = await providerFor({
    provider: options.provider ?? stored.provider,
    device: options.device,
    cudaLibraries: options.cudaLibraries ?? stored.cudaLibraries,
  });
  exactness({ provider, deterministic: stored.deterministic });
  const { engine: before = "node", ...others } = stored;
  const engine = options.engine ?? before;
  const told = engineFor({ engine, provider, microBatch: stored.microBatch ?? undefined });
  const config: RunConfig = {
    ...others,
    ...told.config,
    data: options.data === undefined ? stored.data : resolve(options.data),
    cacheMb: options.cacheMb ?? stored.cacheMb,
    provider,
    ...deviceOf(options),
    threads: options.threads ?? stored.threads,
    guard: options.guard ?? stored.guard,
    rank: options.rank ?? stored.rank,
  };
  const { seed, images, range } = config;
  const { sources, heldOut } = await sourcesOfRun(options.out, config, own.manifest, seed, show);
  if (countOf(sources) !== images) {
    const what = sources.items ? "items" : "images";
    throw expected(config.data, `the ${images} ${what} that the run began with`, `${countOf(sources)}`);
  }
  if (fingerprint(sources) !== config.fingerprint) {
    throw expected(
      config.data,
      "the images that the run began with",
      "others",
      `their names ${sources.labelSets ? "or labels " : ""}have changed`,
    );
  }
  const labelled = config.knn ? await imagesForKnn(config.knn.data, { seed, range }) : undefined;
  const form = { target: targetOf(provider), batch: config.batch };
  const artifact = await lowered(own, form); // the last to go on may have been on another provider
  return {
    config,
    artifact,
    sources,
    labelled,
    heldOut,
    written: Promise.resolve(),
    chosen: [...chosen, ...told.chosen],
  };
}

interface Begun {
  readonly run: RunConfig;
  readonly manifest: Manifest;
  readonly options: TrainOptions;
}

/** "free": it may differ. */
type Rule<T> = "free" | ((given: T, begun: Begun) => readonly Comparison[] | Promise<readonly Comparison[]>);

/** An option whose value config.json holds. */
const stored =
  <T>(option: keyof TrainOptions, of: (run: RunConfig) => unknown, advice?: string): Rule<T> =>
  (given, { run }) => [{ flag: flagOf(option), given, stored: of(run), ...(advice && { advice }) }];

const ofArtifact =
  <T>(compare: (given: T, manifest: Manifest) => readonly Comparison[]): Rule<T> =>
  (given, { manifest }) =>
    compare(given, manifest);

const ofPositives = ({ positives = {} }: { positives?: object | undefined }, key: string): unknown =>
  (positives as Readonly<Record<string, unknown>>)[key];

const LONGER = "--extend-steps or --extend-epochs trains longer";

/** Each option's: one that were added without would not compile. */
const RULES: { readonly [K in keyof Required<TrainOptions>]: Rule<NonNullable<TrainOptions[K]>> } = {
  out: "free",
  resume: "free",
  extendSteps: "free",
  extendEpochs: "free",
  data: "free",
  provider: "free",
  engine: "free",
  device: "free",
  cudaLibraries: "free",
  threads: "free",
  deterministic: stored("deterministic", (run) => run.deterministic ?? false),
  precision: stored("precision", precisionOf),
  tf32: (given, { run }) => [
    { flag: flagOf("tf32"), given: given ? "tf32" : "fp32", stored: precisionOf(run) },
  ],
  cacheMb: "free",
  guard: "free",
  rank: "free",
  tensorboard: "free",
  recipe: stored("recipe", (run) => run.recipe),
  method: ofArtifact(ARTIFACT_RULES.method),
  encoder: ofArtifact(ARTIFACT_RULES.encoder),
  imageSize: ofArtifact(ARTIFACT_RULES.imageSize),
  optimizer: ofArtifact(ARTIFACT_RULES.optimizer),
  config: ofArtifact(ARTIFACT_RULES.config),
  graph: async (given, { manifest, run }) => {
    const { target = "cpu", precision } = manifest;
    const form = { target, batch: run.batch, precision };
    if (isDeepStrictEqual((await lowered(await readArtifact(given), form)).manifest, manifest)) return [];
    throw expected("--graph", "the artifact that the run began with", "another", ADVICE);
  },
  steps: stored("steps", (run) => run.steps, LONGER),
  epochs(given, { run, options }) {
    const stepsPerEpoch = Math.floor(run.images / run.batch);
    const same = options.steps !== undefined || Math.ceil(given * stepsPerEpoch) === run.steps;
    return same ? [] : [{ flag: "--epochs", given, stored: run.steps / stepsPerEpoch, advice: LONGER }];
  },
  batch: stored("batch", (run) => run.batch),
  microBatch: stored("microBatch", (run) => run.microBatch),
  lr: stored("lr", (run) => run.lr),
  headLr: stored("headLr", (run) => run.headLr),
  supervision: ({ images, ...given }, { run }) => [
    ...(["labels", "heldOut", "earlyStop"] as const).map((name) => ({
      flag: `supervision.${name}`,
      given: given[name],
      stored: run.supervision?.[name],
    })),
    { flag: "supervision.images", given: images && resolve(images), stored: run.supervision?.images },
  ],
  weightDecay: stored("weightDecay", (run) => run.weightDecay),
  warmupEpochs: stored("warmupEpochs", (run) => run.warmupEpochs),
  seed: stored("seed", (run) => run.seed),
  limit: stored("limit", (run) => run.limit),
  range: stored("range", (run) => run.range),
  audio: (given, { run }) => [{ flag: "--audio", given: resolve(given), stored: run.audio }],
  positives: stored("positives", (run) => run.positives?.kind ?? "crops"),
  window: stored("window", (run) => ofPositives(run, "window")),
  far: stored("far", (run) => ofPositives(run, "far")),
  tracks: (given, { run }) => [{ flag: "--tracks", given: resolve(given), stored: ofPositives(run, "file") }],
  cropOverlap: stored("cropOverlap", (run) => run.cropOverlap),
  trackMargin: stored("trackMargin", (run) => ofPositives(run, "margin")),
  pairs: (given, { run }) => [{ flag: "--pairs", given: resolve(given), stored: ofPositives(run, "file") }],
  checkpointEvery: stored("checkpointEvery", (run) => run.checkpointEvery),
  knnData: (given, { run }) => [{ flag: "--knn", given: resolve(given), stored: run.knn?.data }],
  knnEvery: stored("knnEvery", (run) => run.knn?.every),
  init: (given, { run }) => [{ flag: "--init", given: resolve(given), stored: run.init?.from }],
};

/** Options may be said again, but not otherwise. */
async function refuseChanges(options: TrainOptions, run: RunConfig, manifest: Manifest): Promise<void> {
  for (const [option, rule] of Object.entries(RULES)) {
    const given = options[option as keyof TrainOptions];
    if (given === undefined || rule === "free") continue;
    refuseOthers(await rule(given as never, { run, manifest, options }), "as the run began", ADVICE);
  }
}

const ADVICE = "leave it out, or train anew with another --out";
