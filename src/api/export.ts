/** Writes the frozen encoder of a run. */
import { existsSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { join, resolve } from "node:path";
import { encodeGraph, encodeWithStages, type StagesAsked } from "../artifact/encode.ts";
import { isForeign, readArtifact } from "../artifact/files.ts";
import { openDecoder } from "../data/decoder.ts";
import type { SourceOptions } from "../data/sources.ts";
import { expected, messageOf } from "../errors.ts";
import { writeDetector } from "../export/detector.ts";
import { drawnImages, drawnSounds } from "../export/drawn.ts";
import { type EncoderParts, frozenEncoder, writeEncoder } from "../export/encoder.ts";
import { audioMetadata, type EncoderMetadata, encoderMetadata } from "../export/metadata.ts";
import type { Images } from "../export/verify.ts";
import { timmWeights } from "../export/weights.ts";
import { checkWritable, makeFolder, writeFileAtomic } from "../files/atomic.ts";
import type { Manifest } from "../spec.ts";
import { type RunConfig, readConfig, runFiles } from "../train/run-folder.ts";
import { exported } from "./early-stop.ts";
import { findUnlabelled } from "./supervised.ts";

export interface ExportResult {
  /** Path of encoder.onnx. */
  readonly encoder: string;
  readonly bytes: number;
  /** Steps that it was trained for. */
  readonly steps: number;
  /** Greatest relative distance of its features from those of the training-time encoder, on the images compared. */
  readonly maxRelative: number;
  /** What the two were compared on, such as "8 images of photos". */
  readonly compared: string;
  /** Whether those images were drawn, for none of the run's could be read. */
  readonly drawn: boolean;
  /** Path of encoder.safetensors, if it was asked for. */
  readonly safetensors?: string;
  /** Where the method takes audio: path of audio-encoder.onnx, and the rest of it. */
  readonly audio?: Pick<ExportResult, "encoder" | "bytes" | "maxRelative">;
}

export interface ExportOptions {
  /** Folder for encoder.onnx. @default the run's */
  readonly out?: string | undefined;
  /** Folder of images to compare the two on. @default the run's, or drawn ones where none of it can be read */
  readonly data?: string | undefined;
  /** Of the CPU provider. @default one for each core */
  readonly threads?: number | undefined;
  /** Whether it gives what comes before the features as further outputs, see `encodeWithStages`. @default false */
  readonly stages?: boolean | undefined;
  /** Whether its weights are written as well, as encoder.safetensors with timm's names. @default false */
  readonly safetensors?: boolean | undefined;
}

/** Images that the frozen encoder is compared on before it is kept. */
const COMPARED = 8;

/**
 * The encoder of the run's latest checkpoint (as initialised, if there is none), or of its best epoch if it stops early, as
 * encoder.onnx, and that of audio, if there is one, as audio-encoder.onnx.
 *
 * @throws UserError if there is no run, its files are damaged, the frozen encoder differs from the trained one, or
 *   `data` is given and holds no image that decodes.
 */
export async function exportEncoder(run: string, options: ExportOptions = {}): Promise<ExportResult> {
  const out = options.out ?? run;
  const path = join(out, "encoder.onnx");
  const config = await readConfig(run);
  const weights = options.safetensors ? join(out, "encoder.safetensors") : undefined;
  if (out !== run) await checkOut(out, run);
  if (weights !== undefined) await checkFile(weights);
  const { parts, audio, compared, drawn } = await partsOf(run, config, options);
  const written = await writeEncoder(path, parts);
  if (weights !== undefined)
    await writeFileAtomic(weights, timmWeights(parts.encode, parts.state, parts.metadata));
  const heard = audio && (await writeAudioEncoder(runFiles(out).audioEncoder, audio));
  const result = { encoder: resolve(path), steps: parts.metadata.steps, ...written, compared, drawn };
  return {
    ...result,
    ...(weights !== undefined && { safetensors: resolve(weights) }),
    ...(heard && { audio: heard }),
  };
}

const writeAudioEncoder = async (path: string, parts: EncoderParts) => ({
  encoder: resolve(path),
  ...(await writeEncoder(path, parts)),
});

/**
 * The encoder and the classifier of a fine-tuned run as classifier.onnx in its folder, of the same step: `features` and
 * `probabilities` of images; in its metadata the classes' names, and whether they are independent.
 *
 * @throws UserError like `exportEncoder`, or if the run learnt no classes
 */
export async function exportClassifier(run: string, threads?: number): Promise<{ classifier: string }> {
  const config = await readConfig(run);
  const { task, classes } = config.supervision ?? {};
  if (!classes || task)
    throw expected(run, "a run that learnt classes", "another", "train one with finetune");
  const { classifier } = runFiles(run);
  const { parts, manifest } = await partsOf(run, config, { threads });
  const independent = manifest.multiHot !== undefined;
  await writeEncoder(classifier, {
    ...{ ...parts, staged: undefined, more: ["probabilities"] },
    metadata: { ...parts.metadata, classes, ...(independent && { independent }) },
    // Of an image that is of no class all are next to 0, and what is left of them is rounding.
    ...(independent && { shortest: { probabilities: 1 } }),
  });
  return { classifier: resolve(classifier) };
}

/**
 * The encoder, the detection head and what makes detections of it, of a run that learnt to find objects, as detector.onnx in
 * its folder.
 *
 * @throws UserError like `exportEncoder`, or if the run learnt no objects
 */
export async function exportDetector(run: string, threads?: number): Promise<{ detector: string }> {
  const config = await readConfig(run);
  const { task, classes } = config.supervision ?? {};
  if (!classes || task !== "detection")
    throw expected(run, "a run that learnt to find objects", "another", "see finetune --task detection");
  const { detector } = runFiles(run);
  const { staged, ...whole } = (await partsOf(run, config, { threads })).parts; // `encode` has the head
  await writeDetector(detector, whole, classes);
  return { detector: resolve(detector) };
}

/** The bytes of the encoder of the run's latest checkpoint, with stages; nothing is written. */
export async function stagedEncoder(
  run: string,
  threads?: number,
  asked: StagesAsked = {},
): Promise<Uint8Array> {
  const { parts } = await partsOf(run, await readConfig(run), { threads, stages: true }, asked);
  return (await frozenEncoder(run, parts)).frozen;
}

/** Of an encoder of images. */
type ImageParts = EncoderParts & { readonly metadata: EncoderMetadata; readonly images: Images };

async function partsOf(
  run: string,
  config: RunConfig,
  { data, threads, stages }: ExportOptions,
  asked: StagesAsked = {},
): Promise<
  { parts: ImageParts; audio?: EncoderParts; manifest: Manifest } & Pick<ExportResult, "compared" | "drawn">
> {
  const artifact = await readArtifact(run);
  const { manifest } = artifact;
  const { step, state } = await exported(run, manifest, config);
  const { method, encoder } = manifest;
  const spec = {
    method: method.name,
    encoder: encoder.name,
    imageSize: encoder.imageSize,
    config: method.config,
  };
  const staged = stages ? encodeWithStages(spec, asked) : undefined;
  // An encoder ends with its features, whatever its run made of them.
  const headless = manifest.labels === undefined && manifest.detection === undefined;
  const alone = headless ? undefined : encodeGraph(spec, manifest.name, { head: false });
  const { images, ...compared } = await comparisonImages(config, data, encoder.side);
  const parts: ImageParts = {
    encode: await artifact.graph("encode"),
    staged: staged?.graph ?? alone,
    state: state(),
    metadata: { ...encoderMetadata(config, manifest, step), ...(staged && { stages: staged.stages }) },
    images,
    threads,
  };
  if (!manifest.audio) return { parts, manifest, ...compared };
  const { rate, samples } = manifest.audio;
  const audio: EncoderParts = {
    encode: await artifact.graph("encodeAudio"),
    state: parts.state,
    metadata: audioMetadata(config, manifest, manifest.audio, step),
    images: drawnSounds(COMPARED, rate, samples),
    threads,
  };
  return { parts, audio, manifest, ...compared };
}

/** Squares of the folder given, else of the run's own, else, rather than lose an export for want of them, drawn ones. */
async function comparisonImages(
  { data: own, range, supervision }: RunConfig,
  given: string | undefined,
  side: number,
): Promise<{ images: Images; compared: string; drawn: boolean }> {
  const data = given ?? own;
  try {
    const images = await firstSquares({ data, supervision }, side, range);
    const [n] = images.shape;
    return { images, compared: `${n} image${n === 1 ? "" : "s"} of ${data}`, drawn: false };
  } catch (error) {
    if (given !== undefined) throw error;
    const images = drawnImages(COMPARED, side);
    return { images, compared: `${COMPARED} drawn images (${messageOf(error)})`, drawn: true };
  }
}

/** Makes the folder. @throws UserError if an encoder that is another run's, or none of ours, would be written over. */
async function checkOut(out: string, run: string): Promise<void> {
  await makeFolder(out);
  if (existsSync(runFiles(out).config) && (await realpath(out)) !== (await realpath(run))) {
    throw expected(out, "a folder without a run", "one", "give another --out");
  }
  const { encoder, audioEncoder } = runFiles(out);
  for (const path of [encoder, audioEncoder]) await checkFile(path);
}

/** @throws UserError if something that is no encoder of ours would be written over, or nothing can be written there. */
async function checkFile(path: string): Promise<void> {
  if (await isForeign(path))
    throw expected(path, "an encoder of ours or none", "another file", "move it away");
  await checkWritable(path);
}

/** The first images of the data that can be decoded, uint8 [n, side, side, 3]. */
async function firstSquares(
  { data, supervision }: Pick<RunConfig, "data" | "supervision">,
  side: number,
  range: SourceOptions["range"],
): Promise<Images> {
  const sources = await findUnlabelled({ data, supervision }, { range });
  const decoder = openDecoder(sources, { warn: () => {} }); // training has warned
  const squares: Uint8Array[] = [];
  for (const file of sources.files) {
    if (squares.length === COMPARED) break;
    const square = await decoder.square(file, side);
    if (square) squares.push(square.pixels);
  }
  if (squares.length === 0) throw expected(data, "an image to compare the encoder on", "none that decodes");
  return { data: Buffer.concat(squares), shape: [squares.length, side, side, 3] };
}
