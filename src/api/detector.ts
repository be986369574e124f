/** A detector, opened: objects in images and in image files. */
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { type Source, unpadded } from "../data/canvas.ts";
import type { Decoder } from "../data/decoder.ts";
import { sizeOf } from "../data/sizes.ts";
import { expected } from "../errors.ts";
import { type Detections, detectionsIn } from "../export/detections.ts";
import { type DetectorMetadata, readDetectorMetadata } from "../export/detector-metadata.ts";
import { readWhole } from "../files/atomic.ts";
import { providerFor } from "../runtime/providers.ts";
import { notRunnable, openSession } from "../runtime/session.ts";
import { openProgress } from "../train/progress.ts";
import type { EncoderOptions } from "./encoder.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";
import { longerSideFor } from "./views.ts";

export type DetectorOptions = Omit<EncoderOptions, "model">;

export interface OpenedDetector {
  readonly path: string;
  readonly metadata: DetectorMetadata;
  /** What is found in an image of any size, best first. */
  detect(image: Source): Promise<Detections>;
  close(): Promise<void>;
}

const MAX_DETECTOR = 2 ** 30;
const OUTPUTS = ["boxes", "scores", "classes"];

/** @throws UserError if there is no detector.onnx, it is another model, or it cannot run here. */
export async function openDetector(
  path: string,
  options: DetectorOptions = {},
  { output = QUIET }: Pick<Surroundings, "output"> = {},
): Promise<OpenedDetector> {
  const bytes = await readWhole(path, MAX_DETECTOR, "a detector.onnx");
  const metadata = readDetectorMetadata(bytes, path);
  const { provider, chosen } = await providerFor(options);
  for (const line of chosen) openProgress(output).end(line);
  const session = await openSession(bytes, path, { ...options, provider });
  const missing = OUTPUTS.filter((name) => !session.outputs.includes(name));
  if (session.inputs.join() !== "images" || missing.length > 0) {
    await session.close();
    const found = `inputs ${session.inputs.join(", ")} and outputs ${session.outputs.join(", ")}`;
    throw expected(path, `input images and outputs ${OUTPUTS.join(", ")}`, found);
  }
  return {
    path,
    metadata,
    async detect({ width, height, pixels }) {
      const images = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
      const found = await session.run({ images }, OUTPUTS).catch((error: unknown) => {
        throw notRunnable(path, provider, error);
      });
      return detectionsIn(path, found, metadata.classes.length);
    },
    close: session.close,
  };
}

/** Images that are decoded, run and drawn at a time: while one runs the next is decoded. */
export const TOGETHER = 2;

export interface DetectedFile extends Detections {
  /** Of the image as it is shown, pixels. */
  readonly width: number;
  readonly height: number;
}

/**
 * What is found in an image file, in its own pixels; undefined if it cannot be decoded. It is scaled down as in training.
 * @param decoder of sources with objects
 * @param known its width and height. @default as the file says
 */
export async function detectIn(
  { metadata, detect }: OpenedDetector,
  root: string,
  file: string,
  decoder: Pick<Decoder, "source">,
  known?: readonly [width: number, height: number],
): Promise<DetectedFile | undefined> {
  const square = await decoder.source(file, longerSideFor(metadata.imageSize));
  if (!square) return undefined;
  const image = unpadded(square);
  const [width, height] = known ?? (await sizeOf(join(root, file)));
  const { boxes, ...found } = await detect(image);
  const scales = [width / image.width, height / image.height] as const;
  return { ...found, boxes: boxes.map((x, i) => x * scales[i % 2]!), width, height };
}
