/**
 * kNN while training: of every fifth image of a labelled folder among the others, with the weights of the moment; and the
 * rank of their features.
 */
import { openDecoder } from "../data/decoder.ts";
import { openImages } from "../data/images.ts";
import { findLabelledImages, type SourceOptions, type Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { cores } from "../machine.ts";
import { takeRows } from "../probe/features.ts";
import { knn } from "../probe/knn.ts";
import { alphaReq, rankMe } from "../probe/rank.ts";
import type { Trainer } from "../runtime/trainer.ts";
import type { Manifest } from "../spec.ts";
import type { Progress } from "../train/progress.ts";
import { featuresOf } from "./features.ts";

export interface KnnSurroundings {
  readonly threads?: number | undefined;
  /** Decoded images are kept up to this many bytes; the others are decoded again each time. */
  readonly cacheBytes: number;
  /** See `DecoderOptions`. */
  readonly warn: (line: string) => void;
  readonly progress: Progress;
  /** Aborted to stop between two blocks of images. */
  readonly signal?: AbortSignal | undefined;
}

export interface KnnDuringTraining {
  /**
   * Percent of the queries that the others' votes get right; RankMe and alpha-ReQ of a fixed sample of all, alpha where
   * there are dimensions enough. @throws the signal's reason once it is aborted
   */
  readonly run: () => Promise<{ knn: number; rankme: number; alpha?: number }>;
  close(): Promise<void>;
}

/** Rows whose spectrum is computed: a second or so for each epoch, whatever the encoder. */
const RANK_ROWS = 512;

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

/** @param sources of `imagesForKnn` */
export function openKnn(
  sources: Sources,
  manifest: Manifest,
  trainer: Trainer,
  { threads, cacheBytes, warn, progress, signal }: KnnSurroundings,
): KnnDuringTraining {
  const { side, features: d } = manifest.encoder;
  const decoder = openDecoder(sources, { warn });
  const images = openImages(sources, {
    decode: (file) => decoder.square(file, side),
    cacheBytes,
    concurrency: 2 * cores(),
  });
  return {
    async run() {
      const { encode } = trainer;
      const found = { square: images.get, encode, side, d, title: "kNN:", progress, signal };
      const all = await featuresOf(sources, found);
      const rows = Array.from({ length: all.n }, (_, row) => row);
      const others = takeRows(all, rows.filter(votes));
      const queries = takeRows(
        all,
        rows.filter((row) => !votes(row)),
      );
      const { top1 } = await knn(others, queries, { threads, signal });
      const sample = takeRows(all, evenly(all.n, RANK_ROWS));
      const alpha = await alphaReq(sample);
      return { knn: top1, rankme: await rankMe(sample), ...(alpha !== undefined && { alpha }) };
    },
    close: images.close,
  };
}
