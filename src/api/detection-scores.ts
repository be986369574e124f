/** How well a detector finds the objects of annotated images. */
import { openDecoder } from "../data/decoder.ts";
import type { Objects } from "../data/objects/objects.ts";
import { mapInOrder } from "../data/parallel.ts";
import type { Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { ap50Interval, type CocoMeasures, cocoScores } from "../probe/coco.ts";
import type { Judged, Truth } from "../probe/detections.ts";
import { type VocMeasures, vocScores } from "../probe/voc.ts";
import { openProgress } from "../train/progress.ts";
import { type DetectorOptions, detectIn, openDetector, TOGETHER } from "./detector.ts";
import { noneDecoded } from "./encoder.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

/** Percents; null where no object is to be found. */
interface Measures extends CocoMeasures {
  /** By Pascal VOC's rules. */
  readonly voc: VocMeasures;
}

export interface DetectionScores extends Measures {
  /** Images that decode. */
  readonly images: number;
  /** Objects to be found in them. */
  readonly objects: number;
  /** 95 % interval of `ap50`, the images being a sample: from its bootstrap (Efron 1979), by percentiles. */
  readonly low: number | null;
  readonly high: number | null;
  /** In the detector's order. */
  readonly classes: readonly ({ readonly class: string; readonly objects: number } & Measures)[];
}

/**
 * Average precision of a detector.onnx on images with their `objects`; an image that cannot be decoded is left out with a
 * warning. Classes go by their names.
 *
 * @throws UserError if the detector is none, does not know a class of the objects, or nothing decodes.
 */
export async function evaluateDetector(
  path: string,
  sources: Sources,
  options: DetectorOptions = {},
  { output = QUIET, signal }: Pick<Surroundings, "output" | "signal"> = {},
): Promise<DetectionScores> {
  const { objects } = sources;
  if (!objects) throw expected(sources.root, "images with boxes about their objects", "images alone");
  const detector = await openDetector(path, options, { output });
  const progress = openProgress(output);
  const decoder = openDecoder(
    { ...sources, range: sources.range ?? detector.metadata.range },
    { warn: (line) => progress.note(`warning: ${line}`) },
  );
  let done = 0;
  try {
    const places = placesOf(sources, detector.metadata.classes, path);
    const judged = await mapInOrder(
      sources.files,
      async (file, i): Promise<Judged | undefined> => {
        signal?.throwIfAborted();
        const { width, height } = objects[i]!;
        const found = await detectIn(detector, sources.root, file, decoder, [width, height]);
        progress.show(`detected ${++done}/${sources.files.length} images`);
        return found && { truth: truthOf(objects[i]!, places), found };
      },
      TOGETHER,
    );
    const decoded = judged.filter((one) => one !== undefined);
    if (decoded.length === 0) throw noneDecoded(sources);
    return detectionScores(decoded, detector.metadata.classes);
  } finally {
    progress.end();
    await detector.close();
  }
}

/** The same of detections that are there. */
export function detectionScores(images: readonly Judged[], classes: readonly string[]): DetectionScores {
  const [coco, voc] = [cocoScores(images, classes), vocScores(images, classes)];
  const interval = ap50Interval(images, classes.length);
  const counts = classes.map(() => 0);
  for (const { truth } of images)
    for (let i = 0; i < truth.classes.length; i++) if (!truth.ignored[i]) counts[truth.classes[i]!]!++;
  return {
    ...coco,
    voc: { ap50: voc.ap50, elevenPoint: voc.elevenPoint },
    images: images.length,
    objects: counts.reduce((sum, count) => sum + count, 0),
    low: interval?.[0] ?? null,
    high: interval?.[1] ?? null,
    classes: coco.classes.map((own, i) => {
      const { ap50, elevenPoint } = voc.classes[i]!;
      return { ...own, objects: counts[i]!, voc: { ap50, elevenPoint } };
    }),
  };
}

/** Where each class of the objects lies among the detector's. @throws UserError if one is not among them */
export function placesOf(
  { root, classes }: Sources,
  known: readonly string[],
  path: string,
): readonly number[] {
  const missing = classes.filter((name) => !known.includes(name));
  if (missing.length > 0)
    throw expected(root, `classes that ${path} knows (${shown(known)})`, shown(missing));
  return classes.map((name) => known.indexOf(name));
}

const shown = (names: readonly string[]): string =>
  names.length > 5 ? `${names.slice(0, 5).join(", ")}, and ${names.length - 5} more` : names.join(", ");

/** The objects of an image in its pixels, their classes as the detector counts them. */
export function truthOf(
  { boxes, classes, ignored, width, height, areas }: Objects,
  places: readonly number[],
): Truth {
  return {
    boxes: Float64Array.from(boxes, (x, i) => x * (i % 2 ? height : width)),
    classes: classes.map((own) => places[own]!),
    ignored,
    areas,
  };
}
