/** Trains an encoder: from a folder of images to a run folder with encoder.onnx. */
import { resolve } from "node:path";
import { type Loader, openLoader } from "../data/loader.ts";
import { findLabelledImages } from "../data/sources.ts";
import { UserError } from "../errors.ts";
import { initialState, type StateMap } from "../runtime/state.ts";
import { openTrainer, type Trainer } from "../runtime/trainer.ts";
import type { Manifest } from "../spec.ts";
import { latestCheckpoint, loadCheckpoint, saveCheckpoint } from "../train/checkpoint.ts";
import { type LoopResult, runLoop } from "../train/loop.ts";
import { openProgress } from "../train/progress.ts";
import { type MetricsLog, openMetrics, type RunConfig, runFiles, writeConfig } from "../train/run-folder.ts";
import { runSchedules } from "../train/schedules.ts";
import { create, type TrainOptions } from "./create.ts";
import { exportEncoder } from "./export.ts";
import { type KnnDuringTraining, openKnn } from "./knn-during-training.ts";
import { reopen } from "./resume.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

export interface TrainResult {
  readonly steps: number;
  readonly epochs: number;
  /** Of the last step; null where none ran. */
  readonly loss: number | null;
  readonly imagesPerSecond: number;
  readonly waitShare: number;
  /** Greatest memory of the process, bytes. */
  readonly peakRssBytes: number;
  readonly seconds: number;
  readonly run: string;
  /** Null where the run was interrupted. */
  readonly encoder: string | null;
  readonly interrupted: boolean;
}

/** @throws UserError on wrong options or input, and (exit code 1) if training collapsed. */
export async function train(
  options: TrainOptions,
  { output = QUIET, signal, checkpointAsked }: Surroundings = {},
): Promise<TrainResult> {
  const started = performance.now();
  const progress = openProgress(output);
  const warn = (line: string) => progress.note(`warning: ${line}`);
  const { config, artifact, sources, written, chosen } = options.resume
    ? await reopen(options)
    : await create(options);
  const { manifest } = artifact;
  const files = runFiles(options.out);
  const { step: from, state } = await startingPoint(manifest, config, files.checkpoints);
  const { provider, threads } = config;
  const session = { provider, threads: threads ?? undefined };
  const { images } = config;
  // The runtime plans the step on a thread of its own, while weights are drawn, the first images decoded and files written.
  const opening = openTrainer(artifact, state, {
    ...session,
    where: options.out,
    images,
    microBatch: config.microBatch ?? undefined,
  });
  let loader: Loader | undefined;
  let knn: KnnDuringTraining | undefined;
  let metrics: MetricsLog | undefined;
  try {
    const { seed } = config;
    const cacheBytes = config.cacheMb * 2 ** 20;
    // Images of kNN are asked for as often as those to train on, once an epoch, so they get their share.
    const labelled = config.knn && (await findLabelledImages(config.knn.data, { seed }));
    const knnImages = labelled?.files.length ?? 0;
    const knnCache = (cacheBytes * knnImages) / (knnImages + images);
    loader = openLoader(sources, {
      batch: config.batch,
      seed,
      shorterSide: config.shorterSide,
      cacheBytes: cacheBytes - knnCache,
      startStep: from,
      steps: config.steps,
      warn,
    });
    const { stepsPerEpoch } = loader;
    const trainer = await opening;
    if (labelled) {
      const { threads } = session;
      knn = openKnn(labelled, manifest, trainer, { threads, cacheBytes: knnCache, warn, progress, signal });
    }
    // Only now: what cannot start leaves no run behind.
    await written;
    await writeConfig(options.out, config);
    metrics = openMetrics(options.out, from);
    const plan = `${images} images, ${stepsPerEpoch} steps of ${config.batch} an epoch`;
    progress.end(
      from > 0 ? `going on at step ${from} of ${config.steps}: ${plan}` : `${manifest.name}: ${plan}`,
    );
    for (const line of chosen) progress.end(line);
    const result = await runLoop({
      manifest,
      trainer,
      loader,
      schedules: runSchedules(manifest.scalars, config),
      seed,
      images,
      from,
      steps: config.steps,
      batch: config.batch,
      checkpointEvery: config.checkpointEvery,
      checkpoint: (step) => save(files.checkpoints, step, trainer),
      log: metrics,
      evaluation: knn && {
        every: config.knn!.every,
        missing:
          (from / stepsPerEpoch) % config.knn!.every === 0 && metrics.last?.knn === undefined && from > 0,
        run: knn.run,
      },
      progress,
      signal,
      checkpointAsked,
    });
    const encoder = result.interrupted
      ? null
      : (await exportEncoder(options.out, { threads: session.threads })).encoder;
    return summary(options.out, result, stepsPerEpoch, started, encoder);
  } finally {
    progress.end();
    metrics?.close();
    await loader?.close();
    await knn?.close();
    await opening.then(
      (trainer) => trainer.close(),
      () => {}, // thrown above
    );
  }
}

function summary(
  run: string,
  result: LoopResult,
  stepsPerEpoch: number,
  started: number,
  encoder: string | null,
): TrainResult {
  return {
    steps: result.step,
    epochs: result.step / stepsPerEpoch,
    loss: Number.isFinite(result.loss) ? result.loss : null,
    imagesPerSecond: result.imagesPerSecond,
    waitShare: result.waitShare,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    seconds: (performance.now() - started) / 1000,
    run: resolve(run),
    encoder: encoder && resolve(encoder),
    interrupted: result.interrupted,
  };
}

/** The latest checkpoint, or the initial state if there is none. */
async function startingPoint(
  manifest: Manifest,
  config: RunConfig,
  checkpoints: string,
): Promise<{ step: number; state: () => StateMap }> {
  const path = await latestCheckpoint(checkpoints);
  if (path === undefined) return { step: 0, state: () => initialState(manifest, config) };
  const { step, tensors } = await loadCheckpoint(path);
  return { step, state: () => tensors };
}

async function save(dir: string, step: number, trainer: Trainer): Promise<void> {
  const { state } = trainer;
  for (const [name, { data }] of state) {
    if (data instanceof Float32Array && !data.every(Number.isFinite)) {
      throw new UserError(
        `${name} is no longer finite after step ${step}; the checkpoint before stands: try a lower --lr`,
        1,
      );
    }
  }
  await saveCheckpoint(dir, { step, tensors: state, progress: {} });
}
