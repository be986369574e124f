/** How good a frozen encoder is: kNN and linear probes on labelled folders, or on features of them. */
import { findLabelledImages, type Sources, takeFiles } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { writeFileAtomic } from "../files/atomic.ts";
import { checkClasses, checkProbe, rowsOfShare, takeRows } from "../probe/features.ts";
import { knnVotes } from "../probe/knn.ts";
import { type LinearResult, linearProbe } from "../probe/linear.ts";
import { confusionCsv, type Ranking, type Scores, type Spread, scoresOf, spreadOf } from "../probe/result.ts";
import { type Embedder, modalityAt, openEmbedder } from "./audio-encoder.ts";
import { readEmbedding } from "./embedding.ts";
import type { Embedded, EncoderOptions } from "./encoder.ts";
import { checkRoom } from "./features.ts";
import { firstGiven } from "./foreign.ts";
import { columnsOf, type Layer, type LayeredEncoder, layerProbes, openLayers } from "./layers.ts";
import { recordProbes } from "./probe-record.ts";
import { findAgain, type Repeats, withRepeats } from "./repeat.ts";
import type { Surroundings } from "./surroundings.ts";
import { openTrainingViews } from "./views.ts";

export const PROBE_KINDS = ["knn", "linear", "layers"] as const;
export type ProbeKind = (typeof PROBE_KINDS)[number];

/** What probes are asked about: images by an encoder, or features. */
interface ProbeData extends EncoderOptions {
  /** encoder.onnx, a run's folder, or a third-party model. */
  readonly encoder?: string | undefined;
  /** Labelled folders: one folder for each class. */
  readonly train?: string | undefined;
  readonly test?: string | undefined;
  /** In place of an encoder and folders: .npy files that `embed` wrote. */
  readonly features?: readonly [train: string, test: string] | undefined;
  /** Takes fixed, balanced samples of this many images of each folder. */
  readonly limit?: number | undefined;
  /** Share of the training images' labels that is used: a fixed, balanced subset, of each class one image at least. @default 1 */
  readonly labels?: number | undefined;
  /** The values of black and white, in files whose values are not of 8 bits. @default what the encoder was trained with */
  readonly range?: readonly [black: number, white: number] | undefined;
  /** Of the samples and subsets, of linear training and of the bootstrap. @default 0 */
  readonly seed?: number | undefined;
  /** Linear alone: trains so often, each time with the next seed; the subset of labels stays. @default 1 */
  readonly seeds?: number | undefined;
  /** Linear alone: passes over the training images. @default 100 */
  readonly epochs?: number | undefined;
  /**
   * Linear alone: trains on random resized crops and flips, drawn anew for each epoch, in place of the images' centres.
   * Each epoch then encodes all of them. @default false
   */
  readonly augment?: boolean | undefined;
  /** Layers of a third-party model alone: names of the values that are its stages, in their order. */
  readonly stages?: readonly string[] | undefined;
  /** Resamples of the test images that the interval of top-1 is read from. @default 1000 */
  readonly resamples?: number | undefined;
  /**
   * Of a run's folder: trains its configuration with the next seeds too, so many runs in all, into `repeats/` of the folder,
   * and gives the spread. @default 1
   */
  readonly repeat?: number | undefined;
}

export interface ProbeOptions extends ProbeData {
  readonly kind: ProbeKind;
  /** Neighbours. @default 200, or all if there are fewer */
  readonly k?: number | undefined;
  /** Of the neighbours' votes. @default 0.1 */
  readonly temperature?: number | undefined;
}

export interface ProbesOptions extends ProbeData {
  readonly kinds: readonly ProbeKind[];
  /** Neighbours: a result for each. @default [200], or all if there are fewer */
  readonly k?: readonly number[] | undefined;
  /** Of the neighbours' votes: a result for each. @default [0.1] */
  readonly temperature?: readonly number[] | undefined;
}

export interface ProbeResult extends Scores {
  readonly kind: ProbeKind;
  /** Images. */
  readonly train: number;
  readonly test: number;
  /** Length of the feature vector. */
  readonly features: number;
  /** Share of the labels, if it was given. */
  readonly labels?: number;
  /** kNN alone. */
  readonly k?: number;
  readonly temperature?: number;
  /** Linear alone: the learning rate that won on held-out training images. */
  readonly lr?: number;
  readonly epochs?: number;
  readonly augment?: true;
  /** Linear alone, of several seeds: top-1 of each in turn, their mean and standard deviation. The rest is of the first. */
  readonly seeds?: { readonly top1: readonly number[]; readonly mean: number; readonly std: number };
  /** Layers alone: a linear classifier on each, from the first to the features, which the rest is of. */
  readonly layers?: readonly LayerScore[];
  /** Of several trainings, with a seed each. The rest is of the first, the run that was given. */
  readonly repeats?: Repeats;
}

