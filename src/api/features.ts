/** Features of a folder's images, block by block: while one is encoded the next is decoded. */
import type { Source } from "../data/canvas.ts";
import type { Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { memoryBytes } from "../machine.ts";
import type { Features } from "../probe/features.ts";
import { duration } from "../train/duration.ts";
import { type Progress, recentRate } from "../train/progress.ts";

/** Rows of n images side by side: of parts float32 [n, ...] all values of an image, [n, d]. */
export function joined(parts: readonly Float32Array[], n: number): Float32Array {
  if (parts.length === 1 || n === 0) return parts[0]!;
  const lengths = parts.map(({ length }) => length / n);
  const d = lengths.reduce((sum, length) => sum + length, 0);
  const rows = new Float32Array(n * d);
  for (let i = 0, at = 0; i < n; i++) {
    parts.forEach((part, p) => {
      rows.set(part.subarray(i * lengths[p]!, (i + 1) * lengths[p]!), at);
      at += lengths[p]!;
    });
  }
  return rows;
}

/** Pixels [side, side, 3], or the bytes of samples. */
type Taken = Pick<Source, "pixels">;

export interface FeaturesOptions {
  /** What the encoder takes of `sources.files[index]`, as many values of each; undefined if it cannot be decoded. */
  readonly decoded: (index: number) => Taken | undefined | Promise<Taken | undefined>;
  /** Of n files, one after the other -> float32 [n, d]. */
  readonly encode: (values: Uint8Array, n: number) => Promise<Float32Array>;
  readonly d: number;
  /** What the files are, for the progress. @default "images" */
  readonly what?: string;
  /** Images that are encoded at a time. @default 64 */
  readonly block?: number;
  /** What is shown of it, such as "features of". */
  readonly title: string;
  readonly progress: Progress;
  /** Aborted to stop between two blocks. */
  readonly signal?: AbortSignal | undefined;
}

/** Images that are encoded at a time, unless told. */
export const BLOCK = 64;

/** @throws UserError if features [n, d] would take more than half of the memory, and probes as much again. */
export function checkRoom(n: number, d: number): void {
  const [needed, room] = [4 * n * d, memoryBytes() / 2];
  if (needed <= room) return;
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
  const found = `${gigabytes(needed)} of ${n} images`;
  throw expected("probe", `features of at most ${gigabytes(room)}`, found, "take fewer images with --limit");
}

/** What became of the images [from, done). */
export interface FeatureBlock {
  readonly from: number;
  readonly done: number;
  /** float32 [kept.length, d]. */
  readonly data: Float32Array;
  /** Places in `sources.files` of those that were decoded. */
  readonly kept: readonly number[];
}

/**
 * The features block by block: a row for each image that can be decoded.
 * @param from images that are left out: the `done` of a block, so that blocks, and bytes, are the same
 * @throws the signal's reason once it is aborted
 */
export async function* featureBlocks(
  { files }: Pick<Sources, "files">,
  { decoded: get, encode, what = "images", block: size = BLOCK, title, progress, signal }: FeaturesOptions,
  from = 0,
): AsyncGenerator<FeatureBlock> {
  const count = files.length;
  const rate = recentRate();
  const decoded = (from: number) => {
    const places = Array.from({ length: Math.min(size, count - from) }, (_, i) => from + i);
    const block = Promise.all(
      places.map(async (index) => {
        const image = await get(index);
        return image ? [{ pixels: image.pixels, index }] : [];
      }),
    );
    block.catch(() => {}); // told to whoever awaits it, if anyone still does
    return block;
  };
  let ahead = decoded(from);
  for (let at = from; at < count; at += size) {
    const before = performance.now();
    const block = (await ahead).flat();
    const done = Math.min(at + size, count);
    if (done < count) ahead = decoded(done); // while this block is encoded
    signal?.throwIfAborted();
    const pixels = Buffer.concat(block.map((image) => image.pixels));
    const data = block.length > 0 ? await encode(pixels, block.length) : new Float32Array(0);
    rate.add(done - at, (performance.now() - before) / 1000);
    const left = duration((count - done) / rate.perSecond);
    progress.show(`${title} ${done}/${count} ${what}  ${rate.perSecond.toFixed(0)} ${what}/s  ${left} left`);
    yield { from: at, done, data, kept: block.map(({ index }) => index) };
  }
}

/** All of them in memory, and the places in `sources.files` of the images that can be decoded. */
export const featuresOf = (sources: Sources, options: FeaturesOptions) =>
  collected(sources, options.d, featureBlocks(sources, options));

/** Blocks of features of length d in memory. */
export async function collected(
  { files, labels, classes }: Sources,
  d: number,
  blocks: AsyncIterable<FeatureBlock>,
): Promise<Features & { readonly kept: readonly number[] }> {
  const data = new Float32Array(files.length * d);
  const kept: number[] = [];
  for await (const block of blocks) {
    data.set(block.data, kept.length * d);
    kept.push(...block.kept);
  }
  const n = kept.length;
  const ownLabels = Int32Array.from(labels.length ? kept : [], (i) => labels[i]!);
  return { data: data.subarray(0, n * d), n, d, labels: ownLabels, classes, kept };
}
