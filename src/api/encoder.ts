/** An encoder, opened: features of images, of folders, and the .npy file of `embed`. */
import { existsSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { openDecoder } from "../data/decoder.ts";
import { openImages } from "../data/images.ts";
import type { Sources } from "../data/sources.ts";
import { expected, UserError } from "../errors.ts";
import { forMany, MANY } from "../export/for-many.ts";
import type { ForeignOptions } from "../export/foreign.ts";
import { type AudioMetadata, type EncoderMetadata, isOurs, readEncoderMetadata } from "../export/metadata.ts";
import { checkWritable, readWhole, writeFileAtomic } from "../files/atomic.ts";
import { npyHeader } from "../files/npy.ts";
import { cores } from "../machine.ts";
import type { Features } from "../probe/features.ts";
import { free } from "../runtime/free.ts";
import { type ProviderChoice, providerFor } from "../runtime/providers.ts";
import { openSession, type Session, type SessionOptions } from "../runtime/session.ts";
import type { StageEntry } from "../spec.ts";
import { openProgress } from "../train/progress.ts";
import { collected, type FeatureBlock, featureBlocks, joined } from "./features.ts";
import { type Foreign, type ForeignMetadata, firstGiven, openForeign } from "./foreign.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

export interface EncoderOptions extends Omit<SessionOptions, "provider"> {
  /** "auto" takes the first of cuda, webgpu and cpu that works. @default "cpu" */
  readonly provider?: ProviderChoice | undefined;
  /** Of a third-party model: what it does not say of itself. */
  readonly model?: ForeignOptions | undefined;
}

export interface OpenedEncoder {
  readonly path: string;
  readonly metadata: EncoderMetadata | ForeignMetadata;
  /**
   * Features float32 [n, d] of uint8 images [n, height, width, 3] of any size; `metadata.side` suits best. For many
   * images at once the CPU runs deep encoders with Winograd convolutions, up to 1.4 times as fast; features differ by
   * rounding.
   */
  encode(
    images: Uint8Array,
    shape: readonly [n: number, height: number, width: number, channels: 3],
  ): Promise<Float32Array>;
  /**
   * Features of image files, in their order; one that cannot be decoded is left out with a warning. Values that are not
   * of 8 bits are read by the range of `sources`, or else by the one that the encoder was trained with.
   */
  embed(sources: Sources, surroundings?: Surroundings): Promise<Embedded>;
  /** The same block by block, after the `from` first images; see `featureBlocks`. */
  embedBlocks(
    sources: Sources,
    from: number,
    surroundings?: Surroundings,
  ): AsyncGenerator<FeatureBlock, void, undefined>;
  close(): Promise<void>;
}

export interface Embedded {
  /** One row for each image that was decoded. */
  readonly features: Features;
  /** Their paths, relative to the folder. */
  readonly files: readonly string[];
}

const MAX_ENCODER = 2 ** 30;

/** The bytes of a model, or of the encoder.onnx of a folder. @throws UserError if there is none or it cannot be read. */
export async function readModelFile(path: string): Promise<{ file: string; bytes: Uint8Array }> {
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, "encoder.onnx") : path;
  if (!existsSync(file)) throw expected(file, "an encoder.onnx", "no such file", "train or export one first");
  return { file, bytes: await readWhole(file, MAX_ENCODER, "an encoder") };
}

/** An encoder.onnx, or that of a run folder. @throws UserError if there is none or it is damaged. */
export async function readEncoder(
  path: string,
): Promise<{ file: string; bytes: Uint8Array; metadata: EncoderMetadata }> {
  const { file, bytes } = await readModelFile(path);
  return { file, bytes, metadata: readEncoderMetadata(bytes, file) };
}

/**
 * Opens encoder.onnx, that of a run folder, or a third-party model.
 * @throws UserError if there is none, it cannot run here, or `model` does not fit it: see `readForeign`.
 */
export async function openEncoder(
  path: string,
  { model, ...given }: EncoderOptions = {},
  { output = QUIET }: Pick<Surroundings, "output"> = {},
): Promise<OpenedEncoder> {
  const { file, bytes } = await readModelFile(path);
  const { provider, chosen } = await providerFor(given);
  for (const line of chosen) openProgress(output).end(line);
  const options: SessionOptions = { ...given, provider };
  if (isOurs(bytes, file)) {
    checkOurs(file, model);
    return openFrozen(bytes, file, options);
  }
  const foreign = await openForeign(bytes, file, options, model);
  return openedForeign(file, foreign, output);
}

/** A third-party model as an encoder; a line says how it was taken. */
export function openedForeign(
  file: string,
  foreign: Foreign,
  output: NonNullable<Surroundings["output"]>,
): OpenedEncoder {
  openProgress(output).end(`${file}: ${foreign.shown}`);
  return opened(file, foreign);
}

/** @throws UserError if something is said of a model that says it itself. */
export function checkOurs(file: string, model: object | undefined): void {
  const option = firstGiven(model);
  if (option === undefined) return;
  throw expected(`--${option}`, "it with a third-party model", `${file}, which says it itself`);
}

/** The vectors of an encoder: its features, or those in which it compares with another modality's. */
export type Output = "features" | "embedding";

