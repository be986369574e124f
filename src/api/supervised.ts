/** Training from classes: which labelled images it takes, which are held out, and what these say after an epoch. */
import { openDecoder } from "../data/decoder.ts";
import { openImages } from "../data/images.ts";
import { type LabelSets, rowsHeldOutOfSets, rowsOfShareCovering } from "../data/label-sets.ts";
import { findLabelTable, isLabelTable } from "../data/label-table.ts";
import { findObjects } from "../data/objects/objects.ts";
import {
  findImages,
  findLabelledImages,
  type SourceOptions,
  type Sources,
  takeFiles,
} from "../data/sources.ts";
import { expected } from "../errors.ts";
import { cores } from "../machine.ts";
import { meanAveragePrecision } from "../probe/average-precision.ts";
import { type Features, rowsOfShare } from "../probe/features.ts";
import { RANKED, type Ranking } from "../probe/result.ts";
import { randomFor } from "../random.ts";
import type { Trainer } from "../runtime/trainer.ts";
import type { Manifest } from "../spec.ts";
import type { RunConfig, Supervision } from "../train/run-folder.ts";
import type { EpochEvaluation, EvaluationOptions } from "./evaluation.ts";
import { type FeaturesOptions, featuresOf } from "./features.ts";

export interface Training {
  readonly sources: Sources;
  /** Undefined where no image is held out. */
  readonly heldOut?: Sources | undefined;
}

/**
 * The images that a run trains on: all, or with `supervision` those of a subset of the labels, drawn by the seed, but for the
 * ones that are held out. The subset is balanced where each image is of one class; of a table (`isLabelTable`) and of objects it
 * is drawn by image, see `drawCovering`.
 *
 * @throws UserError like `findImages`, `findLabelledImages`, `findLabelTable` and `findObjects`, or if no image held out has a
 *   label
 */
export async function findTraining(
  data: string,
  options: SourceOptions,
  supervision: Omit<Supervision, "classes"> | undefined,
): Promise<Training> {
  if (!supervision) return { sources: await findImages(data, options), heldOut: undefined };
  const { labels, heldOut: share } = supervision;
  const { seed = 0 } = options;
  const all = await findSupervised(data, options, supervision);
  const sets = setsOf(all);
  const used = takeFiles(
    all,
    sets ? rowsOfShareCovering(sets, labels, seed) : rowsOfShare(all, labels, seed),
  );
  const own = setsOf(used);
  const out = new Set(own ? rowsHeldOutOfSets(own, share, seed) : rowsHeldOut(used, share, seed));
  if (out.size > 0 && own && ![...out].some((row) => own[row]!.length > 0))
    throw expected("--held-out", "an image with a label or more", "none", "hold out more, or 0");
  const rows = Array.from(used.files.keys());
  return {
    sources: takeFiles(
      used,
      rows.filter((row) => !out.has(row)),
    ),
    heldOut: out.size === 0 ? undefined : takeFiles(used, [...out]),
  };
}

/** The images of a run's data, with what it learns of them. */
function findSupervised(
  data: string,
  options: SourceOptions,
  { task, images }: Pick<Supervision, "task" | "images">,
): Promise<Sources> {
  if (task) return findObjects(data, { ...options, images });
  return isLabelTable(data)
    ? findLabelTable(data, { ...options, images })
    : findLabelledImages(data, options);
}

/** The classes of each image, where it may be of several. */
const setsOf = ({ labelSets, objects }: Sources): LabelSets | undefined =>
  labelSets ?? objects?.map(({ classes }) => [...new Set(classes)].sort((a, b) => a - b));

/** All images of a run's data, without labels. @throws UserError like `findImages`, `findLabelTable` and `findObjects` */
export async function findUnlabelled(
  { data, supervision }: Pick<RunConfig, "data" | "supervision">,
  options: SourceOptions,
): Promise<Sources> {
  if (!supervision?.task && !isLabelTable(data)) return findImages(data, options);
  const found = await findSupervised(data, options, supervision ?? {});
  return { ...found, classes: [], labelSets: undefined, objects: undefined };
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

/**
 * After an epoch: `validation`, the percent of the images held out whose class is the most probable; where they may be of
 * several classes, the mean average precision, percent.
 */
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
      const validation = sources.labelSets
        ? meanAveragePrecision({ ...found, sets: found.kept.map((i) => sources.labelSets![i]!) })
        : rightOf(found);
      if (validation === undefined)
        throw expected(sources.root, "labelled images held out that can be decoded", "none");
      return { validation };
    },
    close,
  };
}

/** Percent of the rows whose class is the most probable; undefined of none. */
function rightOf(found: Features): number | undefined {
  const { places, width } = rankingOf(found);
  const right = found.labels.filter((label, i) => label === places[i * width]).length;
  return found.n === 0 ? undefined : (100 * right) / found.n;
}
