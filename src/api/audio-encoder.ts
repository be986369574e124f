/** An encoder of audio, opened: features of audio files; and an encoder of either kind. */
import * as ort from "onnxruntime-node";
import { middlePart } from "../data/audio-part.ts";
import { openDecoder } from "../data/decoder.ts";
import { openImages } from "../data/images.ts";
import type { Sources } from "../data/sources.ts";
import { type AudioMetadata, modalityOf, readAudioMetadata } from "../export/metadata.ts";
import { cores } from "../machine.ts";
import { providerFor } from "../runtime/providers.ts";
import { openSession } from "../runtime/session.ts";
import type { Modality } from "../spec.ts";
import { openProgress } from "../train/progress.ts";
import {
  checkOurs,
  type EncoderOptions,
  lengthOf,
  noneDecoded,
  type OpenedEncoder,
  type Output,
  openEncoder,
  readModelFile,
} from "./encoder.ts";
import { collected, type FeatureBlock, featureBlocks } from "./features.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

/** What encodes files, of images or of audio. */
export interface Embedder extends Pick<OpenedEncoder, "path" | "embed" | "embedBlocks" | "close"> {
  readonly metadata: OpenedEncoder["metadata"] | AudioMetadata;
}

/** What a model takes; of one that is not ours, images. @throws UserError if there is none */
export async function modalityAt(path: string): Promise<Modality> {
  const { file, bytes } = await readModelFile(path);
  return modalityOf(bytes, file);
}

/** Opens an encoder of images or of audio, by what it says of itself. @throws UserError as `openEncoder` */
export const openEmbedder = async (
  path: string,
  options: EncoderOptions = {},
  surroundings: Pick<Surroundings, "output"> = {},
): Promise<Embedder> =>
  (await modalityAt(path)) === "audio"
    ? openAudioEncoder(path, options, surroundings)
    : openEncoder(path, options, surroundings);

/**
 * Opens audio-encoder.onnx. Of a file that is longer than what it takes it gets the middle, a shorter one lies in silence.
 * @throws UserError if there is none, or it cannot run here
 */
export async function openAudioEncoder(
  path: string,
  { model, ...given }: EncoderOptions = {},
  { output = QUIET }: Pick<Surroundings, "output"> = {},
  taken: Output = "features",
): Promise<Embedder> {
  const { file, bytes } = await readModelFile(path);
  checkOurs(file, model);
  const known = readAudioMetadata(bytes, file);
  const { rate, samples } = known;
  const metadata = { ...known, features: lengthOf(taken, known, file) };
  const { provider, chosen } = await providerFor(given);
  for (const line of chosen) openProgress(output).end(line);
  const session = await openSession(bytes, file, { ...given, provider });
  const encode = async (values: Uint8Array, n: number) => {
    const audio = new Float32Array(values.slice().buffer); // a copy is aligned
    const found = await session.run({ audio: new ort.Tensor("float32", audio, [n, samples]) }, [taken]);
    return found[taken]!.data as Float32Array; // [n, d]
  };

  async function* blocks(
    sources: Sources,
    { output = QUIET, signal }: Surroundings,
    from: number,
  ): AsyncGenerator<FeatureBlock, void, undefined> {
    const progress = openProgress(output);
    const decoder = openDecoder(sources, { warn: (line) => progress.note(`warning: ${line}`) });
    const decode = async (name: string) => {
      const audio = await decoder.audio(name, rate);
      if (!audio) return undefined;
      return { width: samples, height: 1, pixels: new Uint8Array(middlePart(audio, samples).buffer) };
    };
    const files = openImages(sources, { decode, cacheBytes: 0, concurrency: 2 * cores() });
    const of = { decoded: files.get, encode, d: metadata.features, what: "sounds" };
    try {
      yield* featureBlocks(sources, { ...of, title: "features of", progress, signal }, from);
    } finally {
      progress.end();
      await files.close();
    }
  }

  return {
    path: file,
    metadata,
    async embed(sources, surroundings = {}) {
      const found = await collected(sources, metadata.features, blocks(sources, surroundings, 0));
      const { kept, ...features } = found;
      if (kept.length === 0) throw noneDecoded(sources);
      return { features, files: kept.map((i) => sources.files[i]!) };
    },
    embedBlocks: (sources, from, surroundings = {}) => blocks(sources, surroundings, from),
    close: () => session.close(),
  };
}
