/** kNN while training: of every fifth image of a labelled folder among the others, with the weights of the moment. */
import { openDecoder } from "../data/decoder.ts";
import { openImages } from "../data/images.ts";
import type { Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { cores } from "../machine.ts";
import { type Features, takeRows } from "../probe/features.ts";
import { knn } from "../probe/knn.ts";
import type { Trainer } from "../runtime/trainer.ts";
import type { Manifest } from "../spec.ts";
import { duration, type Progress, recentRate } from "../train/progress.ts";

const BLOCK = 256;

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
  /** Percent of the queries that the others' votes get right. @throws the signal's reason once it is aborted */
  readonly run: () => Promise<{ knn: number }>;
  close(): Promise<void>;
}

/** @param sources labelled. @throws UserError if the images that vote are of one class */
export function openKnn(
  sources: Sources,
  manifest: Manifest,
  trainer: Trainer,
  { threads, cacheBytes, warn, progress, signal }: KnnSurroundings,
): KnnDuringTraining {
  const { side, features: d } = manifest.encoder;
  const count = sources.files.length;
  const votes = (i: number) => i % 5 !== 0;
  const classes = new Set(sources.labels.filter((_, i) => votes(i)));
  if (classes.size < 2)
    throw expected(sources.root, "several images of two classes or more", `${count} in all`);
  const decoder = openDecoder(sources, { warn });
  const images = openImages(sources, {
    decode: (file) => decoder.square(file, side),
    cacheBytes,
    concurrency: 2 * cores(),
  });
  /** Of all images that can be decoded. */
  async function featuresOfAll(): Promise<Features> {
    const found = new Float32Array(count * d);
    const labels: number[] = [];
    const rate = recentRate();
    const decoded = (at: number) => {
      const block = Promise.all(
        Array.from({ length: Math.min(BLOCK, count - at) }, (_, i) => images.get(at + i)),
      );
      block.catch(() => {}); // told to who awaits it, if anyone still does
      return block;
    };
    let ahead = decoded(0);
    for (let at = 0; at < count; at += BLOCK) {
      const before = performance.now();
      const block = await ahead;
      if (at + BLOCK < count) ahead = decoded(at + BLOCK); // while this block is encoded
      signal?.throwIfAborted();
      const good = block.flatMap((image, i) => (image ? [{ ...image, label: sources.labels[at + i]! }] : []));
      if (good.length > 0) {
        const pixels = Buffer.concat(good.map((image) => image.pixels));
        found.set(await trainer.encode(pixels, [good.length, side, side, 3]), labels.length * d);
        labels.push(...good.map(({ label }) => label));
      }
      rate.add(block.length, (performance.now() - before) / 1000);
      const done = at + block.length;
      progress.show(`kNN: ${done}/${count} images  ${duration((count - done) / rate.perSecond)} left`);
    }
    const n = labels.length;
    return {
      data: found.subarray(0, n * d),
      n,
      d,
      labels: Int32Array.from(labels),
      classes: sources.classes,
    };
  }

  return {
    async run() {
      const all = await featuresOfAll();
      const rows = Array.from({ length: all.n }, (_, row) => row);
      const others = takeRows(all, rows.filter(votes));
      const queries = takeRows(
        all,
        rows.filter((row) => !votes(row)),
      );
      const { top1 } = await knn(others, queries, { threads, signal });
      return { knn: top1 };
    },
    close: images.close,
  };
}
