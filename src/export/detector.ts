/** Writes detector.onnx: a frozen encoder with a detection head, and what makes detections of its output. */
import { create } from "@bufbuild/protobuf";
import { type GraphProto, StringStringEntryProtoSchema } from "onnx-buf";
import * as ort from "onnxruntime-node";
import { expected } from "../errors.ts";
import { writeFileAtomic } from "../files/atomic.ts";
import { buildModel } from "../graph/model.ts";
import { decodeModel, encodeModel, shapeFrom } from "../graph/protos.ts";
import { input } from "../graph/tensor.ts";
import { joinSizes, sizeOf } from "../ops/shape.ts";
import { NOT_WRITTEN } from "./compare.ts";
import { detections, detectionsIn, OBJECTS, SCOPE, SIDES } from "./detections.ts";
import { detectorMetadataTexts } from "./detector-metadata.ts";
import { type EncoderParts, frozenEncoder, type WrittenEncoder } from "./encoder.ts";
import type { EncoderMetadata } from "./metadata.ts";
import { dropUnused } from "./unused.ts";
import { type Images, outputsOf } from "./verify.ts";

/**
 * Writes detector.onnx: `images` uint8 [1, h, w, 3] of any size -> `boxes`, `scores` and `classes`, with the classes' names
 * in its metadata. Its encoder's `objects` are compared with those of `encode`.
 *
 * @throws UserError like `writeEncoder`, or if `objects` do not go with the classes
 */
export async function writeDetector(
  path: string,
  parts: Omit<EncoderParts, "staged" | "more"> & {
    readonly metadata: EncoderMetadata;
    readonly images: Images;
  },
  classes: readonly string[],
): Promise<WrittenEncoder> {
  const { metadata, images, threads } = parts;
  const { frozen, maxRelative } = await frozenEncoder(path, { ...parts, more: [OBJECTS] });
  const detector = withDetections(frozen, metadata, classes);
  await checkDetector(path, detector, images, classes.length, threads);
  await writeFileAtomic(path, detector);
  return { bytes: detector.length, maxRelative };
}

/** A frozen encoder with detections in the place of its outputs. */
function withDetections(
  encoder: Uint8Array,
  metadata: EncoderMetadata,
  classes: readonly string[],
): Uint8Array {
  const model = decodeModel(encoder);
  const graph = model.graph!;
  const output = graph.output.find(({ name }) => name === OBJECTS);
  const [, places, values] = (output && shapeFrom(output)) ?? [];
  if (typeof places !== "number" || values !== SIDES + classes.length)
    throw expected(
      "encode.onnx",
      `${OBJECTS} [n, places, 4 + ${classes.length} classes]`,
      `[${places}, ${values}]`,
    );
  const of = { places, classes: classes.length, imageSize: metadata.imageSize };
  const images = input("images", "uint8", [1, "h", "w", 3]);
  const objects = input(OBJECTS, "float32", [1, places, values]);
  const size = joinSizes([sizeOf(images, 1), sizeOf(images, 2)]); // [2]
  const made = buildModel(detections(objects, size, of), { name: SCOPE, inputs: [images, objects] }).graph!;
  append(graph, made);
  graph.input = made.input.filter(({ name }) => name !== OBJECTS);
  graph.output = made.output;
  dropUnused(graph);
  const texts = Object.entries(detectorMetadataTexts(metadata, classes)).sort(([a], [b]) => (a < b ? -1 : 1));
  model.metadataProps = texts.map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }));
  return encodeModel(model);
}

/** Adds the nodes of another graph, whose inputs and outputs keep their names. */
function append(graph: GraphProto, more: GraphProto): void {
  const kept = new Set(["", ...[...more.input, ...more.output].map(({ name }) => name)]);
  const named = (value: string) => (kept.has(value) ? value : `${SCOPE}/${value}`);
  for (const node of more.node) {
    node.name = named(node.name);
    node.input = node.input.map(named);
    node.output = node.output.map(named);
  }
  for (const value of [...more.initializer, ...more.valueInfo]) value.name = named(value.name);
  graph.node.push(...more.node);
  graph.initializer.push(...more.initializer);
  graph.valueInfo.push(...more.valueInfo);
}

/** @throws UserError if detections of an image do not come out, or are no detections. */
async function checkDetector(
  where: string,
  detector: Uint8Array,
  { data, shape: [, height, width] }: Images,
  classes: number,
  threads: number | undefined,
): Promise<void> {
  const image = data.subarray(0, height * width * 3);
  const images = new ort.Tensor("uint8", image, [1, height, width, 3]);
  detectionsIn(where, await outputsOf(where, detector, { images }, threads), classes, NOT_WRITTEN);
}
