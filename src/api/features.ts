/** Features of a folder's images, block by block: while one is encoded the next is decoded. */
import type { Source } from "../data/canvas.ts";
import type { Sources } from "../data/sources.ts";
import type { Features } from "../probe/features.ts";
import { duration, type Progress, recentRate } from "../train/progress.ts";

export interface FeaturesOptions {
  /** The image of `sources.files[index]` as [side, side, 3]; undefined if it cannot be decoded. */
  readonly square: (index: number) => Source | undefined | Promise<Source | undefined>;
  /** uint8 [n, side, side, 3] -> float32 [n, d] */
  readonly encode: (
    images: Uint8Array,
    shape: [n: number, height: number, width: number, channels: 3],
  ) => Promise<Float32Array>;
  readonly side: number;
  readonly d: number;
  /** What is shown of it, such as "features of". */
  readonly title: string;
  readonly progress: Progress;
  /** Aborted to stop between two blocks. */
  readonly signal?: AbortSignal | undefined;
}

const BLOCK = 64;

/**
 * A row for each image that can be decoded, and the places in `sources.files` of those.
 * @throws the signal's reason once it is aborted
 */
export async function featuresOf(
  { files, labels, classes }: Sources,
  { square, encode, side, d, title, progress, signal }: FeaturesOptions,
): Promise<Features & { readonly kept: readonly number[] }> {
  const count = files.length;
  const data = new Float32Array(count * d);
  const kept: number[] = [];
  const rate = recentRate();
  const decoded = (from: number) => {
    const places = Array.from({ length: Math.min(BLOCK, count - from) }, (_, i) => from + i);
    const block = Promise.all(
      places.map(async (index) => {
        const image = await square(index);
        return image ? [{ pixels: image.pixels, index }] : [];
      }),
    );
    block.catch(() => {}); // told to whoever awaits it, if anyone still does
    return block;
  };
  let ahead = decoded(0);
  for (let at = 0; at < count; at += BLOCK) {
    const before = performance.now();
    const block = (await ahead).flat();
    const done = Math.min(at + BLOCK, count);
    if (done < count) ahead = decoded(done); // while this block is encoded
    signal?.throwIfAborted();
    if (block.length > 0) {
      const pixels = Buffer.concat(block.map((image) => image.pixels));
      data.set(await encode(pixels, [block.length, side, side, 3]), kept.length * d);
      kept.push(...block.map(({ index }) => index));
    }
    rate.add(done - at, (performance.now() - before) / 1000);
    const left = duration((count - done) / rate.perSecond);
    progress.show(`${title} ${done}/${count} images  ${rate.perSecond.toFixed(0)} images/s  ${left} left`);
  }
  const n = kept.length;
  const ownLabels = Int32Array.from(labels.length ? kept : [], (i) => labels[i]!);
  return { data: data.subarray(0, n * d), n, d, labels: ownLabels, classes, kept };
}
