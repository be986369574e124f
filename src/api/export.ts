/** Writes the frozen encoder of a run. */
import { existsSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { join, resolve } from "node:path";
import { isForeign, readArtifact } from "../artifact/files.ts";
import { openDecoder } from "../data/decoder.ts";
import { findImages, type SourceOptions } from "../data/sources.ts";
import { expected, UserError } from "../errors.ts";
import { writeEncoder } from "../export/encoder.ts";
import { checkWritable, makeFolder } from "../files/atomic.ts";
import { readConfig, runFiles } from "../train/run-folder.ts";
import { standing } from "./standing.ts";

export interface ExportResult {
  /** Path of encoder.onnx. */
  readonly encoder: string;
  readonly bytes: number;
  /** Steps that it was trained for. */
  readonly steps: number;
  /** Greatest relative distance of its features from those of the training-time encoder, on images of the run. */
  readonly maxRelative: number;
}

/** Images that the frozen encoder is compared on before it is kept. */
const COMPARED = 8;

/**
 * The encoder of the run's latest checkpoint (as initialised, if there is none) as encoder.onnx in `out`, the run's
 * folder by default.
 *
 * @throws UserError if there is no run, its files are damaged, or the frozen encoder differs from the trained one.
 */
export async function exportEncoder(
  run: string,
  options: { out?: string; threads?: number | undefined } = {},
): Promise<ExportResult> {
  const out = options.out ?? run;
  const path = join(out, "encoder.onnx");
  const config = await readConfig(run);
  if (out !== run) await checkOut(out, run);
  const artifact = await readArtifact(run);
  const { manifest } = artifact;
  const { step, state } = await standing(run, manifest, config);
  const { method, encoder } = manifest;
  const written = await writeEncoder(path, {
    encode: await artifact.graph("encode"),
    state: state(),
    metadata: {
      method: method.name,
      encoder: encoder.name,
      imageSize: encoder.imageSize,
      side: encoder.side,
      features: encoder.features,
      steps: step,
      images: config.images,
      seed: config.seed,
      ...(config.range && { range: config.range }),
    },
    images: await firstSquares(config.data, encoder.side, config.range),
    threads: options.threads,
  });
  return { encoder: resolve(path), steps: step, ...written };
}

/** Makes the folder. @throws UserError if an encoder that is another run's, or none of ours, would be written over. */
async function checkOut(out: string, run: string): Promise<void> {
  await makeFolder(out);
  const path = join(out, "encoder.onnx");
  if (existsSync(runFiles(out).config) && (await realpath(out)) !== (await realpath(run))) {
    throw expected(out, "a folder without a run", "one", "give another --out");
  }
  if (await isForeign(path))
    throw expected(path, "an encoder of ours or none", "another file", "move it away");
  await checkWritable(path);
}

/** The first images of the folder that can be decoded, uint8 [n, side, side, 3]. */
async function firstSquares(
  data: string,
  side: number,
  range: SourceOptions["range"],
): Promise<{ data: Uint8Array; shape: [number, number, number, number] }> {
  const sources = await findImages(data, { range });
  const decoder = openDecoder(sources, { warn: () => {} }); // training has warned
  const squares: Uint8Array[] = [];
  for (const file of sources.files) {
    if (squares.length === COMPARED) break;
    const square = await decoder.square(file, side);
    if (square) squares.push(square.pixels);
  }
  if (squares.length === 0)
    throw new UserError(`${data}: expected an image to compare the encoder on, found none that decodes`);
  return { data: Buffer.concat(squares), shape: [squares.length, side, side, 3] };
}
