/** The exported encoder.onnx, and what it finds. */
import * as ort from "onnxruntime-node";
import { checkFeatures } from "../../export/compare.ts";
import { freezeEncoder } from "../../export/freeze.ts";
import { encoderMetadata, metadataTexts } from "../../export/metadata.ts";
import type { Answer, Squares } from "../messages.ts";
import type { Beside } from "./beside.ts";
import { checkSquares, taken } from "./images.ts";
import { inChunks, nearestTo, normalized } from "./neighbours.ts";
import type { Runtime } from "./runtime.ts";
import type { Training } from "./training.ts";

/** Images that the frozen encoder is compared on before it is offered. */
const COMPARED = 8;
const FILE = "encoder.onnx";

export interface Exported {
  readonly answer: Extract<Answer, { kind: "encoder" }>;
  /** Features of images by the exported file, and their nearest of those trained on. */
  find(images: Squares, count: number): Promise<Answer>;
  close(): Promise<void>;
}

/** Freezes the encoder as it stands. @throws UserError if its features differ from those of the training's */
export async function exportEncoder(
  { manifest, encode }: Beside,
  { open }: Runtime,
  { images, settings, step, trainer }: Training,
): Promise<Exported> {
  const { side, features: d } = manifest.encoder;
  const count = images.names.length;
  const state = await trainer.readState();
  const metadata = encoderMetadata({ images: count, seed: settings.seed }, manifest, step);
  const bytes = freezeEncoder(encode, state, metadataTexts(metadata));
  const session = await open(bytes, FILE);
  const featuresOf = async (squares: Squares, from: number, to: number) => {
    const indices = Array.from({ length: to - from }, (_, i) => from + i);
    const feed = new ort.Tensor("uint8", taken(squares, indices), [to - from, side, side, 3]);
    const { features } = await session.run({ images: feed });
    return features!.data as Float32Array; // [to - from, d]
  };
  const n = Math.min(COMPARED, count);
  const few = taken(images, [...Array(n).keys()]);
  const reference = await trainer.encode(few, [n, side, side, 3]);
  const { maxRelative } = checkFeatures(FILE, reference, await featuresOf(images, 0, n), d);
  let known: Float32Array | undefined; // of all images trained on, [count, d]

  return {
    answer: { kind: "encoder", bytes, maxRelative, step },
    async find(given, wanted) {
      checkSquares(given, side);
      known ??= normalized(await inChunks(count, (from, to) => featuresOf(images, from, to)), d);
      const rows = known;
      const found = await inChunks(given.names.length, (from, to) => featuresOf(given, from, to));
      const queries = [...given.names.keys()];
      const features = queries.map((q) => found.slice(q * d, (q + 1) * d));
      const nearest = features.map((row) => nearestTo(normalized(row, d), rows, wanted));
      return { kind: "found", features, nearest: { queries, nearest } };
    },
    close: () => session.close(),
  };
}
