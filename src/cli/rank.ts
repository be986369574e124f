/** `probe --kind rank`. */
import type { EncoderOptions } from "../api/encoder.ts";
import { recordProbes } from "../api/probe-record.ts";
import { type RankResult, rank } from "../api/rank.ts";
import {
  type RankBaseline,
  type RankMeasured,
  readRankBaseline,
  writeRankBaseline,
} from "../api/rank-baseline.ts";
import { holdRank, measureRank } from "../api/rank-gate.ts";
import { expected } from "../errors.ts";
import { type ForeignFlags, splitForeign } from "./foreign.ts";
import { type Gateable, type GateFlags, gated } from "./gate.ts";
import { outputOf, report } from "./options.ts";

export interface RankFlags
  extends Pick<EncoderOptions, "provider" | "device" | "cudaLibraries" | "threads">,
    ForeignFlags,
    GateFlags {
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
  const { features, data, limit, range, seed, views, json, quiet, leastOverlap, ...where } = others;
  if (features && features.length !== 1) throw expected("--features", "one file", `${features.length}`);
  const { threads, provider, device, cudaLibraries } = where;
  const how = { threads, provider, device, cudaLibraries, model };
  const options = { encoder, data, features: features?.[0], limit, range, seed, views, ...how };
  const surroundings = { output: outputOf(quiet) };
  const work: Gateable<RankResult, RankMeasured, RankBaseline> = {
    plain: () => rank(options, surroundings),
    measure: (costs, baseline) => measureRank({ ...options, costs, baseline }, surroundings),
    hold: (measured, baseline, limits) => holdRank(measured, baseline, { ...limits, leastOverlap }),
    resultOf: (measured) => measured.result,
    linesOf: () => [],
    read: readRankBaseline,
    write: writeRankBaseline,
  };
  const { result, gate, lines, conclude } = await gated(work, encoder !== undefined, flags);
  // First, so that no fault of a file loses it.
  report(json, { ...result, ...(gate && { gate }) }, [describeRank(result), ...lines]);
  await recordProbes([result], options, surroundings);
  await conclude();
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
