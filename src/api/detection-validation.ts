/** How well a detector that is being trained finds the objects of images held out. */
import * as ort from "onnxruntime-node";
import type { Source } from "../data/canvas.ts";
import { openDecoder } from "../data/decoder.ts";
import { openImages } from "../data/images.ts";
import type { Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { detectionModel, detectionsIn, OBJECTS, SIDES } from "../export/detections.ts";
import { cores } from "../machine.ts";
import { cocoScores } from "../probe/coco.ts";
import type { Judged } from "../probe/detections.ts";
import { openSession } from "../runtime/session.ts";
import type { Trainer } from "../runtime/trainer.ts";
import type { Manifest } from "../spec.ts";
import { placesOf } from "../train/targets.ts";
import { truthOf } from "./detection-scores.ts";
import type { EpochEvaluation, EvaluationOptions } from "./evaluation.ts";
import { longerSideFor } from "./views.ts";

type Looking = Pick<EvaluationOptions, "batch" | "cacheBytes" | "warn" | "progress" | "signal">;

/**
 * After an epoch: `validation`, AP50 of the images held out, percent.
 * @param sources with their objects
 */
export async function openDetectionValidation(
  sources: Sources,
  { encoder: { imageSize }, detection }: Manifest,
  trainer: Trainer,
  { batch, cacheBytes, warn, progress, signal }: Looking,
): Promise<EpochEvaluation> {
  const { files, root, classes } = sources;
  const objects = sources.objects!;
  const decoder = openDecoder(sources, { warn });
  const images = openImages(sources, {
    decode: (file) => decoder.source(file, longerSideFor(imageSize)),
    cacheBytes,
    concurrency: 2 * cores(),
  });
  const of = { places: placesOf(detection!), classes: classes.length, imageSize };
  const each = of.places * (SIDES + of.classes);
  const session = await openSession(detectionModel(of), "detections");

  /** What is found in an image, in its own pixels. */
  async function detectionsOf(found: Float32Array, row: number): Promise<Judged["found"]> {
    const { width, height } = objects[row]!;
    const feeds = {
      [OBJECTS]: new ort.Tensor("float32", found, [1, of.places, SIDES + of.classes]),
      size: new ort.Tensor("int64", BigInt64Array.of(BigInt(height), BigInt(width)), [2]),
    };
    return detectionsIn("detections", await session.run(feeds, ["boxes", "scores", "classes"]), of.classes);
  }

  /** Of squares of one side. */
  async function lookAt(squares: readonly Square[]): Promise<readonly Judged[]> {
    const { width: side } = squares[0]!.image;
    const pixels = Buffer.concat(squares.map(({ image }) => image.pixels));
    const found = await trainer.encode(pixels, [squares.length, side, side, 3], OBJECTS);
    return Promise.all(
      squares.map(async ({ row }, i) => ({
        truth: truthOf(objects[row]!, [...classes.keys()]),
        found: await detectionsOf(found.subarray(i * each, (i + 1) * each), row),
      })),
    );
  }

  async function decoded(rows: readonly number[]): Promise<readonly Square[]> {
    const all = await Promise.all(rows.map(async (row) => ({ row, image: await images.get(row) })));
    return all.filter((one): one is Square => one.image !== undefined);
  }

  return {
    async run() {
      const judged: Judged[] = [];
      for (let from = 0; from < files.length; from += batch) {
        signal?.throwIfAborted();
        const rows = Array.from(files.keys()).slice(from, from + batch);
        const squares = await decoded(rows);
        // The graph scales images down and up: batches are of one size.
        for (const side of new Set(squares.map(({ image }) => image.width)))
          judged.push(...(await lookAt(squares.filter(({ image }) => image.width === side))));
        progress.show(`validation: ${Math.min(from + batch, files.length)}/${files.length} images`);
      }
      const { ap50 } = cocoScores(judged, classes);
      if (ap50 === null) throw expected(root, "objects in images held out that can be decoded", "none");
      return { validation: ap50 };
    },
    async close() {
      await images.close();
      await session.close();
    },
  };
}

interface Square {
  readonly row: number;
  readonly image: Source;
}
