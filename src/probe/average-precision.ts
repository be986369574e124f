/** Average precision as COCO has it (Lin et al. 2014), by the rules of its pycocotools. */
import { randomFor } from "../random.ts";
import {
  areaOf,
  byClass,
  type ClassImage,
  type Curve,
  commonArea,
  curveOf,
  FALSE,
  type Judged,
  LEFT_OUT,
  meanOf,
  meanPrecision,
  type Outcomes,
  ranked,
  TRUE,
} from "./detections.ts";
import { type BootstrapOptions, quantile } from "./result.ts";

/** Percents; null where no object is to be found. */
export interface CocoMeasures {
  /** Average precision: mean over intersections over union of 0.5, 0.55 to 0.95. */
  readonly ap: number | null;
  readonly ap50: number | null;
  readonly ap75: number | null;
  /** Of objects below 32 x 32 pixels, between, and above 96 x 96; an area of just 32 x 32 or 96 x 96 is of both. */
  readonly apSmall: number | null;
  readonly apMedium: number | null;
  readonly apLarge: number | null;
  /** Share of the objects that 1, 10 and 100 detections of a class in an image find, mean over the same overlaps. */
  readonly ar1: number | null;
  readonly ar10: number | null;
  readonly ar100: number | null;
}

/** Means over the classes that have objects to be found. */
export interface CocoScores extends CocoMeasures {
  readonly classes: readonly ({ readonly class: string } & CocoMeasures)[];
}

/** `count` values from `first` to `last`, as NumPy's linspace rounds them. */
const evenly = (first: number, last: number, count: number): readonly number[] => {
  const step = (last - first) / (count - 1);
  return Array.from({ length: count }, (_, i) => (i === count - 1 ? last : i * step + first));
};

const OVERLAPS = evenly(0.5, 0.95, 10);
const [AT_50, AT_75] = [0, 5];
const RECALLS = evenly(0, 1, 101);
/** Square pixels, both ends included. */
const AREAS = {
  all: [0, 1e10],
  small: [0, 32 ** 2],
  medium: [32 ** 2, 96 ** 2],
  large: [96 ** 2, 1e10],
} as const;
type Area = keyof typeof AREAS;
/** Detections of a class in an image that are looked at. */
const MOST = 100;

/**
 * Judges detections in images, each by itself. An ignored object is taken as a crowd: any number of detections may lie in it,
 * by their own area rather than the union, and count neither for nor against.
 */
export function cocoScores(images: readonly Judged[], classes: readonly string[]): CocoScores {
  const found = byClass(images, classes.length).map(measuresOf);
  const mean = (name: keyof CocoMeasures) => meanOf(found.map((own) => own[name]));
  return {
    ap: mean("ap"),
    ap50: mean("ap50"),
    ap75: mean("ap75"),
    apSmall: mean("apSmall"),
    apMedium: mean("apMedium"),
    apLarge: mean("apLarge"),
    ar1: mean("ar1"),
    ar10: mean("ar10"),
    ar100: mean("ar100"),
    classes: found.map((own, i) => ({ class: classes[i]!, ...own })),
  };
}

function measuresOf(images: readonly ClassImage[]): CocoMeasures {
  const { outcomes, curve } = lookAt(images);
  const precisions = (area: Area) =>
    OVERLAPS.map((overlap) =>
      percentOf(curve(outcomes(area, overlap)), (own) => meanPrecision(own, RECALLS)),
    );
  const all = precisions("all");
  const inAll = OVERLAPS.map((overlap) => outcomes("all", overlap));
  const recall = (most: number) =>
    meanOf(inAll.map((own) => percentOf(curve(own, most), ({ recall }) => recall.at(-1) ?? 0)));
  return {
    ap: meanOf(all),
    ap50: all[AT_50]!,
    ap75: all[AT_75]!,
    apSmall: meanOf(precisions("small")),
    apMedium: meanOf(precisions("medium")),
    apLarge: meanOf(precisions("large")),
    ar1: recall(1),
    ar10: recall(10),
    ar100: recall(MOST),
  };
}

const percentOf = (curve: Curve | undefined, measure: (curve: Curve) => number): number | null =>
  curve ? 100 * measure(curve) : null;

