/** What a run trains on. */
import { type AudioPairOptions, findAudioPairs } from "../data/audio-pairs.ts";
import type { Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import type { Manifest } from "../spec.ts";
import type { RunConfig } from "../train/run-folder.ts";
import { findItems } from "./positives.ts";
import { openSeen } from "./seen.ts";
import { findTraining, type Training } from "./supervised.ts";

/**
 * What the run in a folder trains on, with the seed of its sample.
 * @throws UserError as `findTraining`, `findItems` and `findAudioPairs`
 */
export async function sourcesOfRun(
  run: string,
  { data, limit, range, positives, audio: list, supervision }: RunConfig,
  manifest: Manifest,
  seed: number,
  show?: (line: string) => void,
): Promise<Training> {
  if (positives) {
    const { look } = await openSeen(run);
    const { sources } = await findItems(data, positives, { range }, { show, look });
    return { sources };
  }
  const options = { limit: limit ?? undefined, seed, range };
  const { sources, heldOut } = await findTraining(data, options, supervision);
  return { sources: await withAudio(data, sources, manifest, { ...options, list }), heldOut };
}

/** The same images, or of a method that takes audio pairs in their place. @throws UserError if there are none to be had */
export async function withAudio(
  data: string,
  images: Sources,
  { method, audio }: Pick<Manifest, "method" | "audio">,
  options: AudioPairOptions,
): Promise<Sources> {
  if (audio) return findAudioPairs(data, options);
  if (options.list === undefined) return images;
  throw expected("--audio", "it with a method that takes audio, such as audio-video", method.name);
}
