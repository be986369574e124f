/** Objects found in images against those that are there: what their measures share. */

/** The objects of an image. */
export interface Truth {
  /** [k, 4]: left, top, right and bottom, pixels of the image; the last pixel's outer edges, so that a width is right - left. */
  readonly boxes: ArrayLike<number>;
  /** [k]: places among the classes. */
  readonly classes: ArrayLike<number>;
  /** [k]: 1 for a crowd or a difficult object, whose finding counts neither for nor against. */
  readonly ignored: ArrayLike<number>;
  /** [k], square pixels: of the object rather than its box, where that is known. @default those of the boxes */
  readonly areas?: ArrayLike<number> | undefined;
}

/** What was found in it, in any order. */
export interface Found {
  /** [k, 4], as of a truth. */
  readonly boxes: ArrayLike<number>;
  readonly scores: ArrayLike<number>;
  readonly classes: ArrayLike<number>;
}

export interface Judged {
  readonly truth: Truth;
  readonly found: Found;
}

/** An image as one class sees it. */
export interface ClassImage {
  readonly image: number;
  readonly truth: Truth;
  readonly found: Found;
  /** Places of the class's objects in `truth`. */
  readonly objects: readonly number[];
  /** Places of its detections in `found`, best first; of equal scores the first. */
  readonly detections: readonly number[];
}

/** For each class the images that have an object or a detection of it, in order. */
export function byClass(images: readonly Judged[], classes: number): readonly (readonly ClassImage[])[] {
  const all = Array.from({ length: classes }, (): ClassImage[] => []);
  images.forEach(({ truth, found }, image) => {
    const own = new Map<number, { objects: number[]; detections: number[] }>();
    const of = (name: number) => {
      const known = own.get(name) ?? { objects: [], detections: [] };
      own.set(name, known);
      return known;
    };
    for (let i = 0; i < truth.classes.length; i++) of(truth.classes[i]!).objects.push(i);
    for (let i = 0; i < found.classes.length; i++) of(found.classes[i]!).detections.push(i);
    for (const [name, { objects, detections }] of own) {
      detections.sort((a, b) => found.scores[b]! - found.scores[a]!);
      all[name]!.push({ image, truth, found, objects, detections });
    }
  });
  return all;
}

/** Area of box i, square pixels. */
export const areaOf = (boxes: ArrayLike<number>, i: number): number =>
  (boxes[4 * i + 2]! - boxes[4 * i]!) * (boxes[4 * i + 3]! - boxes[4 * i + 1]!);

/** Area that box i of `a` has in common with box j of `b`, square pixels. */
export function commonArea(a: ArrayLike<number>, i: number, b: ArrayLike<number>, j: number): number {
  const width = Math.min(a[4 * i + 2]!, b[4 * j + 2]!) - Math.max(a[4 * i]!, b[4 * j]!);
  if (width <= 0) return 0;
  const height = Math.min(a[4 * i + 3]!, b[4 * j + 3]!) - Math.max(a[4 * i + 1]!, b[4 * j + 1]!);
  return height <= 0 ? 0 : width * height;
}

/** What became of a detection. */
export const FALSE = 0;
export const TRUE = 1;
/** Counted neither for nor against. */
export const LEFT_OUT = 2;

/** A class's detections in all images, best first. */
export interface Outcomes {
  /** The image of each. */
  readonly images: Int32Array;
  readonly outcomes: Uint8Array;
  /** Of each object to be found, the image that it lies in. */
  readonly positives: readonly number[];
}

/** After each detection that finds an object, best first: recall, and the precision that can be had at it or above. */
export interface Curve {
  readonly recall: readonly number[];
  readonly precision: readonly number[];
}

/** The places of a class's detections, listed image by image, once the best come first; of equal scores the first. */
export function placesOf(images: readonly ClassImage[]): Int32Array {
  const scores = images.flatMap(({ found, detections }) => detections.map((i) => found.scores[i]!));
  const order = Int32Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]!);
  const places = new Int32Array(order.length);
  order.forEach((i, place) => {
    places[i] = place;
  });
  return places;
}

/**
 * Undefined where no object is to be found.
 * @param weights how often each image counts. @default once
 */
export function curveOf(
  { images, outcomes, positives }: Outcomes,
  weights?: ArrayLike<number>,
): Curve | undefined {
  const weight = (image: number) => (weights ? weights[image]! : 1);
  const all = positives.reduce((sum, image) => sum + weight(image), 0);
  if (all === 0) return undefined;
  const [recall, precision]: [number[], number[]] = [[], []];
  let [hits, misses] = [0, 0];
  for (let i = 0; i < outcomes.length; i++) {
    const own = weight(images[i]!);
    if (outcomes[i] === FALSE) misses += own;
    if (outcomes[i] !== TRUE || own === 0) continue;
    hits += own;
    recall.push(hits / all);
    precision.push(hits / (hits + misses));
  }
  for (let i = precision.length - 2; i >= 0; i--) precision[i] = Math.max(precision[i]!, precision[i + 1]!);
  return { recall, precision };
}

/** The mean of the precision at recalls in ascending order; 0 where that recall is not reached. */
export function meanPrecision({ recall, precision }: Curve, recalls: readonly number[]): number {
  let [sum, at] = [0, 0];
  for (const wanted of recalls) {
    while (at < recall.length && recall[at]! < wanted) at++;
    if (at === recall.length) break;
    sum += precision[at]!;
  }
  return sum / recalls.length;
}

/** The mean of what is known; null if nothing is. */
export function meanOf(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}