export interface LayerScore extends Pick<Scores, "top1" | "low" | "high"> {
  readonly name: string;
  /** Values that the classifier saw. */
  readonly features: number;
  /** The learning rate that won on held-out training images. */
  readonly lr: number;
  /** Of several trainings: that of top-1. */
  readonly repeats?: Spread;
}

/** @throws UserError on folders that are not labelled, a damaged encoder, classes that differ. */
export async function probe(options: ProbeOptions, surroundings: Surroundings = {}): Promise<ProbeResult> {
  const { kind, k, temperature, ...data } = options;
  const lists = {
    ...(k !== undefined && { k: [k] }),
    ...(temperature !== undefined && { temperature: [temperature] }),
  };
  const [result] = await probes({ ...data, kinds: [kind], ...lists }, surroundings);
  return result!;
}

/** The same for several kinds and settings: features are computed once. A result for each, in the order named. */
export async function probes(
  options: ProbesOptions,
  surroundings: Surroundings = {},
): Promise<readonly ProbeResult[]> {
  const withSpread = await repeatsOf(options, surroundings);
  const { embed } = await findSets(options, surroundings);
  return withSpread(await probesOf(await embed(), options, surroundings));
}

/** Finds the trainings with other seeds that are asked for; the function trains and probes them, and adds the spread. */
export async function repeatsOf(
  { repeat, ...options }: ProbesOptions,
  surroundings: Surroundings,
): Promise<(results: readonly ProbeResult[]) => Promise<readonly ProbeResult[]>> {
  if (repeat === undefined) return async (results) => results;
  const again = await findAgain(options.encoder, repeat);
  const probesOfRun = async (encoder: string) => {
    const results = await probes({ ...options, encoder }, surroundings);
    await recordProbes(results, { ...options, encoder }, surroundings);
    return results;
  };
  return (results) => withRepeats(results, again, probesOfRun, surroundings);
}

/** Results of features. */
export async function probesOf(
  all: LabelledSets,
  options: ProbesOptions,
  surroundings: Surroundings,
): Promise<readonly ProbeResult[]> {
  const { kinds, k = [200], temperature = [0.1], seed = 0, resamples, threads, labels: share } = options;
  const { seeds = 1 } = options;
  const sets = featuresAlone(all);
  const [train, test] = [sets.train.features, sets.test];
  const labels = checkProbe(`${kinds[0]} probe`, train, test.features);
  const score = (ranking: Ranking) =>
    scoresOf(ranking, { files: test.files, labels, classes: train.classes }, { seed, resamples });
  const data = {
    ...{ train: train.n, test: test.features.n, features: train.d },
    ...(share !== undefined && { labels: share }),
  };
  const results: ProbeResult[] = [];
  for (const kind of kinds) {
    if (kind === "knn") {
      const votes = await knnVotes(train, test.features, { k, temperature, threads });
      for (const { ranking, ...settings } of votes)
        results.push({ kind, ...score(ranking), ...settings, ...data });
    } else if (kind === "layers") {
      const found = await layerProbes(all.train.features, all.test.features, all.layers, { seed, threads });
      const layers = found.map(({ layer: { name, channels, places }, ranking, lr }) => {
        const { top1, low, high } = score(ranking);
        return { name, top1, low, high, features: channels * places, lr };
      });
      const { ranking, lr, epochs } = found.at(-1)!;
      results.push({ kind, ...score(ranking), lr, epochs, layers, ...data });
    } else {
      const runs = await linearRuns(options, sets, surroundings);
      const { ranking, lr, epochs } = runs[0]!;
      const augmented = options.augment && { augment: true as const };
      const { values, mean, std } = spreadOf(runs.map(({ top1 }) => top1));
      const spread = seeds > 1 && { seeds: { top1: values, mean, std } };
      results.push({ kind, ...score(ranking), lr, epochs, ...augmented, ...spread, ...data });
    }
  }
  return results;
}

/** A linear classifier for each of the seeds. */
async function linearRuns(
  { encoder, seed = 0, seeds = 1, epochs, augment = false, ...where }: ProbesOptions,
  { train, test, images }: LabelledSets,
  surroundings: Surroundings,
): Promise<readonly LinearResult[]> {
  const { threads, provider, device, cudaLibraries, model } = where;
  const given = { threads, provider, device, cudaLibraries, model };
  const views = augment ? await openTrainingViews(encoder!, images!, train, given, surroundings) : undefined;
  try {
    const runs: LinearResult[] = [];
    for (let s = seed; s < seed + seeds; s++) {
      const drawn = views && { views: (epoch: number) => views.epoch(s, epoch) };
      runs.push(await linearProbe(train.features, test.features, { seed: s, epochs, threads, ...drawn }));
    }
    return runs;
  } finally {
    await views?.close();
  }
}

