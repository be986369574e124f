/** Nearest neighbours of a run's images and a map of their embeddings, for its report. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readArtifact } from "../artifact/files.ts";
import type { Source } from "../data/canvas.ts";
import { type Decoder, openDecoder } from "../data/decoder.ts";
import { openImages } from "../data/images.ts";
import { findLabelledImages, fingerprint, type Sources } from "../data/sources.ts";
import { expected, UserError } from "../errors.ts";
import { freezeEncoder } from "../export/freeze.ts";
import { encoderMetadata, metadataTexts } from "../export/metadata.ts";
import { cores } from "../machine.ts";
import { LEAST_MAPPED, mapOf } from "../report/map.ts";
import { type Embedded, rowsOf } from "../report/neighbours.ts";
import { type MapShown, type NeighboursShown, nameOf } from "../report/pictures.ts";
import type { Run } from "../report/run.ts";
import { spriteOf } from "../report/sprite.ts";
import { providerFor } from "../runtime/providers.ts";
import { initialState, type StateMap } from "../runtime/state.ts";
import type { Manifest } from "../spec.ts";
import { checkpointAt, loadCheckpoint } from "../train/checkpoint.ts";
import { duration } from "../train/duration.ts";
import { openProgress, type Progress } from "../train/progress.ts";
import { type RunConfig, runFiles } from "../train/run-folder.ts";
import { exported } from "./early-stop.ts";
import { type EncoderOptions, type OpenedEncoder, openFrozen } from "./encoder.ts";
import { featuresOf } from "./features.ts";
import { findUnlabelled } from "./supervised.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

/** Images that are embedded: small ones, and photographs, which take longer. */
const EMBEDDED = { small: 1500, large: 500 };
/** Sides of thumbnails, pixels. */
const THUMBNAIL = { neighbours: 72, map: 48 };
/** Of their sheets: with the other images a page stays below 3 MB. */
const MOST_BYTES = { neighbours: 300_000, map: 1_200_000 };

export interface EmbeddingShown {
  readonly neighbours: NeighboursShown;
  /** Undefined of few images. */
  readonly map: MapShown | undefined;
  /** What could not be shown, and why. */
  readonly leftOut: readonly string[];
}

/**
 * Of the labelled images of kNN where the run has them, else of its own.
 * @throws UserError if none can be read, or the encoder's features are not finite; the signal's reason once it is aborted
 */
export async function embeddingShown(
  folder: string,
  run: Run,
  where: EncoderOptions,
  { output = QUIET, signal }: Surroundings,
): Promise<EmbeddingShown> {
  const progress = openProgress(output);
  const { folderShown, sources } = await imagesShown(run);
  const decoder = openDecoder(sources, { warn: () => {} }); // training has warned
  const encoders = await encodersOf(folder, run, where);
  try {
    const opened = [encoders.now, ...(encoders.start ? [encoders.start] : [])];
    const [now, start] = await embeddedBy(opened, sources, decoder, { title: "report", progress, signal });
    const neighbours = await neighboursOf(decoder, folderShown, now!, start);
    const leftOut = encoders.gone ? [`neighbours at the start: ${encoders.gone}`] : [];
    const count = now!.files.length;
    if (count < LEAST_MAPPED)
      return { neighbours, map: undefined, leftOut: [...leftOut, `map: ${count} images are too few`] };
    const tick = ticking("map of the embeddings", progress, signal);
    const points = await mapOf(now!.features, { seed: run.config.seed, tick });
    return { neighbours, map: await mapShown(decoder, folderShown, now!, points), leftOut };
  } finally {
    progress.end();
    for (const encoder of [encoders.now, encoders.start]) await encoder?.close();
  }
}

interface Encoders {
  /** By the latest checkpoint. */
  readonly now: OpenedEncoder;
  /** As the run began; undefined where it has not gone on since, or that is gone. */
  readonly start?: OpenedEncoder;
  /** What is gone. */
  readonly gone?: string;
}

async function encodersOf(
  folder: string,
  { config, manifest }: Run,
  where: EncoderOptions,
): Promise<Encoders> {
  const artifact = await readArtifact(folder);
  const encode = await artifact.graph("encode");
  const { provider } = await providerFor(where);
  const frozen = (state: StateMap, step: number) => {
    const bytes = freezeEncoder(encode, state, metadataTexts(encoderMetadata(config, manifest, step)));
    return openFrozen(bytes, join(folder, "encoder.onnx"), { ...where, provider });
  };
  const { step, state } = await exported(folder, manifest, config);
  const now = await frozen(state(), step);
  if (step === 0) return { now };
  const first = await firstState(folder, config, manifest);
  if (!first) return { now, gone: "the checkpoint with the weights that the run began with is gone" };
  return { now, start: await frozen(first, 0) };
}

/** The state that the run began with, but for memory banks; undefined where its weights came from elsewhere and are gone. */
async function firstState(
  folder: string,
  config: RunConfig,
  { state }: Manifest,
): Promise<StateMap | undefined> {
  if (!config.init) return initialState({ state: state.filter(({ rows }) => !rows) }, config);
  const path = checkpointAt(runFiles(folder).checkpoints, 0);
  return existsSync(path) ? (await loadCheckpoint(path)).tensors : undefined;
}

