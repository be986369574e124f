/** What a probe found: its accuracies, how sure they are, and what became of each test image. */
import { expected } from "../errors.ts";
import { randomFor } from "../random.ts";

/** For each test image the classes that score highest. */
export interface Ranking {
  /** [n, width]: places in the training set's classes, best first; -1 where no further class has a score. */
  readonly places: Int32Array;
  /** At most `RANKED`. */
  readonly width: number;
}

/** Classes that are ranked: top-5 needs no more. */
export const RANKED = 5;

export interface TestImage {
  /** Relative to the test folder. */
  readonly file: string;
  readonly class: string;
  readonly predicted: string;
  readonly right: boolean;
}

/** Percents of the test images. */
export interface Scores {
  /** Those whose class scores highest. */
  readonly top1: number;
  /** 95 % interval of top-1, the test images being a sample: from its bootstrap (Efron 1979), by percentiles. */
  readonly low: number;
  readonly high: number;
  /** Those whose class is among the five that score highest; of a kNN, among those that got a vote. */
  readonly top5: number;
  /** Top-1 of the images of each class that the test set has, in the order of the training set's classes. */
  readonly classes: readonly ClassScore[];
  /** Every test image, in order. */
  readonly images: readonly TestImage[];
}

export interface ClassScore {
  readonly class: string;
  /** Test images. */
  readonly images: number;
  readonly top1: number;
}

/** What was tested. */
export interface Tested {
  /** [n], relative to the test folder. */
  readonly files: readonly string[];
  /** [n]: places in `classes`. */
  readonly labels: Int32Array;
  /** Of the training set. */
  readonly classes: readonly string[];
}

export interface BootstrapOptions {
  /** @default 1000 */
  readonly resamples?: number | undefined;
  /** @default 0 */
  readonly seed?: number | undefined;
}

export function scoresOf(
  { places, width }: Ranking,
  { files, labels, classes }: Tested,
  options: BootstrapOptions = {},
): Scores {
  const images = files.map((file, i) => {
    const [label, predicted] = [labels[i]!, places[i * width]!];
    return { file, class: classes[label]!, predicted: classes[predicted]!, right: predicted === label };
  });
  const right = images.map((image) => image.right);
  const among = labels.filter((label, i) => places.subarray(i * width, (i + 1) * width).includes(label));
  const [low, high] = bootstrapInterval(right, options);
  return {
    top1: percent(right),
    low,
    high,
    top5: (100 * among.length) / labels.length,
    classes: classes.flatMap((name, place) => {
      const own = right.filter((_, i) => labels[i] === place);
      return own.length > 0 ? [{ class: name, images: own.length, top1: percent(own) }] : [];
    }),
    images,
  };
}

const percent = (right: readonly boolean[]): number => (100 * right.filter(Boolean).length) / right.length;

/** The 2.5th and the 97.5th percentile of the percent that is right, over resamples of the images. */
export const bootstrapInterval = (
  right: readonly boolean[],
  options: BootstrapOptions = {},
): [low: number, high: number] =>
  bootstrapOf(
    right.length,
    (drawn) => {
      let hits = 0;
      for (const image of drawn) if (right[image]) hits++;
      return (100 * hits) / right.length;
    },
    options,
  );

/** The same of any figure of n images, by the places that are drawn of them, as many, some twice. */
export function bootstrapOf(
  n: number,
  figure: (drawn: Uint32Array) => number,
  { resamples = 1000, seed = 0 }: BootstrapOptions = {},
): [low: number, high: number] {
  if (!Number.isInteger(resamples) || resamples < 1)
    throw expected("resamples", "a whole number of 1 or more", `${resamples}`);
  const random = randomFor(seed, "bootstrap");
  const figures = new Float64Array(resamples);
  const drawn = new Uint32Array(n);
  for (let r = 0; r < resamples; r++) {
    for (let i = 0; i < n; i++) drawn[i] = random.integer(n);
    figures[r] = figure(drawn);
  }
  return interval(figures);
}

/** The 2.5th and the 97.5th percentile of values, which are sorted in place. */
export function interval(values: Float64Array): [low: number, high: number] {
  values.sort();
  return [quantile(values, 0.025), quantile(values, 0.975)];
}

/** Of sorted values, linear between them. */
export function quantile(sorted: Float64Array, share: number): number {
  const at = share * (sorted.length - 1);
  const below = Math.floor(at);
  const above = sorted[Math.min(below + 1, sorted.length - 1)]!;
  return sorted[below]! + (at - below) * (above - sorted[below]!);
}

/** How far figures of several seeds lie apart. */
export interface Spread {
  /** Two or more. */
  readonly values: readonly number[];
  readonly mean: number;
  /** Standard deviation (n - 1). */
  readonly std: number;
  readonly least: number;
  readonly greatest: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  const std = Math.sqrt(squares / (values.length - 1));
  return { values, mean, std, least: Math.min(...values), greatest: Math.max(...values) };
}

/** Counts of test images as CSV: rows are the classes that they are of, columns those that they were taken for. */
export function confusionCsv(images: readonly TestImage[]): string {
  const names = [...new Set(images.flatMap((image) => [image.class, image.predicted]))].sort();
  const column = new Map(names.map((name, place) => [name, place]));
  const counts = names.map(() => new Int32Array(names.length));
  for (const image of images) counts[column.get(image.class)!]![column.get(image.predicted)!]!++;
  return countsCsv(names, counts);
}

/** A table of counts, [names, names], as CSV. */
export function countsCsv(names: readonly string[], counts: readonly ArrayLike<number>[]): string {
  const rows = names.map((name, i) => [cell(name), ...Array.from(counts[i]!)].join(","));
  return `${[["class", ...names.map(cell)].join(","), ...rows].join("\n")}\n`;
}

/** Quoted where a reader of CSV (RFC 4180) would otherwise take its name apart. */
const cell = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