export interface LabelledSets {
  /** Of those images alone whose labels are used. */
  readonly train: Embedded;
  readonly test: Embedded;
  /** The training images, unless features were given. */
  readonly images?: Sources;
  /** The columns of each layer, where the features hold them all; else none. */
  readonly layers: readonly Layer[];
}

/** Without the layers before the features. */
function featuresAlone(sets: LabelledSets): LabelledSets {
  const last = sets.layers.at(-1);
  if (!last) return sets;
  const alone = (set: Embedded) => ({ ...set, features: columnsOf(set.features, last) });
  return { ...sets, train: alone(sets.train), test: alone(sets.test) };
}

/** Labelled images, or rows of features of them, as they were found: nothing is computed yet. */
export interface FoundSets {
  readonly train: FoundSet;
  readonly test: FoundSet;
  embed(): Promise<LabelledSets>;
}

export interface FoundSet extends Pick<Sources, "files" | "classes"> {
  /** The folder that the files lie in, where they are at hand. */
  readonly root?: string;
}

/** @throws UserError on sets that are not labelled, classes that differ, or options that do not go together. */
export async function findSets(options: ProbesOptions, surroundings: Surroundings): Promise<FoundSets> {
  const { kinds, encoder: path, model, features, limit, seed = 0, seeds = 1, range, labels } = options;
  if (!Number.isInteger(seeds) || seeds < 1)
    throw expected("probe, seeds", "a whole number of 1 or more", `${seeds}`);
  if (options.stages && !kinds.includes("layers"))
    throw expected("probe, stages", "them with kind layers", `kind ${kinds.join(", ")}`);
  if (features) {
    const given = [path, options.train, options.test, firstGiven(model)];
    if (given.some((value) => value !== undefined)) {
      throw expected("probe", "an encoder with folders, or features", "both");
    }
    for (const option of ["limit", "range", "augment"] as const) {
      if (options[option]) throw expected(`probe, ${option}`, "it with an encoder and images", "features");
    }
    if (kinds.includes("layers"))
      throw expected(
        "probe, kind layers",
        "an encoder with folders",
        "features",
        "embed writes the last layer alone",
      );
    const all = await readEmbedding(features[0], surroundings);
    const train = labels === undefined ? all : takeEmbedded(all, rowsOfShare(all.features, labels, seed));
    const test = await readEmbedding(features[1], surroundings);
    const found = ({ files, features: { classes } }: Embedded) => ({ files, classes });
    const embed = async () => ({ train, test, layers: [] });
    return { train: found(train), test: found(test), embed };
  }
  if (path === undefined || options.train === undefined || options.test === undefined) {
    const missing =
      path === undefined ? "no encoder" : `no folder to ${options.train ? "test on" : "train on"}`;
    throw expected("probe", "an encoder and labelled folders to train and test on, or features", missing);
  }
  const sample = { limit, seed, range, modality: await modalityAt(path) };
  const found = await findLabelledImages(options.train, sample);
  const train = labels === undefined ? found : takeFiles(found, rowsOfShare(found, labels, seed));
  const test = await findLabelledImages(options.test, sample);
  checkClasses(`${kinds[0]} probe`, train, test); // which would be done once all are embedded
  return { train, test, embed: () => embedSets(path, { train, test }, options, surroundings) };
}

const takeEmbedded = ({ features, files }: Embedded, rows: readonly number[]): Embedded => ({
  features: takeRows(features, rows),
  files: rows.map((row) => files[row]!),
});

async function embedSets(
  path: string,
  { train, test }: { readonly train: Sources; readonly test: Sources },
  { kinds, model, stages, threads, provider, device, cudaLibraries }: ProbesOptions,
  surroundings: Surroundings,
): Promise<LabelledSets> {
  const how = { threads, provider, device, cudaLibraries, model };
  const encoder: Embedder & Partial<Pick<LayeredEncoder, "layers">> = kinds.includes("layers")
    ? await openLayers(path, { ...how, stages }, surroundings)
    : await openEmbedder(path, how, surroundings);
  try {
    checkRoom(train.files.length + test.files.length, encoder.metadata.features);
    return {
      images: train,
      train: await encoder.embed(train, surroundings),
      test: await encoder.embed(test, surroundings),
      layers: encoder.layers ?? [],
    };
  } finally {
    await encoder.close();
  }
}

/** Of five classes or fewer each is among the five, and fewer neighbours name no five. */
export const hasTop5 = ({ classes, k }: ProbeResult): boolean => classes.length > 5 && (k ?? 5) >= 5;

/** A result without its images: what is printed. */
export function summaryOf({ images: _, ...summary }: ProbeResult): Omit<ProbeResult, "images"> {
  return summary;
}

/** Writes how many images of each class (rows) were taken for each (columns), as .csv. */
export async function writeConfusion(file: string, { images }: ProbeResult): Promise<void> {
  await writeFileAtomic(file, confusionCsv(images));
}
