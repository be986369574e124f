/** `probe --kind retrieval`. */
import { type RetrievalResult, retrieval } from "../api/retrieval.ts";
import { expected } from "../errors.ts";
import { outputOf, report } from "./options.ts";
import type { RankFlags } from "./rank.ts";

export interface RetrievalFlags extends RankFlags {
  readonly audio?: string;
}

export async function runRetrieval(encoder: string | undefined, flags: RetrievalFlags): Promise<void> {
  const { data, audio, limit, range, seed, threads, provider, device, cudaLibraries, json, quiet } = flags;
  if (encoder === undefined || data === undefined)
    throw expected(
      "retrieval",
      "a run and --data DIR",
      encoder === undefined ? "no run" : "no folder of pairs",
    );
  const where = { threads, provider, device, cudaLibraries };
  const options = { encoder, data, audio, limit, range, seed, ...where };
  const result = await retrieval(options, { output: outputOf(quiet) });
  report(json, result, describe(result));
}

const describe = ({ pairs, audioToImage, imageToAudio, chance }: RetrievalResult): readonly string[] => [
  `retrieval among ${pairs} pairs; recall at 1, 5 and 10 (by chance ${percents(chance)} %)`,
  `  audio to image  ${percents(audioToImage)} %  (median rank ${audioToImage.medianRank})`,
  `  image to audio  ${percents(imageToAudio)} %  (median rank ${imageToAudio.medianRank})`,
];

const percents = ({ recall1, recall5, recall10 }: RetrievalResult["chance"]): string =>
  [recall1, recall5, recall10].map((value) => value.toFixed(1)).join(", ");