async function neighboursOf(
  decoder: Decoder,
  folder: string,
  now: Embedded,
  start: Embedded | undefined,
): Promise<NeighboursShown> {
  const twice = (one: Embedded) => ({ train: one, test: one });
  const rows = rowsOf({ train: "", test: "" }, start && twice(start), twice(now));
  const all = rows.flatMap(({ query, before, after }) => [
    query,
    ...[...before, ...after].map(({ file }) => file),
  ]);
  const files = [...new Set(all)];
  const tiles = await thumbnails(files, decoder, THUMBNAIL.neighbours);
  return {
    rows,
    sprite: await spriteOf(tiles, { cell: THUMBNAIL.neighbours, mostBytes: MOST_BYTES.neighbours }),
    places: new Map(files.map((file, i) => [file, i])),
    among: now.files.length,
    folder,
  };
}

async function mapShown(
  decoder: Decoder,
  folder: string,
  { files, features }: Embedded,
  points: MapShown["points"],
): Promise<MapShown> {
  const tiles = await thumbnails(files, decoder, THUMBNAIL.map);
  return {
    points: points.map(([x, y]) => [Number(x.toFixed(4)), Number(y.toFixed(4))] as const),
    names: files.map(nameOf),
    labels: [...features.labels],
    classes: features.classes.map(nameOf),
    sprite: await spriteOf(tiles, { cell: THUMBNAIL.map, mostBytes: MOST_BYTES.map }),
    folder,
  };
}

/** A fixed sample, with classes where the folder has them. */
export async function imagesShown({
  config,
  manifest,
}: Pick<Run, "config" | "manifest">): Promise<{ readonly folderShown: string; readonly sources: Sources }> {
  const { data, knn, seed, range, supervision } = config;
  const most = manifest.encoder.imageSize <= 64 ? EMBEDDED.small : EMBEDDED.large;
  if (knn && existsSync(knn.data)) {
    const sources = await findLabelledImages(knn.data, { limit: most, seed, range });
    return { folderShown: "the labelled images of kNN", sources };
  }
  // The same seed: of a smaller sample, all are in a larger one.
  const options = { limit: Math.min(config.limit ?? most, most), seed, range };
  const all = await findUnlabelled({ data, supervision }, options);
  const labelled = await findLabelledImages(data, options).catch((error) => {
    if (error instanceof UserError) return undefined; // no classes
    throw error;
  });
  const same = labelled && fingerprint(labelled) === fingerprint(all); // no image lies outside of the classes
  return { folderShown: "the run’s images", sources: same ? labelled : all };
}

interface Work {
  /** What it is for, such as "report". */
  readonly title: string;
  readonly progress: Progress;
  readonly signal: AbortSignal | undefined;
}

/** By each of the encoders, which are of one kind, each image decoded once. */
export async function embeddedBy(
  encoders: readonly OpenedEncoder[],
  sources: Sources,
  decoder: Decoder,
  { title, progress, signal }: Work,
): Promise<readonly Embedded[]> {
  const { side, features: d } = encoders[0]!.metadata;
  const images = openImages(sources, {
    decode: (file) => decoder.square(file, side),
    cacheBytes: 0,
    concurrency: 2 * cores(),
  });
  try {
    const encode = async (pixels: Uint8Array, n: number) => {
      const all = new Float32Array(n * encoders.length * d); // [n, encoders d]
      for (const [e, encoder] of encoders.entries()) {
        const own = await encoder.encode(pixels, [n, side, side, 3]);
        for (let i = 0; i < n; i++) all.set(own.subarray(i * d, (i + 1) * d), (i * encoders.length + e) * d);
      }
      return all;
    };
    const options = {
      decoded: images.get,
      encode,
      d: encoders.length * d,
      title: `${title}: features of`,
    };
    const { data, n, labels, classes, kept } = await featuresOf(sources, { ...options, progress, signal });
    if (n === 0) throw expected(sources.root, "images that can be decoded", "none");
    if (!data.every(Number.isFinite)) throw expected("encoder", "finite features", "NaN or Infinity");
    const files = kept.map((i) => sources.files[i]!);
    return encoders.map((_, e) => {
      const own = new Float32Array(n * d);
      for (let i = 0; i < n; i++) {
        const from = (i * encoders.length + e) * d;
        own.set(data.subarray(from, from + d), i * d);
      }
      return { features: { data: own, n, d, labels, classes }, files };
    });
  } finally {
    await images.close();
  }
}

/** A few at a time. */
export async function thumbnails(
  files: readonly string[],
  decoder: Decoder,
  side: number,
): Promise<readonly (Source | undefined)[]> {
  const made: (Source | undefined)[] = [];
  const each = 4 * cores();
  for (let at = 0; at < files.length; at += each)
    made.push(...(await Promise.all(files.slice(at, at + each).map((file) => decoder.square(file, side)))));
  return made;
}

/** Shows how far work is; JavaScript gets to what else waits for it. */
function ticking(what: string, progress: Progress, signal: AbortSignal | undefined) {
  const started = performance.now();
  return async (done: number): Promise<void> => {
    signal?.throwIfAborted();
    const left = ((performance.now() - started) / 1000) * (1 / Math.max(done, 1e-3) - 1);
    progress.show(`report: ${what}  ${Math.round(100 * done)} %  ${duration(left)} left`);
    await new Promise(setImmediate);
  };
}
