/** How well a linear classifier of an encoder's feature maps tells the pixels of images apart. */
import { writeFileAtomic } from "../files/atomic.ts";
import { addPixels, noPixels, type PixelCounts, pixelScores } from "../probe/iou.ts";
import { countsCsv } from "../probe/result.ts";
import {
  type OpenedSegmenter,
  openSegmenter,
  type Segmenter,
  trainSegmenter,
} from "../probe/segmentation.ts";
import type { SegmentationShown } from "../report/segmentation.ts";
import { openProgress } from "../train/progress.ts";
import { type EncoderOptions, noneDecoded } from "./encoder.ts";
import { checkRoom, collected } from "./features.ts";
import { openMap } from "./layers.ts";
import { type Named, openPictures, type Take } from "./segmentation-pictures.ts";
import { classesOf, findSets, gridOf, lengthOf, type OpenedSet, openSet } from "./segmentation-sets.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

export interface SegmentationOptions extends EncoderOptions {
  /** A run's folder, or a third-party model. */
  readonly encoder: string;
  /** Folder with `images/` and `masks/`, see `findMasked`, to train on. */
  readonly data: string;
  /** The same, to test on. @default a fifth of the images of `data`, drawn, which are then not trained on */
  readonly test?: string | undefined;
  /** A stage's name; of a third-party model, a value's. @default the last before the features; such a model's output */
  readonly stage?: string | undefined;
  /** Takes a fixed sample of this many images of each folder. */
  readonly limit?: number | undefined;
  /** The values of black and white, in files whose values are not of 8 bits. @default what the encoder was trained with */
  readonly range?: readonly [black: number, white: number] | undefined;
  /** Of the samples, of training and of the bootstrap. @default 0 */
  readonly seed?: number | undefined;
  /** Passes over the training images. @default 100, or as many as make 1,000 steps of 16 squares */
  readonly epochs?: number | undefined;
  /** Resamples of the test images that the interval is read from. @default 1000 */
  readonly resamples?: number | undefined;
}

export interface SegmentationResult {
  readonly kind: "segmentation";
  /** Percent: mean of the IoU of the classes that the test masks hold. */
  readonly meanIoU: number;
  /** Its 95 % interval, see `pixelScores`. */
  readonly low: number;
  readonly high: number;
  /** Percent of the pixels of all test images. */
  readonly pixelAccuracy: number;
  /** Those that the test masks hold, in the order of their indices. */
  readonly classes: readonly PixelClass[];
  /** Images. */
  readonly train: number;
  readonly test: number;
  /** The map's name, its height and width, and its channels. */
  readonly stage: string;
  readonly grid: number;
  readonly features: number;
  readonly epochs: number;
  /** Of all classes: how many pixels of each (row) were taken for which (column). */
  readonly confusion: { readonly names: readonly string[]; readonly counts: readonly (readonly number[])[] };
  /** Some test images with their masks. */
  readonly pictures: SegmentationShown;
}

export interface PixelClass {
  readonly class: string;
  /** Of the test masks. */
  readonly pixels: number;
  /** Intersection over union, percent. */
  readonly iou: number;
}

