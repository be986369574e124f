/** How well pixels were classified: intersection over union of each class, from counts of pixels. */
import { type BootstrapOptions, bootstrapOf } from "./result.ts";

/** Counts of pixels, whole numbers all. */
export interface PixelCounts {
  readonly classes: number;
  /** [classes, classes]: of a class (row) those taken for another (column). */
  readonly confusion: Float64Array;
  /** Of each image [3, classes]: of a class those that are of it, those that were taken for it, and those that were both. */
  readonly images: readonly Float64Array[];
}

export const noPixels = (images: number, classes: number): PixelCounts => ({
  classes,
  confusion: new Float64Array(classes ** 2),
  images: Array.from({ length: images }, () => new Float64Array(3 * classes)),
});

/** Adds pixels of an image, those whose own value is the place of a class. */
export function addPixels(
  { classes, confusion, images }: PixelCounts,
  image: number,
  own: Uint8Array,
  predicted: Uint8Array,
): void {
  const counts = images[image]!;
  own.forEach((truth, i) => {
    if (truth >= classes) return;
    const taken = predicted[i]!;
    confusion[truth * classes + taken]!++;
    counts[truth]!++;
    counts[classes + taken]!++;
    if (truth === taken) counts[2 * classes + truth]!++;
  });
}

/** Percents. */
export interface PixelScores {
  /** Mean of the IoU of the classes that the masks hold. */
  readonly meanIoU: number;
  /** Its 95 % interval, the images being a sample: from its bootstrap (Efron 1979), by percentiles. */
  readonly low: number;
  readonly high: number;
  /** Pixels whose class scores highest. */
  readonly pixelAccuracy: number;
  /** Of the classes that the masks hold: place, pixels, and IoU. */
  readonly classes: readonly { readonly place: number; readonly pixels: number; readonly iou: number }[];
}

export function pixelScores(counts: PixelCounts, options: BootstrapOptions = {}): PixelScores {
  const { classes, images } = counts;
  const all = sumOf(
    counts,
    Uint32Array.from(images, (_, i) => i),
  );
  const [right, pixels] = [2 * classes, 0].map((from) => {
    return all.subarray(from, from + classes).reduce((sum, count) => sum + count, 0);
  }) as [number, number];
  const [low, high] = bootstrapOf(images.length, (drawn) => meanOf(sumOf(counts, drawn), classes), options);
  return {
    ...{ meanIoU: meanOf(all, classes), low, high },
    pixelAccuracy: (100 * right) / pixels,
    classes: present(all, classes).map((place) => ({
      ...{ place, pixels: all[place]! },
      iou: iouOf(all, classes, place),
    })),
  };
}

/** The counts of some images together, [3, classes]. */
function sumOf({ classes, images }: PixelCounts, drawn: Uint32Array): Float64Array {
  const sum = new Float64Array(3 * classes);
  for (const image of drawn) {
    const own = images[image]!;
    for (let i = 0; i < sum.length; i++) sum[i]! += own[i]!;
  }
  return sum;
}

const present = (sum: Float64Array, classes: number): readonly number[] =>
  Array.from({ length: classes }, (_, place) => place).filter((place) => sum[place]! > 0);

const iouOf = (sum: Float64Array, classes: number, place: number): number => {
  const both = sum[2 * classes + place]!;
  return (100 * both) / (sum[place]! + sum[classes + place]! - both);
};

function meanOf(sum: Float64Array, classes: number): number {
  const places = present(sum, classes);
  return places.reduce((total, place) => total + iouOf(sum, classes, place), 0) / places.length;
}
