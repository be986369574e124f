/** What a run's detector finds in some of its images, for its report. */
import { existsSync } from "node:fs";
import { type Source, unpadded } from "../data/canvas.ts";
import { loadSharp } from "../data/decode.ts";
import { openDecoder } from "../data/decoder.ts";
import { drawBoxes } from "../report/boxes.ts";
import type { DetectionsShown } from "../report/detections.ts";
import type { Run } from "../report/run.ts";
import { runFiles } from "../train/run-folder.ts";
import { openDetector } from "./detector.ts";
import type { EncoderOptions } from "./encoder.ts";
import { evenly } from "./evaluation.ts";
import { sourcesOfRun } from "./run-sources.ts";

/** Images that are shown. */
const SHOWN = 6;
/** Their longer side, pixels; smaller images are scaled up, for labels not to cover them. */
const SIDE = 420;
/** Objects that score less are not drawn. */
const LEAST_SCORE = 0.3;

/**
 * Of the images held out where there are some, else of those trained on. Undefined of a run that learns of no objects, and
 * before its detector is written.
 *
 * @throws UserError if its images or its detector cannot be read
 */
export async function detectionsShown(
  folder: string,
  { config, manifest }: Run,
  where: EncoderOptions,
): Promise<DetectionsShown | undefined> {
  const { detector: path } = runFiles(folder);
  if (!manifest.detection || !existsSync(path)) return undefined;
  const { sources, heldOut } = await sourcesOfRun(folder, config, manifest, config.seed);
  const shown = heldOut ?? sources;
  const decoder = openDecoder(shown, { warn: () => {} }); // training has warned
  const detector = await openDetector(path, where);
  const { classes } = detector.metadata;
  try {
    const images = [];
    for (const row of evenly(shown.files.length, SHOWN)) {
      const file = shown.files[row]!;
      const square = await decoder.source(file, SIDE);
      if (!square) continue;
      const image = unpadded(square);
      const found = await detector.detect(image);
      const large = await enlarged(image);
      const scale = large.width / image.width;
      const seen = found.scores.filter((score) => score >= LEAST_SCORE).length;
      const boxes = Array.from({ length: seen }, (_, i) => ({
        box: Array.from(found.boxes.subarray(4 * i, 4 * i + 4), (x) => scale * x) as unknown as Box,
        label: `${classes[found.classes[i]!]} ${Math.round(100 * found.scores[i]!)}%`,
        kind: found.classes[i]!,
      }));
      const drawn = await (await drawBoxes(large, boxes, file)).jpeg({ quality: 82 }).toBuffer();
      images.push({ file, drawn: `data:image/jpeg;base64,${drawn.toString("base64")}` });
    }
    return { images, least: LEAST_SCORE, heldOut: heldOut !== undefined };
  } finally {
    await detector.close();
  }
}

type Box = readonly [left: number, top: number, right: number, bottom: number];

async function enlarged(image: Source): Promise<Source> {
  const { width, height, pixels } = image;
  const scale = SIDE / Math.max(width, height);
  if (scale <= 1) return image;
  const sharp = await loadSharp();
  const raw = { width, height, channels: 3 } as const;
  const { data, info } = await sharp(pixels, { raw })
    .resize(Math.round(scale * width), Math.round(scale * height), { fit: "fill", kernel: "linear" })
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, pixels: data };
}
