/**
 * What a detector is to find in a view: an object, or none, at each place of its feature maps, as FCOS assigns them (Tian et
 * al. 2019, arXiv 1904.01355).
 */
import type { Source } from "../data/canvas.ts";
import type { Objects } from "../data/objects/objects.ts";
import { type DetectionEntry, VIEW_COLUMNS, type ViewColumn } from "../spec.ts";

/** See `DetectionEntry`. */
export interface Targets {
  /** int64 [n, places]. */
  readonly classes: BigInt64Array;
  /** float32 [n, places, 4]. */
  readonly distances: Float32Array;
}

/** Less than this share of a box in the view shows too little of its object. */
const LEAST_SHARE = 0.25;
/** Of a box in the view, pixels. */
const LEAST_SIDE = 2;

/** The part of a box that lies in a view, pixels of the view. */
export interface ViewBox {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
  readonly class: number;
}

export const placesOf = ({ levels }: Pick<DetectionEntry, "levels">): number =>
  levels.reduce((sum, { side }) => sum + side ** 2, 0);

/**
 * For views of `size` pixels by `rows` of parameters, of images that take `contents` of their squares and show `objects`.
 */
export function drawTargets(
  entry: Pick<DetectionEntry, "levels" | "radius">,
  size: number,
  rows: Float32Array,
  contents: readonly NonNullable<Source["content"]>[],
  objects: readonly Objects[],
): Targets {
  const places = placesOf(entry);
  const columns = VIEW_COLUMNS.length;
  const classes = new BigInt64Array(objects.length * places).fill(-1n);
  const distances = new Float32Array(objects.length * places * 4);
  objects.forEach((own, i) => {
    const boxes = boxesInView(own, contents[i]!, rows.subarray(i * columns, (i + 1) * columns), size);
    assign(boxes, entry, {
      classes: classes.subarray(i * places, (i + 1) * places),
      distances: distances.subarray(i * places * 4, (i + 1) * places * 4),
    });
  });
  return { classes, distances };
}

/** What a view shows of each object that is not ignored, in their order, without those of which it shows too little. */
export function boxesInView(
  { boxes, classes, ignored }: Objects,
  content: NonNullable<Source["content"]>,
  row: Float32Array,
  size: number,
): ViewBox[] {
  const of = (column: ViewColumn): number => row[VIEW_COLUMNS.indexOf(column)]!;
  const across = spanOf(of("left"), of("width"), of("flip") === 1, content.width, size);
  const down = spanOf(of("top"), of("height"), false, content.height, size);
  const found: ViewBox[] = [];
  for (let i = 0; i < classes.length; i++) {
    if (ignored[i]) continue;
    const [left, right, width] = across(boxes[4 * i]!, boxes[4 * i + 2]!);
    const [top, bottom, height] = down(boxes[4 * i + 1]!, boxes[4 * i + 3]!);
    const [w, h] = [right - left, bottom - top];
    if (w < LEAST_SIDE || h < LEAST_SIDE || w * h < LEAST_SHARE * width * height) continue;
    found.push({ left, top, right, bottom, class: classes[i]! });
  }
  return found;
}

/**
 * Along an axis: where a box from one share of the image to another lies in the view, as far as that goes, and how long it
 * were without an end. The view shows `length` pixels of the source from `start`, `content` of which are the image.
 */
const spanOf =
  (start: number, length: number, flip: boolean, content: number, size: number) =>
  (from: number, to: number): readonly [from: number, to: number, whole: number] => {
    const place = (share: number) => ((share * content - start) * size) / length;
    const [a, b] = flip ? [size - place(to), size - place(from)] : [place(from), place(to)];
    return [Math.max(0, a), Math.min(size, b), b - a];
  };

/**
 * Writes the targets of an image. A place is an object's where it lies in its box, near the middle of it, and the greatest
 * distance to the box's sides is of the place's level; of several boxes the smallest is taken, of equal ones the first.
 */
function assign(
  boxes: readonly ViewBox[],
  { levels, radius }: Pick<DetectionEntry, "levels" | "radius">,
  { classes, distances }: Targets,
): void {
  const area = ({ left, top, right, bottom }: ViewBox) => (right - left) * (bottom - top);
  // Smaller ones over larger ones, the first of equal ones last.
  const ordered = boxes.toReversed().sort((a, b) => area(b) - area(a));
  let first = 0;
  for (const { side, stride, from, to } of levels) {
    const near = radius * stride;
    for (const { left, top, right, bottom, class: own } of ordered) {
      const rows = between(top, bottom, near, stride, side);
      const columns = between(left, right, near, stride, side);
      for (let row = rows.from; row < rows.to; row++) {
        const y = (row + 0.5) * stride;
        for (let column = columns.from; column < columns.to; column++) {
          const x = (column + 0.5) * stride;
          const greatest = Math.max(x - left, y - top, right - x, bottom - y);
          if (greatest <= from || (to !== null && greatest > to)) continue;
          const place = first + row * side + column;
          classes[place] = BigInt(own);
          distances[4 * place] = (x - left) / stride;
          distances[4 * place + 1] = (y - top) / stride;
          distances[4 * place + 2] = (right - x) / stride;
          distances[4 * place + 3] = (bottom - y) / stride;
        }
      }
    }
    first += side ** 2;
  }
}

/** The cells [from, to) of an axis whose middles lie in a box, and nearer to the box's middle than `near`. */
function between(start: number, end: number, near: number, stride: number, side: number) {
  const middle = (start + end) / 2;
  const after = Math.max(start, middle - near) / stride - 0.5;
  const before = Math.min(end, middle + near) / stride - 0.5;
  return { from: Math.max(0, Math.floor(after) + 1), to: Math.min(side, Math.ceil(before)) };
}
