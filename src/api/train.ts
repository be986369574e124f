/** Trains an encoder: from a folder of images to a run folder with encoder.onnx. */
import { resolve } from "node:path";
import { canvasFor } from "../data/sizes.ts";
import type { Sources } from "../data/sources.ts";
import { UserError } from "../errors.ts";
import { checkWritable } from "../files/atomic.ts";
import { type Lock, lockFolder } from "../files/lock.ts";
import { shapeIn } from "../runtime/state.ts";
import { openTrainer, stepsBlock, type Trainer } from "../runtime/trainer.ts";
import type { Manifest } from "../spec.ts";
import { saveCheckpoint } from "../train/checkpoint.ts";
import { type Feed, openFeed } from "../train/feed.ts";
import { openFeedBeside } from "../train/feed-beside.ts";
import { type LoopResult, runLoop } from "../train/loop.ts";
import { openProgress, type Progress } from "../train/progress.ts";
import {
  type MetricsLog,
  openMetrics,
  plannedSteps,
  precisionOf,
  type RunConfig,
  readConfig,
  runFiles,
  writeConfig,
} from "../train/run-folder.ts";
import { runSchedules } from "../train/schedules.ts";
import { create } from "./create.ts";
import { openDetectionValidation } from "./detection-validation.ts";
import { earlyStop, keepingBest } from "./early-stop.ts";
import { type EpochEvaluation, LEAST_RANK_IMAGES, openEvaluation, sampleForRank } from "./evaluation.ts";
import { type ExportResult, exportEncoder } from "./export.ts";
import { extended } from "./extend.ts";
import { reopen } from "./resume.ts";
import { afterDivergence, afterFailure, standing } from "./standing.ts";
import { openValidation } from "./supervised.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";
import { openTensorBoard, repeated, type TensorBoard } from "./tensorboard.ts";
import type { TrainOptions } from "./train-options.ts";

export interface TrainResult {
  readonly steps: number;
  readonly epochs: number;
  /** Of the last step; null where none ran. */
  readonly loss: number | null;
  /** The loss of a network that tells nothing; null where that means nothing. */
  readonly chance: number | null;
  readonly imagesPerSecond: number;
  readonly waitShare: number;
  /** Greatest memory of the process, bytes. */
  readonly peakRssBytes: number;
  readonly seconds: number;
  readonly run: string;
  /** Null where the run was interrupted. */
  readonly encoder: string | null;
  /** Of a method that takes audio. */
  readonly audioEncoder?: string;
  readonly interrupted: boolean;
  /** Images held out, where the run learns from labels. */
  readonly heldOut?: number;
}

/**
 * No other process may write to the run's folder meanwhile.
 * @throws UserError on wrong options or input, and (exit code 1) if training collapsed.
 */
export async function train(options: TrainOptions, surroundings: Surroundings = {}): Promise<TrainResult> {
  const progress = openProgress(surroundings.output ?? QUIET);
  if (options.resume) await readConfig(options.out); // rather than make a folder to lock
  const lock = await lockFolder(options.out, { note: progress.note });
  try {
    return await trainAlone(options, progress, lock, surroundings);
  } finally {
    lock.release();
  }
}

