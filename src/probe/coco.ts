/** Average precision as COCO has it (Lin et al. 2014), by the rules of its pycocotools. */
import { randomFor } from "../random.ts";
import {
  areaOf,
  byClass,
  type ClassImage,
  type Curve,
  commonArea,
  curveOf,
  type Judged,
  LEFT_OUT,
  meanOf,
  meanPrecision,
  type Outcomes,
  placesOf,
  TRUE,
} from "./detections.ts";
import { type BootstrapOptions, interval } from "./result.ts";

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
  const { outcomes, best } = lookAt(images);
  const precisions = (found: readonly Outcomes[]) =>
    found.map((one) => percentOf(one, (own) => meanPrecision(own, RECALLS)));
  const inAll = outcomes("all");
  const all = precisions(inAll);
  const recall = (most: number) =>
    meanOf(inAll.map((one) => percentOf(best(one, most), ({ recall }) => recall.at(-1) ?? 0)));
  return {
    ap: meanOf(all),
    ap50: all[AT_50]!,
    ap75: all[AT_75]!,
    apSmall: meanOf(precisions(outcomes("small"))),
    apMedium: meanOf(precisions(outcomes("medium"))),
    apLarge: meanOf(precisions(outcomes("large"))),
    ar1: recall(1),
    ar10: recall(10),
    ar100: recall(MOST),
  };
}

function percentOf(
  outcomes: Outcomes,
  measure: (curve: Curve) => number,
  weights?: ArrayLike<number>,
): number | null {
  const curve = curveOf(outcomes, weights);
  return curve ? 100 * measure(curve) : null;
}

/** What becomes of a class's best detections of each image. */
function lookAt(all: readonly ClassImage[]) {
  const images = all.map((one) => ({ ...one, detections: one.detections.slice(0, MOST) }));
  const overlaps = images.map(overlapsOf);
  const places = placesOf(images);
  const [of, ranks] = [new Int32Array(places.length), new Uint8Array(places.length)];
  let next = 0;
  for (const { image, detections } of images)
    for (let rank = 0; rank < detections.length; rank++) {
      of[places[next]!] = image;
      ranks[places[next++]!] = rank;
    }
  return {
    /** In a range of areas, for each overlap. */
    outcomes(area: Area): readonly Outcomes[] {
      const all = OVERLAPS.map(() => new Uint8Array(places.length)); // FALSE, until told
      const positives: number[] = [];
      let at = 0;
      images.forEach((one, i) => {
        const leftOut = one.objects.map((object) => isLeftOut(one, object, AREAS[area]));
        for (const out of leftOut) if (!out) positives.push(one.image);
        const own = places.subarray(at, at + one.detections.length);
        judge(one, leftOut, overlaps[i]!, AREAS[area], (row, overlap, outcome) => {
          all[overlap]![own[row]!] = outcome;
        });
        at += own.length;
      });
      return all.map((outcomes) => ({ images: of, outcomes, positives }));
    },
    /** The same with the `most` best detections of each image alone. */
    best: (found: Outcomes, most: number): Outcomes => ({
      ...found,
      outcomes: found.outcomes.map((outcome, i) => (ranks[i]! < most ? outcome : LEFT_OUT)),
    }),
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
 * rather than one that is left out, of equal overlaps the last. Tells each outcome but `FALSE`.
 */
function judge(
  { truth, found, objects, detections }: ClassImage,
  leftOut: readonly boolean[],
  overlaps: Float64Array,
  [low, high]: readonly [number, number],
  tell: (row: number, overlap: number, outcome: number) => void,
): void {
  const columns = [...objects.keys()].sort((a, b) => Number(leftOut[a]) - Number(leftOut[b]));
  const taken = OVERLAPS.map(() => new Uint8Array(objects.length));
  detections.forEach((detection, row) => {
    const own = areaOf(found.boxes, detection);
    const outside = own < low || own > high;
    OVERLAPS.forEach((least, at) => {
      let best = Math.min(least, 1 - 1e-10);
      let match = -1;
      for (const column of columns) {
        if (taken[at]![column] && !truth.ignored[objects[column]!]) continue;
        if (match >= 0 && !leftOut[match] && leftOut[column]) break;
        const overlap = overlaps[row * objects.length + column]!;
        if (overlap < best) continue;
        best = overlap;
        match = column;
      }
      if (match >= 0) {
        taken[at]![match] = 1;
        tell(row, at, leftOut[match] ? LEFT_OUT : TRUE);
      } else if (outside) tell(row, at, LEFT_OUT);
    });
  });
}

/** The 2.5th and the 97.5th percentile of AP50 over resamples of the images; null where no object is to be found. */
export function ap50Interval(
  images: readonly Judged[],
  classes: number,
  { resamples = 1000, seed = 0 }: BootstrapOptions = {},
): readonly [low: number, high: number] | null {
  const looked = byClass(images, classes).map((own) => {
    const found = lookAt(own).outcomes("all")[AT_50]!;
    return (weights: ArrayLike<number>) => percentOf(found, (of) => meanPrecision(of, RECALLS), weights);
  });
  const random = randomFor(seed, "bootstrap");
  const found = Array.from({ length: resamples }, () => {
    const weights = new Uint32Array(images.length);
    for (let i = 0; i < images.length; i++) weights[random.integer(images.length)]!++;
    return meanOf(looked.map((precision) => precision(weights)));
  }).filter((percent) => percent !== null);
  if (found.length === 0) return null;
  return interval(Float64Array.from(found));
}
