/** Figures of an encoder held to those of a baseline, each in the direction that is better. */
import { leastDrop, type McNemar, mcnemar } from "./mcnemar.ts";
import type { Spread, TestImage } from "./result.ts";

/** A figure beside its baseline. */
export interface Check {
  /** Such as "knn top-1". */
  readonly name: string;
  /** Empty of a figure without a unit. */
  readonly unit: "%" | "s" | "bytes" | "";
  /** Undefined where neither is, of a figure that is shown alone. */
  readonly better?: "higher" | "lower";
  readonly baseline: number;
  readonly now: number;
  /** The worst value that passes; undefined where none was asked for. */
  readonly limit?: number;
  readonly verdict: "passed" | "failed" | "skipped";
  /** Why it was skipped. */
  readonly reason?: string;
  /** What helps to read the figure. */
  readonly note?: string;
}

/** Top-1, in percent. */
export interface AccuracyCheck extends Check {
  readonly limit: number;
  /** Undefined if the baseline does not tell which images were right. */
  readonly paired?: McNemar;
  /** Images that were right before and are wrong now, `EXAMPLES` at most, from all over the test set. */
  readonly lost: readonly TestImage[];
  readonly power: Power;
  /** Where trainings with other seeds were probed too. */
  readonly pretraining?: Pretraining;
}

/** How far trainings of the same configuration lie apart. */
export interface Pretraining {
  readonly before?: Spread;
  readonly now?: Spread;
  /** Standard deviations of those before by which it fell; less than 0 where it rose. */
  readonly fall?: number;
}

/** What a test set can show. */
export interface Power {
  /** Test images. */
  readonly images: number;
  /** Percent of them that are right with one of two encoders alone. */
  readonly changed: number;
  /** Whether that is an assumption: as many as with encoders whose mistakes are independent. */
  readonly assumed: boolean;
  /** The least drop that is shown, see `leastDrop`, in points; undefined if the images are too few for any. */
  readonly leastDrop?: number;
}

/** Lost images that are named. */
export const EXAMPLES = 10;

export interface AccuracyOptions {
  readonly name: string;
  readonly before: {
    /** Top-1 in percent; of several seeds their mean. */
    readonly top1: number;
    /** The standard deviation of the seeds, points; 0 for one. */
    readonly std: number;
    /** Which test images were right, if that is known. */
    readonly right: readonly boolean[] | undefined;
    /** Over trainings with other seeds, if there were any. */
    readonly spread?: Spread | undefined;
  };
  readonly now: {
    readonly top1: number;
    readonly images: readonly TestImage[];
    readonly spread?: Spread | undefined;
  };
  /** Points that it may fall. */
  readonly tolerance: number;
}

/** Standard deviations of the baseline's seeds that are no fall: 95 % of single trainings lie within. */
const SPREAD = 1.96;
/** Points: what rounding makes of equal figures. */
const ROUNDING = 1e-9;

/** Fails if the accuracy fell by more than the tolerance and the spread of the baseline's seeds. */
export function checkAccuracy({ name, before, now, tolerance }: AccuracyOptions): AccuracyCheck {
  const limit = before.top1 - tolerance - SPREAD * before.std;
  const { images } = now;
  const { right } = before;
  const paired =
    right &&
    mcnemar(
      right,
      images.map((image) => image.right),
    );
  const lost = images.filter((image, i) => right?.[i] && !image.right);
  return {
    name,
    unit: "%",
    better: "higher",
    baseline: before.top1,
    now: now.top1,
    limit,
    verdict: now.top1 < limit - ROUNDING ? "failed" : "passed",
    ...(paired && { paired }),
    lost: spreadOver(lost, EXAMPLES),
    power: powerOf(images, paired),
    ...((before.spread || now.spread) && { pretraining: pretrainingOf(before, now) }),
  };
}

/** Told beside a fall: whether it fails is for the tolerance. */
function pretrainingOf(
  { top1, spread }: AccuracyOptions["before"],
  now: AccuracyOptions["now"],
): Pretraining {
  return {
    ...(spread && { before: spread }),
    ...(now.spread && { now: now.spread }),
    ...(spread && spread.std > 0 && { fall: (top1 - now.top1) / spread.std }),
  };
}

/** The power of a test set: by the images that changed, or, if none did, by an assumption. */
export function powerOf(images: readonly TestImage[], paired?: McNemar): Power {
  const n = images.length;
  const seen = paired ? (paired.lost + paired.won) / n : 0;
  const wrong = images.filter(({ right }) => !right).length / n;
  const changed = seen || 2 * wrong * (1 - wrong);
  const drop = leastDrop(n, changed);
  return {
    images: n,
    changed: 100 * changed,
    assumed: seen === 0,
    ...(drop !== undefined && { leastDrop: 100 * drop }),
  };
}

/** `count` of the items or all, as far apart as can be. */
function spreadOver<T>(items: readonly T[], count: number): readonly T[] {
  if (items.length <= count) return items;
  return Array.from({ length: count }, (_, i) => items[Math.floor((i * items.length) / count)]!);
}

/** Fails if a figure of which less is better is more than `ratio` times the baseline's. */
export function checkCost(
  { name, unit, baseline, now }: Pick<Check, "name" | "unit" | "baseline" | "now">,
  ratio: number | undefined,
): Check {
  const check = { name, unit, better: "lower", baseline, now } as const;
  if (ratio === undefined) return { ...check, verdict: "passed" };
  const limit = ratio * baseline;
  return { ...check, limit, verdict: now > limit ? "failed" : "passed" };
}

/** Fails if a figure of which more is better is below the limit. */
export function checkLeast(
  figure: Pick<Check, "name" | "unit" | "baseline" | "now">,
  limit: number | undefined,
): Check {
  const check = { ...figure, better: "higher" } as const;
  if (limit === undefined) return { ...check, verdict: "passed" };
  return { ...check, limit, verdict: figure.now < limit ? "failed" : "passed" };
}

/** A bit for each, the first in the lowest bit of the first byte, in base64. */
export function packBits(bits: readonly boolean[]): string {
  const bytes = Buffer.alloc(Math.ceil(bits.length / 8));
  for (const [i, bit] of bits.entries()) if (bit) bytes[i >> 3]! |= 1 << (i & 7);
  return bytes.toString("base64");
}

/** n bits; undefined if `text` holds another number of bytes. */
export function unpackBits(text: string, n: number): readonly boolean[] | undefined {
  const bytes = Buffer.from(text, "base64");
  if (bytes.length !== Math.ceil(n / 8)) return undefined;
  return Array.from({ length: n }, (_, i) => (bytes[i >> 3]! & (1 << (i & 7))) !== 0);
}