async function trainAlone(
  options: TrainOptions,
  progress: Progress,
  lock: Lock,
  { signal, checkpointAsked, series }: Surroundings,
): Promise<TrainResult> {
  const started = performance.now();
  const warn = (line: string) => progress.note(`warning: ${line}`);
  const opened = await (options.resume ? reopen : create)(options, progress.show);
  const { artifact, sources, labelled, heldOut, first, written } = opened;
  const { manifest } = artifact;
  const files = runFiles(options.out);
  const { step: from, state } = await standing(options.out, manifest, opened.config, first?.given);
  const { config, report } = extended(opened.config, manifest, options, from);
  const steps = plannedSteps(config);
  const { provider, device, cudaLibraries, deterministic, threads } = config;
  const precision = precisionOf(config);
  const session = {
    provider,
    device,
    cudaLibraries,
    deterministic,
    precision,
    threads: threads ?? undefined,
  };
  const { images, rank = true } = config;
  // The runtime plans the step on a thread of its own, while weights are drawn, the first images decoded and files written.
  const opening = openTrainer(artifact, state, {
    ...session,
    engine: config.engine,
    where: options.out,
    images,
    batch: config.batch,
    microBatch: config.microBatch ?? undefined,
    note: progress.note,
  });
  opening.catch(() => {}); // thrown below, where it is awaited
  let feed: Feed | undefined;
  let evaluation: EpochEvaluation | undefined;
  let metrics: MetricsLog | undefined;
  let events: TensorBoard | undefined;
  try {
    await checkWritable(files.metrics, from < steps ? bytesOf(manifest, images) : undefined);
    const { seed } = config;
    const cacheBytes = config.cacheMb * 2 ** 20;
    const evaluated = heldOut ?? labelled ?? (rank ? sampleForRank(sources, seed) : undefined);
    // Its images are asked for as often as those to train on, once an epoch, so they get their share.
    const count = evaluated?.files.length ?? 0;
    const evaluationCache = (cacheBytes * count) / (count + images);
    feed = await (stepsBlock(config) ? openFeedBeside : openFeed)(sources, {
      manifest,
      batch: config.batch,
      seed,
      shorterSide: config.shorterSide,
      overlap: config.cropOverlap,
      canvas: await canvasOf(config, sources),
      cacheBytes: cacheBytes - evaluationCache,
      startStep: from,
      steps,
      warn,
    });
    const { stepsPerEpoch } = feed;
    const trainer = await opening;
    if (evaluated) {
      const looking = { cacheBytes: evaluationCache, warn, progress, signal };
      const batch = config.microBatch ?? config.batch;
      evaluation = heldOut
        ? await (manifest.detection ? openDetectionValidation : openValidation)(heldOut, manifest, trainer, {
            ...looking,
            batch,
          })
        : openEvaluation(evaluated, manifest, trainer, { ...looking, rank, batch, threads: session.threads });
    }
    // Only now: what cannot start leaves no run behind.
    await written;
    await writeConfig(options.out, config);
    if (first) await save(options.out, 0, trainer, lock); // whatever becomes of where they came from
    metrics = openMetrics(options.out, from);
    const stopped = heldOut && earlyStop(options.out, config, metrics);
    if (evaluation && stopped)
      evaluation = keepingBest(options.out, evaluation, metrics, (step) =>
        save(options.out, step, trainer, lock, "best"),
      );
    const tooFew = rank && !evaluated ? ` (RankMe and alpha need ${LEAST_RANK_IMAGES} images or more)` : "";
    const plan = `${images} ${sources.items ? "items" : "images"}, ${stepsPerEpoch} steps of ${config.batch} an epoch${tooFew}`;
    progress.end(from > 0 ? `going on at step ${from} of ${steps}: ${plan}` : `${manifest.name}: ${plan}`);
    for (const line of [...opened.chosen, ...report]) progress.end(line);
    if (options.tensorboard !== undefined) {
      const run = { name: options.out, config, manifest };
      events = await openTensorBoard(options.tensorboard, run, {
        from,
        steps,
        warn,
        threads: session.threads,
      });
    }
    const log = events ? repeated(metrics, events) : metrics;
    const every = config.knn?.every ?? 1;
    const result = await runLoop({
      manifest,
      trainer,
      feed,
      schedules: runSchedules(manifest.scalars, config),
      images,
      from,
      skipped: metrics.last?.skipped,
      steps,
      planned: (at) => plannedSteps(config, at),
      batch: config.batch,
      guard: config.guard,
      stopped,
      checkpointEvery: config.checkpointEvery,
      checkpoint: (step) => save(options.out, step, trainer, lock),
      failed: (error, step) =>
        afterFailure(options.out, error, async () => {
          if (step > from) await save(options.out, step, trainer, lock); // else nothing is new
        }),
      advice: () => afterDivergence(options.out),
      log,
      evaluation: evaluation && {
        every,
        missing:
          (from / stepsPerEpoch) % every === 0 &&
          metrics.last?.[heldOut ? "validation" : labelled ? "knn" : "rankme"] === undefined &&
          from > 0,
        brief: !labelled && !stopped, // the best epoch is one to go on from too
        run: evaluation.run,
      },
      progress,
      series,
      signal,
      checkpointAsked,
      startSeconds: secondsSince(started),
    });
    const looped = performance.now();
    const exported = result.interrupted
      ? null
      : await exportEncoder(options.out, { threads: session.threads });
    if (exported) await events?.project(exported.encoder, { progress, signal });
    // Videos have no images to compare it on.
    if (exported?.drawn && config.positives?.kind !== "frames")
      warn(`encoder.onnx was compared on ${exported.compared}`);
    if (result.step > from) {
      log.amend({ ...(exported && { exportSeconds: secondsSince(looped) }), peakRssBytes: peakRssBytes() });
    }
    return {
      ...summary(options.out, result, stepsPerEpoch, started, exported),
      ...(heldOut && { heldOut: heldOut.files.length }),
    };
  } finally {
    progress.end();
    metrics?.close();
    events?.close();
    await feed?.close();
    await evaluation?.close();
    await written.catch(() => {}); // thrown above, if the run came to it
    await opening.then(
      (trainer) => trainer.close(),
      () => {}, // thrown above
    );
  }
}

/** A step that is captured takes batches of one size (see `capturing`). */
const canvasOf = async ({ provider, microBatch, shorterSide }: RunConfig, sources: Sources) =>
  provider === "cuda" && microBatch === null ? canvasFor(sources, shorterSide) : undefined;

function summary(
  run: string,
  result: LoopResult,
  stepsPerEpoch: number,
  started: number,
  exported: ExportResult | null,
): TrainResult {
  return {
    steps: result.step,
    epochs: result.step / stepsPerEpoch,
    loss: Number.isFinite(result.loss) ? result.loss : null,
    chance: result.chance ?? null,
    imagesPerSecond: result.imagesPerSecond,
    waitShare: result.waitShare,
    peakRssBytes: peakRssBytes(),
    seconds: secondsSince(started),
    run: resolve(run),
    encoder: exported && resolve(exported.encoder),
    ...(exported?.audio && { audioEncoder: exported.audio.encoder }),
    interrupted: result.interrupted,
  };
}

const secondsSince = (moment: number): number => (performance.now() - moment) / 1000;

const peakRssBytes = (): number => process.resourceUsage().maxRSS * 1024;

/** Of a checkpoint, its header aside. */
const bytesOf = ({ state }: Manifest, images: number): number =>
  state.reduce((sum, entry) => sum + 4 * shapeIn(entry, images).reduce((a, b) => a * b, 1), 0);

/** Into the folder of the run's checkpoints, or that of its best one alone. */
async function save(
  run: string,
  step: number,
  trainer: Trainer,
  lock: Lock,
  folder: "checkpoints" | "best" = "checkpoints",
): Promise<void> {
  lock.check();
  const state = await trainer.readState();
  for (const [name, { data }] of state) {
    if (data instanceof Float32Array && !data.every(Number.isFinite)) {
      throw new UserError(`${name} is no longer finite after step ${step}; ${await afterDivergence(run)}`, 1);
    }
  }
  const keep = folder === "best" ? 1 : undefined;
  await saveCheckpoint(runFiles(run)[folder], { step, tensors: state, progress: {} }, keep);
}
