/**
 * What is measured at the end of an epoch, with the weights of the moment: kNN of every fifth image of a labelled folder
 * among the others, and the rank of their features. Without labels the rank alone, of a sample of the training images.
 */
import { openDecoder } from "../data/decoder.ts";
import { openImages } from "../data/images.ts";
import { findLabelledImages, type SourceOptions, type Sources, takeFiles } from "../data/sources.ts";
import { isVideo } from "../data/video.ts";
import { expected, messageOf } from "../errors.ts";
import { cores } from "../machine.ts";
import { checkFinite, type Features, takeRows } from "../probe/features.ts";
import { knn } from "../probe/knn.ts";
import { alphaReq, rankMe } from "../probe/rank.ts";
import { randomFor } from "../random.ts";
import type { Trainer } from "../runtime/trainer.ts";
import type { Manifest } from "../spec.ts";
import type { Progress } from "../train/progress.ts";
import { BLOCK, featuresOf } from "./features.ts";

export interface EvaluationOptions {
  /** Whether RankMe and alpha are measured. */
  readonly rank: boolean;
  /** Images that a step sees at a time. */
  readonly batch: number;
  readonly threads?: number | undefined;
  /** Decoded images are kept up to this many bytes; the others are decoded again each time. */
  readonly cacheBytes: number;
  /** See `DecoderOptions`. */
  readonly warn: (line: string) => void;
  readonly progress: Progress;
  /** Aborted to stop between two blocks of images. */
  readonly signal?: AbortSignal | undefined;
}

/** `knn`: percent of the queries that the others' votes get right; alpha where there are dimensions enough. */
export type Measured = { readonly [name in "knn" | "rankme" | "alpha"]?: number };

export interface EpochEvaluation {
  /** @throws the signal's reason once it is aborted */
  readonly run: () => Promise<Readonly<Record<string, number>>>;
  close(): Promise<void>;
}

/** Rows whose spectrum is computed: a second or so for each epoch, whatever the encoder. */
const RANK_ROWS = 512;
/** Images that are encoded for their rank alone: with the spectrum less than 1 % of an epoch of 10,000 images. */
const RANK_IMAGES = 256;
/** Of fewer the rank would be that of the sample: alpha is fitted to 100 eigenvalues, and n images have n - 1. */
export const LEAST_RANK_IMAGES = 101;

/**
 * The training images whose rank is measured, videos left out: a fixed sample, drawn by the seed; undefined where they are too
 * few.
 */
export function sampleForRank(sources: Sources, seed: number): Sources | undefined {
  const images = Array.from(sources.files.keys()).filter((row) => !isVideo(sources.files[row]!));
  if (images.length < LEAST_RANK_IMAGES) return undefined;
  const rows = randomFor(seed, "rank").shuffled(images).slice(0, RANK_IMAGES);
  return takeFiles(
    sources,
    rows.sort((a, b) => a - b),
  );
}

/** At most `most` rows of n, as far apart as can be: of all classes, as files are sorted. Exported for its test. */
export const evenly = (n: number, most: number): readonly number[] =>
  Array.from({ length: Math.min(n, most) }, (_, i) => Math.floor((i * n) / Math.min(n, most)));

const votes = (i: number) => i % 5 !== 0;

/** The labelled images of a folder. @throws UserError if those that vote are of one class */
export async function imagesForKnn(data: string, options: SourceOptions): Promise<Sources> {
  const sources = await findLabelledImages(data, options);
  const classes = new Set(sources.labels.filter((_, i) => votes(i)));
  if (classes.size < 2)
    throw expected(data, "several images of two classes or more", `${sources.files.length} in all`);
  return sources;
}

/** @param sources of `imagesForKnn`, or of `sampleForRank`, of which a run's loader warns */
export function openEvaluation(
  sources: Sources,
  manifest: Manifest,
  trainer: Trainer,
  { rank, batch, threads, cacheBytes, warn, progress, signal }: EvaluationOptions,
): EpochEvaluation {
  const { side, features: d } = manifest.encoder;
  const labelled = sources.labels.length > 0;
  const decoder = openDecoder(sources, { warn: labelled ? warn : () => {} });
  const images = openImages(sources, {
    decode: (file) => decoder.square(file, side),
    cacheBytes,
    concurrency: 2 * cores(),
  });

  async function measure(): Promise<Measured> {
    const encode = (pixels: Uint8Array, n: number) => trainer.encode(pixels, [n, side, side, 3]);
    // Unasked, it must not need more memory than a step.
    const own = labelled ? { title: "kNN:" } : { title: "rank:", block: Math.min(batch, BLOCK) };
    const all = await featuresOf(sources, { decoded: images.get, encode, d, ...own, progress, signal });
    return { ...(labelled && { knn: await knnOf(all) }), ...(rank && (await rankOf(all))) };
  }

  async function knnOf(all: Features): Promise<number> {
    const rows = Array.from({ length: all.n }, (_, row) => row);
    const others = takeRows(all, rows.filter(votes));
    const queries = takeRows(
      all,
      rows.filter((row) => !votes(row)),
    );
    return (await knn(others, queries, { threads, signal })).top1;
  }

  /** Nobody has asked for what is measured without labels, so that it must not end a run. */
  async function measureUnasked(): Promise<Measured> {
    try {
      return await measure();
    } catch (error) {
      signal?.throwIfAborted();
      warn(`RankMe and alpha of this epoch are left out: ${messageOf(error)}`);
      return {};
    }
  }

  return { run: labelled ? measure : measureUnasked, close: images.close };
}

/** Of a fixed sample of the rows. */
async function rankOf(all: Features): Promise<Measured> {
  const sample = takeRows(all, evenly(all.n, RANK_ROWS));
  checkFinite("rank", sample);
  const alpha = await alphaReq(sample);
  return { rankme: await rankMe(sample), ...(alpha !== undefined && { alpha }) };
}
