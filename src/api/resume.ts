/** Opens a run to go on with it. */
import { resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { readArtifact } from "../artifact/files.ts";
import { findImages, fingerprint } from "../data/sources.ts";
import { expected } from "../errors.ts";
import type { Manifest } from "../spec.ts";
import { type RunConfig, readConfig } from "../train/run-folder.ts";
import type { Opened, TrainOptions } from "./create.ts";

/** The run in `out`, as it was left. @throws UserError if an option would change what it computes. */
export async function reopen(options: TrainOptions): Promise<Opened> {
  const stored = await readConfig(options.out);
  const artifact = await readArtifact(options.out);
  await refuseChanges(options, stored, artifact.manifest);
  const config: RunConfig = {
    ...stored,
    data: options.data === undefined ? stored.data : resolve(options.data),
    cacheMb: options.cacheMb ?? stored.cacheMb,
    provider: options.provider ?? stored.provider,
    threads: options.threads ?? stored.threads,
  };
  const { seed, limit, images } = config;
  const sources = await findImages(config.data, limit === null ? { seed } : { limit, seed });
  if (sources.files.length !== images) {
    throw expected(config.data, `the ${images} images that the run began with`, `${sources.files.length}`);
  }
  if (fingerprint(sources) !== config.fingerprint) {
    throw expected(config.data, "the images that the run began with", "others", "their names have changed");
  }
  return { config, artifact, sources, written: Promise.resolve(), chosen: [] };
}

/** Options may be said again, but not otherwise. */
async function refuseChanges(options: TrainOptions, run: RunConfig, manifest: Manifest): Promise<void> {
  const { method, encoder, optimizer } = manifest;
  const stepsPerEpoch = Math.floor(run.images / run.batch);
  const { epochs, graph, knnData } = options;
  const sameLength = epochs !== undefined && Math.ceil(epochs * stepsPerEpoch) === run.steps;
  const compared: readonly (readonly [flag: string, given: unknown, stored: unknown])[] = [
    ["--method", options.method, method.name],
    ["--encoder", options.encoder, encoder.name],
    ["--image-size", options.imageSize, encoder.imageSize],
    ["--optimizer", nameOf(options.optimizer), optimizer.name],
    ...Object.entries(options.config ?? {}).map(
      ([key, value]) => [`--set ${key}`, value, method.config[key]] as const,
    ),
    ["--steps", options.steps, run.steps],
    ["--epochs", options.steps === undefined && !sameLength ? epochs : undefined, run.steps / stepsPerEpoch],
    ["--batch", options.batch, run.batch],
    ["--micro-batch", options.microBatch, run.microBatch],
    ["--lr", options.lr, run.lr],
    ["--weight-decay", options.weightDecay, run.weightDecay],
    ["--warmup-epochs", options.warmupEpochs, run.warmupEpochs],
    ["--seed", options.seed, run.seed],
    ["--limit", options.limit, run.limit],
    ["--checkpoint-every", options.checkpointEvery, run.checkpointEvery],
    ["--knn", knnData && resolve(knnData), run.knn?.data ?? null],
    ["--knn-every", options.knnEvery, run.knn?.every ?? null],
  ];
  for (const [flag, given, stored] of compared) {
    if (given === undefined || isDeepStrictEqual(given, stored)) continue;
    const began = stored == null ? "none, as the run began" : `${JSON.stringify(stored)}, as the run began`;
    throw expected(flag, began, JSON.stringify(given), ADVICE);
  }
  if (graph !== undefined && !isDeepStrictEqual((await readArtifact(graph)).manifest, manifest)) {
    throw expected("--graph", "the artifact that the run began with", "another", ADVICE);
  }
}

const nameOf = (optimizer: TrainOptions["optimizer"]) =>
  typeof optimizer === "object" ? optimizer.name : optimizer;

const ADVICE = "leave it out, or train anew with another --out";
