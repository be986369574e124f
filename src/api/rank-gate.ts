/** The gate without labels: what features tell, and their nearest neighbours, held to those of a baseline. */
import { fingerprint } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { type Check, checkLeast } from "../probe/gate.ts";
import { chanceOverlap, meanOverlap, neighboursOf } from "../probe/neighbours.ts";
import {
  fingerprintOf,
  hashOf,
  refuseOtherDecoded,
  refuseOtherSet,
  refuseOtherSettings,
  sampleOf,
} from "./baseline.ts";
import type { CostName } from "./cost.ts";
import { readModelFile } from "./encoder.ts";
import { checkCosts, costsOf, type Gate, gateOf, type Limits, refuseOtherCosts } from "./gate.ts";
import { findRanked, type RankOptions } from "./rank.ts";
import type { RankBaseline, RankMeasured } from "./rank-baseline.ts";
import type { Surroundings } from "./surroundings.ts";

export interface MeasureRankOptions extends RankOptions {
  /** What of the encoder's costs is measured beside its size. @default none */
  readonly costs?: readonly CostName[] | undefined;
  /** The one that results are to be held to: what does not compare with it is refused before the work. */
  readonly baseline?: RankBaseline | undefined;
}

/**
 * Takes down what an encoder's features tell without labels, their nearest neighbours, and what decides whether another
 * compares with it.
 * @throws UserError as `rank` does, of features or fewer than 100 images, and if `baseline` is of other data or settings
 */
export async function measureRank(
  options: MeasureRankOptions,
  surroundings: Surroundings = {},
): Promise<RankMeasured> {
  const { encoder, baseline, costs = [], seed = 0, threads } = options;
  const settings = sampleOf(options);
  if (baseline) {
    refuseOtherSettings(baseline, settings);
    refuseOtherCosts(baseline, costs);
  }
  const { sources, tell } = await findRanked(options);
  if (!sources) throw expected("rank, baseline", "an encoder and a folder of images", "features");
  const data = await fingerprintOf(sources);
  if (baseline) refuseOtherSet(baseline.file, "data", baseline.subject.data, data);
  const opened = await readModelFile(encoder!);
  const { result, rows, images } = await tell(surroundings);
  return {
    result,
    neighbours: await neighboursOf(rows, seed, threads),
    subject: { encoder: hashOf([opened.bytes]), data, settings },
    decoded: fingerprint(images!),
    cost: await costsOf(opened, costs),
  };
}

export interface RankLimits extends Limits {
  /** Of the overlap of nearest neighbours, 0 to 1. @default none: it is only told */
  readonly leastOverlap?: number | undefined;
}

/**
 * Holds what was measured to a baseline.
 * @throws UserError if it does not compare with it
 */
export function holdRank(
  measured: RankMeasured,
  baseline: RankBaseline,
  { tolerance = 0, leastOverlap, costs = {} }: RankLimits = {},
): Gate {
  const { file, subject } = baseline;
  refuseOtherSettings(baseline, measured.subject.settings);
  refuseOtherSet(file, "data", subject.data, measured.subject.data);
  refuseOtherDecoded(file, "data", baseline.decoded, measured.decoded);
  const [before, now] = [baseline.result, measured.result];
  const rankme = { name: "RankMe", unit: "", baseline: before.rankme, now: now.rankme } as const;
  const overlap = meanOverlap(baseline.neighbours, measured.neighbours);
  const neighbours = { name: "neighbour overlap", unit: "", baseline: 1, now: overlap } as const;
  const measures: Check[] = [
    checkLeast(rankme, before.rankme * (1 - tolerance / 100)),
    { ...checkLeast(neighbours, leastOverlap), note: overlapNote(now.images) },
    ...(["alpha", "uniformity"] as const).flatMap((name): Check[] => {
      const [earlier, later] = [before[name], now[name]];
      if (earlier === null || later === null) return [];
      return [{ name, unit: "", baseline: earlier, now: later, verdict: "passed" }];
    }),
  ];
  const checks = { accuracies: [], measures, costs: checkCosts(baseline.cost, measured.cost, costs) };
  return gateOf(baseline, measured, checks, tolerance);
}

const overlapNote = (images: number): string =>
  `the mean share of an image's ten nearest neighbours that are the baseline's; unrelated encoders share ${chanceOverlap(images).toPrecision(2)}`;
