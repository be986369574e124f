/** Retrieval with the two encoders of a run: from audio to pictures, and back. */
import { dirname } from "node:path";
import { findAudioPairs } from "../data/audio-pairs.ts";
import type { Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { type Features, takeRows } from "../probe/features.ts";
import { chanceOf, type Recall, ranksOf, recallOf } from "../probe/retrieval.ts";
import { providerFor } from "../runtime/providers.ts";
import { runFiles } from "../train/run-folder.ts";
import { type Embedder, openAudioEncoder } from "./audio-encoder.ts";
import { type EncoderOptions, openFrozen, readModelFile } from "./encoder.ts";
import { checkRoom, collected } from "./features.ts";
import type { Surroundings } from "./surroundings.ts";

export interface RetrievalOptions extends Omit<EncoderOptions, "model"> {
  /** A run's folder, or its encoder.onnx, with audio-encoder.onnx beside it. */
  readonly encoder: string;
  /** Folder of pictures that no run has trained on, with audio files of the same names beside them. */
  readonly data: string;
  /** In place of audio files of the same names: see `findAudioPairs`. */
  readonly audio?: string | undefined;
  /** Takes a fixed, balanced sample of this many pairs. */
  readonly limit?: number | undefined;
  /** Of the sample. @default 0 */
  readonly seed?: number | undefined;
  /** The values of black and white, in files whose values are not of 8 bits. @default what the encoder was trained with */
  readonly range?: readonly [black: number, white: number] | undefined;
}

export interface RetrievalResult {
  readonly kind: "retrieval";
  readonly pairs: number;
  readonly audioToImage: Recall;
  readonly imageToAudio: Recall;
  /** Of ranks drawn at random, %. */
  readonly chance: Omit<Recall, "medianRank">;
}

/** Vectors in which the pairs of a folder compare, one row of each for each pair that could be decoded. */
export interface EmbeddedPairs {
  readonly image: Features;
  readonly audio: Features;
  /** Places of the pairs in what was found. */
  readonly kept: readonly number[];
  readonly found: Sources;
}

/** @throws UserError if there are no pairs, or no encoders that a run with audio exported. */
export async function retrieval(
  options: RetrievalOptions,
  surroundings: Surroundings = {},
): Promise<RetrievalResult> {
  const { image, audio } = await embedPairs(options, surroundings);
  const recall = async (queries: Features, candidates: Features) =>
    recallOf(await ranksOf(queries, candidates, options.threads));
  return {
    kind: "retrieval",
    pairs: image.n,
    audioToImage: await recall(audio, image),
    imageToAudio: await recall(image, audio),
    chance: chanceOf(image.n),
  };
}

/** @throws UserError as `retrieval` */
export async function embedPairs(
  { encoder: path, data, audio: list, limit, seed, range, ...given }: RetrievalOptions,
  surroundings: Surroundings = {},
): Promise<EmbeddedPairs> {
  const found = await findAudioPairs(data, { limit, seed, range, list });
  const { file, bytes } = await readModelFile(path);
  const { provider } = await providerFor(given);
  const images = await openFrozen(bytes, file, { ...given, provider }, [], "embedding");
  try {
    const sounds = await openAudioEncoder(
      runFiles(dirname(file)).audioEncoder,
      given,
      surroundings,
      "embedding",
    );
    try {
      const [length, other] = [images.metadata.features, sounds.metadata.features];
      if (length !== other) throw expected(sounds.path, `embeddings of ${length} values`, `${other}`);
      checkRoom(2 * found.files.length, length);
      const image = await rowsOf(images, found, surroundings);
      const heard = { ...found, files: found.audio!, notes: [] }; // which were told with the images
      const audio = await rowsOf(sounds, heard, surroundings);
      const kept = image.kept.filter((place) => audio.places.has(place));
      const taken = ({ all, places }: Placed) =>
        takeRows(
          all,
          kept.map((place) => places.get(place)!),
        );
      return { image: taken(image), audio: taken(audio), kept, found };
    } finally {
      await sounds.close();
    }
  } finally {
    await images.close();
  }
}

interface Placed {
  readonly all: Features;
  readonly kept: readonly number[];
  /** The row of each place in the sources that was decoded. */
  readonly places: ReadonlyMap<number, number>;
}

async function rowsOf(encoder: Embedder, sources: Sources, surroundings: Surroundings): Promise<Placed> {
  const d = encoder.metadata.features;
  const { kept, ...all } = await collected(sources, d, encoder.embedBlocks(sources, 0, surroundings));
  return { all, kept, places: new Map(kept.map((place, row) => [place, row])) };
}