/** @throws UserError on images without masks (see `findMasked`), masks of one class, or an encoder without maps. */
export async function segmentation(
  { encoder: path, stage, epochs, resamples, ...options }: SegmentationOptions,
  surroundings: Surroundings = {},
): Promise<SegmentationResult> {
  const { seed = 0, threads, provider, device, cudaLibraries, model } = options;
  const sets = await findSets(options, seed);
  const { names, placeOf } = classesOf(sets);
  const encoder = await openMap(
    path,
    { threads, provider, device, cudaLibraries, model, stage },
    surroundings,
  );
  try {
    const [train, test] = [sets.train, sets.test].map((set) =>
      openSet(set, encoder, placeOf, surroundings),
    ) as [OpenedSet, OpenedSet];
    const { segmenter, images } = await trained(train, { names, epochs, seed, threads }, surroundings);
    const shown = openPictures(sets.test, seed, names);
    const opened = await openSegmenter(segmenter, threads);
    const counts = await counted(test, opened, names.length, shown.take).finally(opened.close);
    const { classes, ...scores } = pixelScores(counts, { seed, resamples });
    const ofClass = ({ place, pixels, iou }: (typeof classes)[number]) => {
      return { class: names[place]!.name, pixels, iou };
    };
    const rows = names.map((_, own) =>
      Array.from(counts.confusion.subarray(own * names.length, (own + 1) * names.length)),
    );
    const { name, channels } = encoder.layers[0]!;
    return {
      ...{ kind: "segmentation", ...scores, classes: classes.map(ofClass) },
      ...{ train: images, test: counts.images.length },
      ...{ stage: name, grid: gridOf(encoder.layers[0]!), features: channels, epochs: segmenter.epochs },
      confusion: { names: names.map((one) => one.name), counts: rows },
      pictures: await shown.pictures(),
    };
  } finally {
    await encoder.close();
  }
}

/** A result without what is large: what is printed. */
export function segmentationSummary({ confusion: _, pictures: __, ...summary }: SegmentationResult) {
  return summary;
}

/** Writes how many pixels of each class (rows) were taken for each (columns), as .csv. */
export async function writePixelConfusion(file: string, { confusion }: SegmentationResult): Promise<void> {
  await writeFileAtomic(file, countsCsv(confusion.names, confusion.counts));
}

interface Training {
  readonly names: readonly Named[];
  readonly epochs: number | undefined;
  readonly seed: number;
  readonly threads: number | undefined;
}

/** A classifier trained on all squares of a set, whose maps are held in memory, and of how many images these are. */
async function trained(
  { masked: { sources }, squares, layer, size, blocks, maskOf }: OpenedSet,
  { names, ...settings }: Training,
  { output = QUIET, signal }: Surroundings,
): Promise<{ segmenter: Segmenter; images: number }> {
  const d = lengthOf(layer);
  checkRoom(squares.length, d + size ** 2 / 4);
  const files = squares.map(({ image }) => sources.files[image]!);
  const { data, n, kept } = await collected({ ...sources, files }, d, blocks());
  if (n === 0) throw noneDecoded(sources);
  const masks = new Uint8Array(n * size ** 2);
  for (const [row, i] of kept.entries()) masks.set(await maskOf(squares[i]!, size), row * size ** 2);
  const progress = openProgress(output);
  const onEpoch = (epoch: number, epochs: number) => {
    signal?.throwIfAborted();
    progress.show(`training the classifier: epoch ${epoch + 1} of ${epochs}`);
  };
  const maps = { data, n, channels: layer.channels, grid: gridOf(layer) };
  const how = { ...settings, classes: names.length, size, onEpoch };
  const segmenter = await trainSegmenter(maps, masks, how).finally(() => progress.end());
  return { segmenter, images: new Set(kept.map((i) => squares[i]!.image)).size };
}

/** Counts over the images that could be decoded. */
async function counted(
  { masked: { sources, masks }, squares, layer, blocks, maskOf }: OpenedSet,
  segmenter: OpenedSegmenter,
  classes: number,
  take: Take,
): Promise<PixelCounts> {
  const d = lengthOf(layer);
  const counts = noPixels(masks.length, classes);
  const decoded = new Set<number>();
  for await (const { data, kept } of blocks()) {
    for (const [row, i] of kept.entries()) {
      const square = squares[i]!;
      const side = square.box.width;
      const predicted = await segmenter.predict(data.slice(row * d, (row + 1) * d), side);
      const own = await maskOf(square, side);
      addPixels(counts, square.image, own, predicted);
      take(square, own, predicted);
      decoded.add(square.image);
    }
  }
  if (decoded.size === 0) throw noneDecoded(sources);
  return { ...counts, images: counts.images.filter((_, image) => decoded.has(image)) };
}