/** What becomes of a class's best detections of each image, and their curve if there is anything to be found. */
function lookAt(all: readonly ClassImage[]) {
  const images = all.map((one) => ({ ...one, detections: one.detections.slice(0, MOST) }));
  const overlaps = images.map(overlapsOf);
  const flat = <T>(pick: (one: ClassImage, detection: number, rank: number) => T): T[] =>
    images.flatMap((one) => one.detections.map((detection, rank) => pick(one, detection, rank)));
  const of = flat(({ image }) => image);
  const ranks = flat((_, __, rank) => rank);
  const order = ranked(flat(({ found }, detection) => found.scores[detection]!));
  return {
    outcomes: (area: Area, overlap: number): Outcomes => ({
      images: of,
      outcomes: images.flatMap((one, i) => judge(one, overlaps[i]!, AREAS[area], overlap)),
      positives: images.flatMap((one) =>
        one.objects.filter((object) => !isLeftOut(one, object, AREAS[area])).map(() => one.image),
      ),
    }),
    curve(outcomes: Outcomes, most = MOST, weights?: ArrayLike<number>): Curve | undefined {
      const looked = most < MOST ? order.filter((i) => ranks[i]! < most) : order;
      return curveOf(outcomes, looked, weights);
    },
  };
}

/** Intersection over union of each detection with each object, [detections, objects]; with a crowd, over the detection. */
function overlapsOf({ truth, found, objects, detections }: ClassImage): Float64Array {
  const overlaps = new Float64Array(detections.length * objects.length);
  const areas = objects.map((object) => areaOf(truth.boxes, object));
  detections.forEach((detection, row) => {
    const own = areaOf(found.boxes, detection);
    objects.forEach((object, column) => {
      const common = commonArea(found.boxes, detection, truth.boxes, object);
      if (common === 0) return;
      const total = truth.ignored[object] ? own : own + areas[column]! - common;
      overlaps[row * objects.length + column] = common / total;
    });
  });
  return overlaps;
}

/** Whether an object is none to be found: ignored, or of another size. */
function isLeftOut({ truth }: ClassImage, object: number, [low, high]: readonly [number, number]): boolean {
  const area = truth.areas?.[object] ?? areaOf(truth.boxes, object);
  return Boolean(truth.ignored[object]) || area < low || area > high;
}

/**
 * Each detection, best first, takes the object that it overlaps most among those that are free: one that is to be found
 * rather than one that is left out, of equal overlaps the last.
 */
function judge(
  one: ClassImage,
  overlaps: Float64Array,
  area: readonly [number, number],
  least: number,
): number[] {
  const { truth, found, objects, detections } = one;
  const leftOut = objects.map((object) => isLeftOut(one, object, area));
  const columns = [...objects.keys()].sort((a, b) => Number(leftOut[a]) - Number(leftOut[b]));
  const taken = new Uint8Array(objects.length);
  return detections.map((detection, row) => {
    let best = Math.min(least, 1 - 1e-10);
    let match = -1;
    for (const column of columns) {
      if (taken[column] && !truth.ignored[objects[column]!]) continue;
      if (match >= 0 && !leftOut[match] && leftOut[column]) break;
      const overlap = overlaps[row * objects.length + column]!;
      if (overlap < best) continue;
      best = overlap;
      match = column;
    }
    if (match >= 0) {
      taken[match] = 1;
      return leftOut[match] ? LEFT_OUT : TRUE;
    }
    const own = areaOf(found.boxes, detection);
    return own < area[0] || own > area[1] ? LEFT_OUT : FALSE;
  });
}

/** The 2.5th and the 97.5th percentile of AP50 over resamples of the images; null where no object is to be found. */
export function ap50Interval(
  images: readonly Judged[],
  classes: number,
  { resamples = 1000, seed = 0 }: BootstrapOptions = {},
): readonly [low: number, high: number] | null {
  const looked = byClass(images, classes).map((own) => {
    const { outcomes, curve } = lookAt(own);
    const found = outcomes("all", OVERLAPS[AT_50]!);
    return (weights: ArrayLike<number>) =>
      percentOf(curve(found, MOST, weights), (of) => meanPrecision(of, RECALLS));
  });
  const random = randomFor(seed, "bootstrap");
  const found = Array.from({ length: resamples }, () => {
    const weights = new Uint32Array(images.length);
    for (let i = 0; i < images.length; i++) weights[random.integer(images.length)]!++;
    return meanOf(looked.map((precision) => precision(weights)));
  }).filter((percent) => percent !== null);
  if (found.length === 0) return null;
  const sorted = Float64Array.from(found).sort();
  return [quantile(sorted, 0.025), quantile(sorted, 0.975)];
}
