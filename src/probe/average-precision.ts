/** Average precision: how far the images of a class score above the others, where classes are independent. */
import { randomFor } from "../random.ts";
import { type BootstrapOptions, interval } from "./result.ts";

/** Percents of the test images of a classifier whose classes are independent. */
export interface PrecisionScores {
  /** Mean average precision (mAP), over the classes that an image is of. */
  readonly mean: number;
  /** 95 % interval of the mean, the test images being a sample: from its bootstrap, by percentiles. */
  readonly low: number;
  readonly high: number;
  /** Of each class that an image is of, in the order of the training set's classes. */
  readonly classes: readonly ClassPrecision[];
  /** Test images. */
  readonly images: number;
}

export interface ClassPrecision {
  readonly class: string;
  /** Test images of it. */
  readonly images: number;
  readonly averagePrecision: number;
}

/** Scores of independent classes. */
export interface Scored {
  /** float32 [n, classes.length]. */
  readonly data: Float32Array;
  readonly n: number;
  readonly classes: readonly string[];
  /** [n]: places of each row's classes. */
  readonly sets: readonly (readonly number[])[];
}

/** The mean average precision, percent; undefined where no row is of a class. */
export const meanAveragePrecision = (scored: Scored): number | undefined => meanOf(ranksOf(scored));

/** @throws Error where no row is of a class */
export function precisionScores(scored: Scored, options: BootstrapOptions = {}): PrecisionScores {
  const ranks = ranksOf(scored);
  const mean = meanOf(ranks);
  if (mean === undefined) throw new Error("average precision of no class");
  const [low, high] = bootstrap(ranks, scored.n, options);
  return {
    mean,
    low,
    high,
    classes: scored.classes.flatMap((name, place) => {
      const own = averagePrecision(ranks[place]!);
      const images = scored.sets.filter((set) => set.includes(place)).length;
      return own === undefined ? [] : [{ class: name, images, averagePrecision: own }];
    }),
    images: scored.n,
  };
}

/** The rows by their scores for a class, greatest first. */
interface Ranks {
  readonly rows: Uint32Array;
  /** Whether each of these is of the class. */
  readonly isOf: Uint8Array;
  /** Whether the next one's score is another. */
  readonly ends: Uint8Array;
}

function ranksOf({ data, n, classes, sets }: Scored): readonly Ranks[] {
  const d = classes.length;
  const own = sets.map((set) => new Set(set));
  return classes.map((_, place) => {
    const score = (row: number) => data[row * d + place]!;
    const rows = Uint32Array.from({ length: n }, (_, row) => row).sort((a, b) => score(b) - score(a));
    return {
      rows,
      isOf: Uint8Array.from(rows, (row) => Number(own[row]!.has(place))),
      ends: Uint8Array.from(rows, (row, i) => Number(i + 1 === n || score(rows[i + 1]!) !== score(row))),
    };
  });
}

/**
 * The mean over a class's images of the precision among all that score as high or higher, percent: the area below the curve
 * of precision over recall, by steps. Equal scores have one rank (as scikit-learn's average_precision_score has it). `counts`:
 * how often each row counts, once by default. Undefined where the class has no image.
 */
function averagePrecision({ rows, isOf, ends }: Ranks, counts?: Uint32Array): number | undefined {
  let [seen, hits, hitsBefore, sum] = [0, 0, 0, 0];
  for (let i = 0; i < rows.length; i++) {
    const times = counts ? counts[rows[i]!]! : 1;
    seen += times;
    if (isOf[i]) hits += times;
    if (!ends[i] || hits === hitsBefore) continue;
    sum += (hits - hitsBefore) * (hits / seen);
    hitsBefore = hits;
  }
  return hits === 0 ? undefined : (100 * sum) / hits;
}

function meanOf(ranks: readonly Ranks[], counts?: Uint32Array): number | undefined {
  const known = ranks.flatMap((own) => averagePrecision(own, counts) ?? []);
  return known.length === 0 ? undefined : known.reduce((sum, x) => sum + x, 0) / known.length;
}

/** Rows of all classes and resamples that are looked at, which takes ten seconds or so; of more fewer resamples are drawn. */
const MOST_LOOKED_AT = 4e9;

/** Over resamples of the rows; one that has no image of any class counts for nothing. */
function bootstrap(
  ranks: readonly Ranks[],
  n: number,
  { resamples = 1000, seed = 0 }: BootstrapOptions,
): [low: number, high: number] {
  const random = randomFor(seed, "bootstrap");
  const count = Math.min(resamples, Math.max(100, Math.floor(MOST_LOOKED_AT / (n * ranks.length))));
  const means = Array.from({ length: count }, () => {
    const counts = new Uint32Array(n);
    for (let i = 0; i < n; i++) counts[random.integer(n)]!++;
    return meanOf(ranks, counts) ?? [];
  });
  return interval(Float64Array.from(means.flat()));
}
