/** Writes the frozen encoder of a run. */
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { readArtifact } from "../artifact/files.ts";
import { decodeSquare } from "../data/decode.ts";
import { findImages } from "../data/sources.ts";
import { UserError } from "../errors.ts";
import { writeEncoder } from "../export/encoder.ts";
import { writeFailed } from "../files/atomic.ts";
import { initialState } from "../runtime/state.ts";
import { latestCheckpoint, loadCheckpoint } from "../train/checkpoint.ts";
import { readConfig, runFiles } from "../train/run-folder.ts";

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
  const config = await readConfig(run);
  const artifact = await readArtifact(run);
  const { manifest } = artifact;
  const latest = await latestCheckpoint(runFiles(run).checkpoints);
  const { step, tensors } = latest
    ? await loadCheckpoint(latest)
    : { step: 0, tensors: initialState(manifest, config) };
  const { method, encoder } = manifest;
  const out = options.out ?? run;
  await mkdir(out, { recursive: true }).catch((error) => {
    throw writeFailed(out, error);
  });
  const path = join(out, "encoder.onnx");
  const written = await writeEncoder(path, {
    encode: await artifact.graph("encode"),
    state: tensors,
    metadata: {
      method: method.name,
      encoder: encoder.name,
      imageSize: encoder.imageSize,
      side: encoder.side,
      features: encoder.features,
      steps: step,
      images: config.images,
      seed: config.seed,
    },
    images: await firstSquares(config.data, encoder.side),
    threads: options.threads,
  });
  return { encoder: resolve(path), steps: step, ...written };
}

/** The first images of the folder that can be decoded, uint8 [n, side, side, 3]. */
async function firstSquares(
  data: string,
  side: number,
): Promise<{ data: Uint8Array; shape: [number, number, number, number] }> {
  const { root, files } = await findImages(data);
  const squares: Uint8Array[] = [];
  for (const file of files) {
    if (squares.length === COMPARED) break;
    const square = await decodeSquare(join(root, file), side).catch(() => undefined);
    if (square) squares.push(square.pixels);
  }
  if (squares.length === 0)
    throw new UserError(`${data}: expected an image to compare the encoder on, found none that decodes`);
  return { data: Buffer.concat(squares), shape: [squares.length, side, side, 3] };
}
