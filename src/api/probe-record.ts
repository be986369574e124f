/** Writes what probes found of a run into its folder, for its report. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { messageOf } from "../errors.ts";
import { writeFileAtomic } from "../files/atomic.ts";
import { lockFolder } from "../files/lock.ts";
import type { TestImage } from "../probe/result.ts";
import {
  type Accuracy,
  askedBy,
  type Confusion,
  MOST,
  PROBES_FORMAT,
  type Probe,
  readProbes,
} from "../report/probes.ts";
import { latestStep } from "../train/checkpoint.ts";
import { openProgress } from "../train/progress.ts";
import { runFiles } from "../train/run-folder.ts";
import { readEncoder } from "./encoder.ts";
import type { ProbeResult, ProbesOptions } from "./probe.ts";
import type { RankOptions, RankResult } from "./rank.ts";
import type { SegmentationResult } from "./segmentation.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

/** Milliseconds to wait for others, who hold the file for some of them. */
const WAIT = 10_000;

/** What probes were asked for. */
type Asked = Pick<ProbesOptions, "encoder" | "train" | "test" | "limit" | "seed" | "range"> &
  Pick<RankOptions, "data">;

type Result = ProbeResult | RankResult | SegmentationResult;

/**
 * Adds results to probes.json of a run, in place of earlier ones that were asked for alike; of an encoder that is no run's
 * folder nothing is written. Where it cannot be written, a warning says so: it never costs the probe.
 */
export async function recordProbes(
  results: readonly Result[],
  asked: Asked,
  { output = QUIET }: Pick<Surroundings, "output"> = {},
): Promise<void> {
  const run = asked.encoder;
  if (run === undefined || !existsSync(runFiles(run).config)) return;
  try {
    const step = await stepProbed(run, results);
    const probes = results.map((result) => recordOf(result, asked, step));
    const known = new Set(probes.map(askedBy));
    // Another probe of the run may end at the same time.
    const lock = await lockFolder(run, { name: "probes.lock", wait: WAIT, advice: "probe again" });
    try {
      const older = (await readProbes(run)).filter((probe) => !known.has(askedBy(probe)));
      await writeFileAtomic(runFiles(run).probes, textOf([...probes, ...older]));
    } finally {
      lock.release();
    }
  } catch (error) {
    openProgress(output).note(`warning: the result is not in the run's folder: ${messageOf(error)}`);
  }
}

/** Steps that the encoder was trained for: probes of its stages see the latest checkpoint, others encoder.onnx. */
async function stepProbed(run: string, results: readonly { readonly kind: string }[]): Promise<number> {
  if (results.some(({ kind }) => kind === "layers" || kind === "segmentation"))
    return (await latestStep(runFiles(run).checkpoints)) ?? 0;
  return (await readEncoder(run)).metadata.steps;
}

function recordOf(result: Result, asked: Asked, step: number): Probe {
  const { limit, seed = 0, range } = asked;
  const about = {
    ...{ step, time: new Date().toISOString(), seed, limit },
    ...(range && { range: [range[0], range[1]] as [number, number] }),
  };
  if (result.kind === "rank") return { ...result, ...about, data: { images: resolve(asked.data!) } };
  if (result.kind === "segmentation") {
    const { confusion, classes, pictures, ...scores } = result;
    const { sprite, files, classes: seen } = pictures;
    const pairs = confusion.counts.flatMap((row, own) =>
      row.flatMap((n, taken): [number, number, number][] => (n > 0 ? [[own, taken, n]] : [])),
    );
    const [train, test] = [resolve(asked.data!), asked.test];
    return {
      ...{ ...scores, ...about, classes: [...classes] },
      data: test === undefined ? { images: train } : { train, test: resolve(test) },
      confusion: { names: [...confusion.names], pairs: mostOf(pairs) },
      pictures: { sprite, files: [...files], classes: [...seen] },
    };
  }
  const { images, classes, layers, seeds, ...scores } = result;
  return {
    ...scores,
    ...about,
    data: { train: resolve(asked.train!), test: resolve(asked.test!) },
    ...(seeds && { seeds: { ...seeds, top1: [...seeds.top1] } }),
    ...(layers && { layers: [...layers] }),
    ...byClass(classes, images),
  };
}

function byClass(
  classes: ProbeResult["classes"],
  images: readonly TestImage[],
): Pick<Accuracy, "classes" | "confusion"> {
  const names = [...new Set(images.flatMap((image) => [image.class, image.predicted]))].sort();
  if (names.length > MOST.classes) return {};
  const places = new Map(names.map((name, place) => [name, place]));
  const counts = new Map<number, number>();
  for (const image of images) {
    const pair = places.get(image.class)! * names.length + places.get(image.predicted)!;
    counts.set(pair, (counts.get(pair) ?? 0) + 1);
  }
  const pairs = [...counts]
    .sort(([a], [b]) => a - b)
    .map(([pair, n]): [number, number, number] => [Math.floor(pair / names.length), pair % names.length, n]);
  return { classes: [...classes], confusion: { names, pairs: mostOf(pairs) } };
}

/** The largest counts, of equal ones the first. */
const mostOf = (pairs: Confusion["pairs"]): Confusion["pairs"] =>
  pairs.sort(([, , most], [, , more]) => more - most).slice(0, MOST.pairs);

/** As many as a file may hold, the newest first. */
function textOf(probes: readonly Probe[]): string {
  const lines: string[] = [];
  let bytes = 100; // what is around them
  for (const probe of probes.slice(0, MOST.probes)) {
    const line = JSON.stringify(probe);
    bytes += Buffer.byteLength(line) + 2;
    if (bytes > MOST.bytes) break;
    lines.push(line);
  }
  return `{"format":${PROBES_FORMAT},"probes":[\n${lines.join(",\n")}\n]}\n`;
}
