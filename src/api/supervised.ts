/** Training from classes: which images of a labelled folder it takes, which are held out, and when these say to stop. */
import { openDecoder } from "../data/decoder.ts";
import { openImages } from "../data/images.ts";
import {
  findImages,
  findLabelledImages,
  type SourceOptions,
  type Sources,
  takeFiles,
} from "../data/sources.ts";
import { expected } from "../errors.ts";
import { cores } from "../machine.ts";
import { type Features, rowsOfShare } from "../probe/features.ts";
import { RANKED, type Ranking } from "../probe/result.ts";
import { randomFor } from "../random.ts";
import { readRecords } from "../report/run.ts";
import type { Trainer } from "../runtime/trainer.ts";
import type { Manifest } from "../spec.ts";
import type { MetricsLog, RunConfig, Supervision } from "../train/run-folder.ts";
import type { EpochEvaluation, EvaluationOptions } from "./evaluation.ts";
import { type FeaturesOptions, featuresOf } from "./features.ts";

export interface Training {
  readonly sources: Sources;
  /** Undefined where no image is held out. */
  readonly heldOut?: Sources | undefined;
}

/**
 * The images that a run trains on: all, or with `supervision` those of a balanced subset of the labels, drawn by the seed,
 * but for the ones that are held out.
 *
 * @throws UserError like `findImages` and `findLabelledImages`
 */
export async function findTraining(
  data: string,
  options: SourceOptions,
  supervision: Omit<Supervision, "classes"> | undefined,
): Promise<Training> {
  if (!supervision) return { sources: await findImages(data, options), heldOut: undefined };
  const { labels, heldOut: share } = supervision;
  const { seed = 0 } = options;
  const all = await findLabelledImages(data, options);
  const used = takeFiles(all, rowsOfShare(all, labels, seed));
  const out = new Set(rowsHeldOut(used, share, seed));
  const rows = Array.from(used.files.keys());
  return {
    sources: takeFiles(
      used,
      rows.filter((row) => !out.has(row)),
    ),
    heldOut: out.size === 0 ? undefined : takeFiles(used, [...out]),
  };
}

/** That share of each class, drawn by the seed, ascending; one image of each class at least is left. */
export function rowsHeldOut(
  { labels, classes }: Pick<Sources, "labels" | "classes">,
  share: number,
  seed: number,
): readonly number[] {
  const rows = classes.flatMap((name, place) => {
    const own = Array.from(labels.keys()).filter((row) => labels[row] === place);
    const count = Math.min(Math.round(share * own.length), own.length - 1);
    return randomFor(seed, "held out", name).shuffled(own).slice(0, Math.max(0, count));
  });
  return rows.sort((a, b) => a - b);
}

/** Classes by their probabilities, the most probable first; equal ones in the order of the classes. */
export function rankingOf({ data, n, d }: Pick<Features, "data" | "n" | "d">): Ranking {
  const width = Math.min(RANKED, d);
  const places = new Int32Array(n * width);
  for (let row = 0; row < n; row++) {
    const own = data.subarray(row * d, (row + 1) * d);
    const order = Array.from(own.keys()).sort((a, b) => own[b]! - own[a]! || a - b);
    places.set(order.slice(0, width), row * width);
  }
  return { places, width };
}

type Looking = Pick<EvaluationOptions, "cacheBytes" | "warn" | "progress" | "signal">;

/** What gives the probabilities of classes of images. */
export type Classify = FeaturesOptions["encode"];

/** An opened folder of squares, and the probabilities of their classes each time that they are asked for. */
export function openClassified(
  sources: Sources,
  { side, d, title }: { readonly side: number; readonly d: number; readonly title: string },
  encode: Classify,
  { cacheBytes, warn, progress, signal }: Looking,
) {
  const decoder = openDecoder(sources, { warn });
  const images = openImages(sources, {
    decode: (file) => decoder.square(file, side),
    cacheBytes,
    concurrency: 2 * cores(),
  });
  return {
    probabilities: () => featuresOf(sources, { decoded: images.get, encode, d, title, progress, signal }),
    close: images.close,
  };
}

/** After an epoch: `validation`, the percent of the images held out whose class is the most probable. */
export function openValidation(
  sources: Sources,
  { encoder: { side } }: Manifest,
  trainer: Trainer,
  looking: Looking,
): EpochEvaluation {
  const how = { side, d: sources.classes.length, title: "validation:" };
  const encode: Classify = (pixels, n) => trainer.encode(pixels, [n, side, side, 3], "probabilities");
  const { probabilities, close } = openClassified(sources, how, encode, looking);
  return {
    async run() {
      const found = await probabilities();
      if (found.n === 0) throw expected(sources.root, "images held out that can be decoded", "none");
      const { places, width } = rankingOf(found);
      const right = found.labels.filter((label, i) => label === places[i * width]).length;
      return { validation: (100 * right) / found.n };
    },
    close,
  };
}

/** Whether the best of these values lies more than so many back; the first of equal ones counts. */
export const isStale = (values: readonly number[], patience: number): boolean =>
  values.length > 0 && values.length - 1 - values.indexOf(Math.max(...values)) >= patience;

/** Asked before a step: whether the images held out say that the run is over. Undefined where nothing was asked of them. */
export function earlyStop(
  run: string,
  { supervision }: RunConfig,
  metrics: Pick<MetricsLog, "last">,
): (() => Promise<boolean>) | undefined {
  const patience = supervision?.earlyStop ?? undefined;
  if (patience === undefined) return undefined;
  return async () => {
    if (metrics.last?.validation === undefined) return false; // in the midst of an epoch
    const records = await readRecords(run);
    return isStale(
      records.flatMap(({ validation }) => (validation === undefined ? [] : [validation])),
      patience,
    );
  };
}
