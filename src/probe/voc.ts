/**
 * Average precision as Pascal VOC has it (Everingham et al. 2010): a detection finds the object of its image and class that it
 * overlaps most if that is more than half of their union, each object once; what finds a difficult one counts neither for nor
 * against. A box of the devkit holds its last pixel, so that its width is xmax - xmin + 1; ours end at that pixel's edge,
 * which gives the same widths without the 1. The devkit's code takes an overlap of just a half, its text does not.
 */
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
  placesOf,
  TRUE,
} from "./detections.ts";

/** Percents; null where no object is to be found. */
export interface VocMeasures {
  /** Area below the curve of precision over recall, as from 2010 on. */
  readonly ap50: number | null;
  /** Mean precision at recalls of 0, 0.1 to 1, as until 2009. */
  readonly elevenPoint: number | null;
}

/** Means over the classes that have objects to be found. */
export interface VocScores extends VocMeasures {
  readonly classes: readonly ({ readonly class: string } & VocMeasures)[];
}

const OVERLAP = 0.5;
const ELEVEN = Array.from({ length: 11 }, (_, i) => i / 10);

export function vocScores(images: readonly Judged[], classes: readonly string[]): VocScores {
  const found = byClass(images, classes.length).map(measuresOf);
  return {
    ap50: meanOf(found.map(({ ap50 }) => ap50)),
    elevenPoint: meanOf(found.map(({ elevenPoint }) => elevenPoint)),
    classes: found.map((own, i) => ({ class: classes[i]!, ...own })),
  };
}

function measuresOf(images: readonly ClassImage[]): VocMeasures {
  const places = placesOf(images);
  const outcomes = new Uint8Array(places.length);
  images.flatMap(judge).forEach((outcome, i) => {
    outcomes[places[i]!] = outcome;
  });
  const positives = images.flatMap(({ image, truth, objects }) =>
    objects.filter((object) => !truth.ignored[object]).map(() => image),
  );
  const curve = curveOf({ images: new Int32Array(places.length), outcomes, positives }); // all images count once
  if (!curve) return { ap50: null, elevenPoint: null };
  return { ap50: 100 * areaBelow(curve), elevenPoint: 100 * meanPrecision(curve, ELEVEN) };
}

function judge({ truth, found, objects, detections }: ClassImage): number[] {
  const taken = new Set<number>();
  return detections.map((detection) => {
    let [best, match] = [OVERLAP, -1];
    for (const object of objects) {
      const common = commonArea(found.boxes, detection, truth.boxes, object);
      const total = areaOf(found.boxes, detection) + areaOf(truth.boxes, object) - common;
      if (common > 0 && common / total > best) [best, match] = [common / total, object];
    }
    if (match < 0) return FALSE;
    if (truth.ignored[match]) return LEFT_OUT;
    if (taken.has(match)) return FALSE;
    taken.add(match);
    return TRUE;
  });
}

const areaBelow = ({ recall, precision }: Curve): number =>
  recall.reduce((sum, own, i) => sum + (own - (recall[i - 1] ?? 0)) * precision[i]!, 0);
