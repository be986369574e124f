/** `probe --kind rank`. */
import type { EncoderOptions } from "../api/encoder.ts";
import { type RankResult, rank } from "../api/rank.ts";
import { expected } from "../errors.ts";
import { type ForeignFlags, splitForeign } from "./foreign.ts";
import { outputOf, report } from "./options.ts";

export interface RankFlags
  extends Pick<EncoderOptions, "provider" | "device" | "cudaLibraries" | "threads">,
    ForeignFlags {
  readonly data?: string;
  readonly features?: readonly string[];
  readonly limit?: number;
  readonly range?: readonly [number, number];
  readonly seed?: number;
  readonly views?: number;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export async function runRank(encoder: string | undefined, flags: RankFlags): Promise<void> {
  const { model, others } = splitForeign(flags);
  const { features, data, limit, range, seed, views, json, quiet, ...where } = others;
  if (features && features.length !== 1) throw expected("--features", "one file", `${features.length}`);
  const { threads, provider, device, cudaLibraries } = where;
  const how = { threads, provider, device, cudaLibraries, model };
  const options = { encoder, data, limit, range, seed, views, ...how };
  const result = await rank({ ...options, features: features?.[0] }, { output: outputOf(quiet) });
  report(json, result, [describeRank(result)]);
}

function describeRank(result: RankResult): string {
  const { rankme, alpha, uniformity, alignment, lidar, views, viewed } = result;
  const measures = [
    `RankMe ${rankme.toFixed(2)}`,
    ...(alpha === null ? [] : [`alpha ${alpha.toFixed(3)}`]),
    `uniformity ${uniformity.toFixed(3)}`,
    ...(alignment === undefined ? [] : [`alignment ${alignment.toFixed(3)}`]),
    ...(lidar === undefined ? [] : [`LiDAR ${lidar.toFixed(2)}`]),
  ];
  const of = views === undefined ? "" : `; ${views} views of ${viewed}`;
  return `${measures.join(", ")}  (${result.images} images, ${result.features} features${of})`;
}
