/** What a detector.onnx says of itself: what its encoder says, that it detects, and the names of its classes. */
import * as z from "zod";
import { expected } from "../errors.ts";
import {
  classesOf,
  type EncoderMetadata,
  fieldsOf,
  imageSchema,
  metadataOf,
  PREFIX,
  shown,
  TASK,
  textsOf,
} from "./metadata.ts";

export interface DetectorMetadata
  extends Omit<EncoderMetadata, "side" | "probes" | "stages" | "embedding" | "independent"> {
  /** What the numbers of its output `classes` stand for. */
  readonly classes: readonly string[];
}

const DETECTION = "detection";
const CLASSES = `${PREFIX}classes`;
const schema = imageSchema
  .omit({ side: true, probes: true, stages: true, embedding: true, independent: true })
  .extend({ classes: z.string("names of classes") });

/** The entries of metadata_props. @throws Error if they could not be read back. */
export function detectorMetadataTexts(
  { method, encoder, features, steps, images, seed, imageSize, range }: EncoderMetadata,
  classes: readonly string[],
): Record<string, string> {
  const fields = { method, encoder, features, steps, images, seed, imageSize, range };
  const texts = { ...textsOf(fields), [TASK]: DETECTION, [CLASSES]: JSON.stringify(classes) };
  parse(new Map(Object.entries(texts)), "detector.onnx");
  return texts;
}

/** The metadata of a model; see `readEncoderMetadata`. @throws UserError if it is no detector of ours. */
export const readDetectorMetadata = (model: Uint8Array, where: string): DetectorMetadata =>
  parse(metadataOf(model, where, "a detector"), where);

function parse(texts: ReadonlyMap<string, string>, where: string): DetectorMetadata {
  const task = texts.get(TASK);
  if (task !== DETECTION) {
    const found = task === undefined ? "another model" : shown(task);
    throw expected(where, "a detector written by ort-pretrain", found);
  }
  const { classes, range, ...fields } = fieldsOf(texts, where, schema);
  return {
    ...fields,
    ...(range && { range }),
    classes: classesOf(classes, `${where}: metadata ${CLASSES}`, 1),
  };
}
