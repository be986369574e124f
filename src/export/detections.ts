/** Detections of one image from what a detection head says of each place: as a graph, and as it gives them. */
import type { Tensor as Value } from "onnxruntime-node";
import { expected } from "../errors.ts";
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { input, inScope, integers, type Tensor } from "../graph/tensor.ts";
import { div, equal, greater, maximum, minimum, mul, sub, where } from "../ops/elementwise.ts";
import { gather } from "../ops/indexing.ts";
import { cast, reshape, slice } from "../ops/movement.ts";
import { reduceMax, reduceMin } from "../ops/reduce.ts";
import { lowest, nonMaxSuppression, topK } from "../ops/select.ts";

/** Detections score more than this. */
const LEAST_SCORE = 0.05;
/** Of two boxes of a class the better one stays where they overlap by more than this, intersection over union. */
const OVERLAP = 0.6;
/** Places and classes that are looked at, the best ones. */
const CANDIDATES = 1000;
/** Detections of an image. */
const DETECTIONS = 100;

/** The scope of its nodes. */
export const SCOPE = "detections";

/** Of boxes: left, top, right and bottom. */
export const SIDES = 4;

/** The output of an encode graph from which detections are made. */
export const OBJECTS = "objects";

/** What `objects` are of. */
export interface ObjectsOf {
  readonly places: number;
  readonly classes: number;
  /** Side of the square that its boxes lie in, pixels; the image fills its left or its top. */
  readonly imageSize: number;
}

/**
 * `boxes` float32 [k, 4] (left, top, right, bottom in pixels of the image, clipped to it), `scores` float32 [k] and `classes`
 * int64 [k], best first: of the 1,000 best pairs of a place and a class, of equal ones the first, those above 0.05, without
 * those that a better one of their class overlaps by more than 0.6, the 100 best. A box beside the image is none.
 *
 * @param objects float32 [1, places, 4 + classes]: boxes in pixels of a square, and scores from 0 to 1
 * @param size int64 [2]: the image's height and width
 */
export function detections(objects: Tensor, size: Tensor, { places, classes, imageSize }: ObjectsOf) {
  const pairs = places * classes;
  const count = Math.min(CANDIDATES, pairs);
  const all = slice(objects, { 2: [SIDES, SIDES + classes] }); // [1, places, classes]
  const { values, indices } = topK(reshape(all, [pairs]), count); // [c] each
  const place = div(indices, integers([classes])); // [c]; whole numbers are divided downwards
  const own = sub(indices, mul(place, integers([classes]))); // [c]

  const most = cast(gather(size, integers([1, 0, 1, 0])), "float32"); // [4]: of left, top, right and bottom
  const scale = div(reduceMax(most, { axes: [0], keep: true }), imageSize); // [1]
  const square = reshape(slice(objects, { 2: [0, SIDES] }), [places, SIDES]); // [places, 4]
  const boxes = minimum(maximum(mul(gather(square, place), scale), 0), most); // [c, 4]
  const extent = sub(slice(boxes, { 1: [2, 4] }), slice(boxes, { 1: [0, 2] })); // [c, 2]
  const scores = where(greater(reduceMin(extent, { axes: [1] }), 0), values, 0); // [c]

  const each = reshape(integers(Array.from({ length: classes }, (_, i) => i)), [classes, 1]); // [classes, 1]
  const byClass = reshape(where(equal(own, each), scores, 0), [1, classes, count]); // [1, classes, c]
  const limits = { iou: OVERLAP, score: LEAST_SCORE, most: DETECTIONS, size: "selected" };
  const selected = nonMaxSuppression(reshape(boxes, [1, count, SIDES]), byClass, limits); // [selected, 3]
  // Candidates are in the order of their scores.
  const kept = lowest(reshape(slice(selected, { 1: [2, 3] }), ["selected"]), DETECTIONS, "k"); // [k]
  return { boxes: gather(boxes, kept), scores: gather(scores, kept), classes: gather(own, kept) };
}

/** The same as a model: inputs `objects` and `size`. */
export function detectionModel(of: ObjectsOf): Uint8Array {
  const objects = input(OBJECTS, "float32", [1, of.places, SIDES + of.classes]);
  const size = input("size", "int64", [2]);
  const made = inScope(SCOPE, () => detections(objects, size, of));
  return encodeModel(buildModel(made, { name: SCOPE, inputs: [objects, size] }));
}

/** Objects found in an image, best first. */
export interface Detections {
  /** [k, 4]: left, top, right and bottom, pixels of the image. */
  readonly boxes: Float32Array;
  /** [k], from 0 to 1. */
  readonly scores: Float32Array;
  /** [k]: places among the detector's classes. */
  readonly classes: Int32Array;
}

/** Of a model that anyone may have written; ours gives 100. */
const MOST_DETECTIONS = 10_000;

/** The outputs of a detector with so many classes. @throws UserError if they are no detections; `where` names it. */
export function detectionsIn(
  where: string,
  { boxes, scores, classes }: Readonly<Record<string, Value>>,
  count: number,
  advice?: string,
): Detections {
  const k = scores?.dims[0] ?? -1;
  const typed = (value: Value | undefined, type: string, dims: readonly number[]) =>
    value?.type === type && value.dims.join() === dims.join();
  if (
    k < 0 ||
    k > MOST_DETECTIONS ||
    !typed(boxes, "float32", [k, SIDES]) ||
    !typed(scores, "float32", [k]) ||
    !typed(classes, "int64", [k])
  ) {
    const found = Object.entries({ boxes, scores, classes }).map(
      ([name, value]) => `${name} ${value ? `${value.type} [${value.dims}]` : "missing"}`,
    );
    const wanted = "boxes float32 [k, 4], scores float32 [k] and classes int64 [k]";
    throw expected(where, wanted, found.join(", "), advice);
  }
  const found = {
    boxes: boxes!.data as Float32Array,
    scores: scores!.data as Float32Array,
    classes: Int32Array.from(classes!.data as BigInt64Array, Number),
  };
  const wrong =
    [...found.boxes, ...found.scores].find((x) => !Number.isFinite(x)) ??
    found.classes.find((own) => own < 0 || own >= count);
  if (wrong !== undefined)
    throw expected(where, `finite detections of ${count} classes`, `the value ${wrong}`, advice);
  return found;
}
