/** The file that later encoders are held to without labels: what features tell, and the nearest neighbours of a sample. */
import * as z from "zod";
import { expected } from "../errors.ts";
import { writeFileAtomic } from "../files/atomic.ts";
import { type Neighbours, packNeighbours, unpackNeighbours } from "../probe/neighbours.ts";
import {
  costSchema,
  count,
  type Fingerprint,
  FORMAT,
  parseAs,
  readFormat,
  type SampleSettings,
  sampleSchema,
  setSchema,
  sha256,
} from "./baseline.ts";
import type { Cost } from "./cost.ts";
import type { RankResult } from "./rank.ts";

/** What was measured, and of what. */
interface Ranked<Result> {
  readonly result: Result;
  readonly neighbours: Neighbours;
  readonly subject: {
    /** SHA-256 of encoder.onnx. */
    readonly encoder: string;
    readonly data: Fingerprint;
    readonly settings: SampleSettings;
  };
  /** SHA-256 of the paths of the images that were decoded, in their order. */
  readonly decoded: string;
  readonly cost: Cost;
}

export type RankMeasured = Ranked<RankResult>;
/** Alignment and LiDAR, which depend on how views are drawn, are not kept. */
export interface RankBaseline extends Ranked<Pick<RankResult, "rankme" | "alpha" | "uniformity" | "images">> {
  readonly file: string;
}

const schema = z.object({
  kind: z.literal("rank"),
  encoder: sha256,
  data: setSchema,
  settings: sampleSchema,
  decoded: sha256,
  cost: costSchema,
  rankme: z.number(),
  alpha: z.number().nullable(),
  uniformity: z.number(),
  images: count,
  neighbours: z.base64(),
});

/** @throws UserError if there is none, it is damaged or one of accuracies. */
export async function readRankBaseline(file: string): Promise<RankBaseline> {
  const found = parseAs(schema, await readFormat(file), file, "a baseline of kind rank");
  const { encoder, data, settings, decoded, cost, rankme, alpha, uniformity, images } = found;
  const neighbours = unpackNeighbours(found.neighbours, images);
  if (!neighbours)
    throw expected(`${file}: "neighbours"`, `ten for each image of a sample of ${images}`, "another number");
  const subject = { encoder, data, settings };
  return { file, result: { rankme, alpha, uniformity, images }, neighbours, subject, decoded, cost };
}

/** Writes what later encoders are to be held to. */
export async function writeRankBaseline(file: string, measured: RankMeasured): Promise<void> {
  const { result, neighbours, subject, decoded, cost } = measured;
  const { kind, rankme, alpha, uniformity, images } = result;
  const figures = { rankme, alpha, uniformity, images, neighbours: packNeighbours(neighbours) };
  await writeFileAtomic(
    file,
    `${JSON.stringify({ format: FORMAT, kind, ...subject, decoded, cost, ...figures }, null, 2)}\n`,
  );
}