/** The length of an output. @throws UserError if there is none */
export function lengthOf(output: Output, metadata: EncoderMetadata | AudioMetadata, file: string): number {
  const length = metadata[output];
  if (length === undefined)
    throw expected(file, "an encoder of a run with audio", `one of ${metadata.method}`);
  return length;
}

/** Opens an encoder of ours; with its stages a feature vector holds these first, in order, and then the features. */
export async function openFrozen(
  bytes: Uint8Array,
  file: string,
  options: SessionOptions,
  stages: readonly StageEntry[] = [],
  output: Output = "features",
): Promise<OpenedEncoder> {
  const known = readEncoderMetadata(bytes, file);
  const length = lengthOf(output, known, file);
  const d = stages.reduce((sum, { channels, places }) => sum + channels * places, length);
  const outputs = [...stages.map(({ name }) => name), output];
  const few = await openSession(bytes, file, options);
  let many: Promise<Session> | undefined;
  const openMany = async () => {
    const graph = options.provider === "cpu" ? forMany(bytes) : undefined;
    if (!graph) return few;
    // Not folded: kernels in the Winograd domain would take four times the memory of the encoder; computing them
    // takes a twentieth of a run.
    const session = await openSession(graph, file, { ...options, folded: false });
    free([graph]);
    return session;
  };
  const sessionFor = async (n: number) => {
    if (n < MANY) return few;
    many ??= openMany();
    return many;
  };
  return opened(file, {
    metadata: { ...known, features: d },
    async encode(images, shape) {
      const session = await sessionFor(shape[0]);
      const found = await session.run({ images: new ort.Tensor("uint8", images, [...shape]) }, outputs);
      return joined(
        outputs.map((name) => found[name]!.data as Float32Array),
        shape[0],
      );
    },
    async close() {
      const other = await many?.catch(() => few); // the caller of `encode` got the error
      for (const session of new Set([few, other ?? few])) await session.close();
    },
  });
}

const opened = (
  path: string,
  { metadata, encode, close }: Pick<OpenedEncoder, "metadata" | "encode" | "close">,
): OpenedEncoder => ({
  path,
  metadata,
  encode,
  async embed(sources, surroundings = {}) {
    const found = blocks(sources, metadata, encode, surroundings, 0);
    const { kept, ...features } = await collected(sources, metadata.features, found);
    if (kept.length === 0) throw noneDecoded(sources);
    return { features, files: kept.map((i) => sources.files[i]!) };
  },
  embedBlocks: (sources, from, surroundings = {}) => blocks(sources, metadata, encode, surroundings, from),
  close,
});

async function* blocks(
  sources: Sources,
  { side, features: d, range }: OpenedEncoder["metadata"],
  encode: OpenedEncoder["encode"],
  { output = QUIET, signal }: Surroundings,
  from: number,
): AsyncGenerator<FeatureBlock, void, undefined> {
  const progress = openProgress(output);
  const warn = (line: string) => progress.note(`warning: ${line}`);
  const decoder = openDecoder({ ...sources, range: sources.range ?? range }, { warn });
  const images = openImages(sources, {
    decode: (file) => decoder.square(file, side),
    cacheBytes: 0,
    concurrency: 2 * cores(),
  });
  try {
    const squares = (pixels: Uint8Array, n: number) => encode(pixels, [n, side, side, 3]);
    const found = { decoded: images.get, encode: squares, d, title: "features of", progress, signal };
    yield* featureBlocks(sources, found, from);
  } finally {
    progress.end();
    await images.close();
  }
}

/** What is thrown where no image of a folder can be decoded. */
export const noneDecoded = ({ root }: Sources): UserError =>
  new UserError(`${root}: expected images that can be decoded, found none`);

/** The list of paths beside a .npy file. */
export const indexOf = (file: string): string => `${file.replace(/\.npy$/, "")}.json`;

/**
 * Finds out before the images are embedded what `writeEmbedding` would tell: that both files can be written, features
 * [n, d] of float32 fit, and the list of paths goes over no other file.
 */
export async function checkEmbeddingFile(file: string, n: number, d: number): Promise<void> {
  if (file.endsWith(".parquet")) return checkWritable(file, 8 * n * d); // rows lie beside it meanwhile
  await checkWritable(file, 4 * n * d);
  const index = indexOf(file);
  await checkWritable(index);
  if (existsSync(index) && !/^\{\s*"encoder":/.test(await readFile(index, "utf8"))) {
    throw expected(index, "a list of paths or no file", "another file", "move it away or give another --out");
  }
}

/** Writes features as `file` (NumPy's .npy, float32 [n, d]) and the paths of their rows beside it, as .json. */
export async function writeEmbedding(
  file: string,
  { features, files }: Embedded,
  metadata: OpenedEncoder["metadata"],
): Promise<string> {
  const { data, n, d } = features;
  await writeFileAtomic(
    file,
    Buffer.concat([npyHeader(n, d), Buffer.from(data.buffer, data.byteOffset, data.byteLength)]),
  );
  return writeIndex(file, files, d, metadata);
}

/** Writes the list of paths beside a .npy file; its own path. */
export async function writeIndex(
  file: string,
  files: readonly string[],
  d: number,
  metadata: OpenedEncoder["metadata"] | AudioMetadata,
): Promise<string> {
  const index = indexOf(file);
  const shape = [files.length, d];
  await writeFileAtomic(index, `${JSON.stringify({ encoder: metadata, shape, files }, null, 2)}\n`);
  return index;
}
