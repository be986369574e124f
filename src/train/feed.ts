/** What steps are fed besides scalars and state, prepared while the steps before them run. */
import { type Batch, type Loader, type LoaderOptions, openLoader } from "../data/loader.ts";
import { countOf, type Sources } from "../data/sources.ts";
import type { Manifest } from "../spec.ts";
import { type Draws, drawStep } from "./draws.ts";

/** A batch of images and what is drawn for it. */
export type Fed = Omit<Batch, "sizes" | "places" | "contents" | "audio"> & Draws & Labelled;

interface Labelled {
  /** Where the manifest has labels: the place of each image's class, int64 [n], or `multiHot` float32 [n, classes]. */
  readonly labels?: BigInt64Array | Float32Array;
}

export interface Feed {
  readonly stepsPerEpoch: number;
  /** For the next step. Rejects with a UserError if no image can be decoded. */
  next(): Promise<Fed>;
  /** Drops what is prepared and resolves when no image is being decoded any more. */
  close(): Promise<void>;
}

export interface FeedOptions extends LoaderOptions {
  readonly manifest: Manifest;
  /** See `drawViews`. @default 0 */
  readonly overlap?: number | undefined;
}

/** On this thread, see `openLoader`. @throws UserError as it does */
export const openFeed = (sources: Sources, { manifest, overlap, ...options }: FeedOptions): Feed =>
  withDraws(
    openLoader(sources, { ...options, audioRate: manifest.audio?.rate }),
    manifest,
    options.seed,
    countOf(sources),
    { overlap, labels: sources.labels, labelSets: sources.labelSets, objects: sources.objects },
  );

/** A loader's batches, each with what is drawn for it out of so many images, and out of the labels or objects of them all. */
export const withDraws = (
  { stepsPerEpoch, next, close }: Pick<Loader, "stepsPerEpoch" | "next" | "close">,
  manifest: Manifest,
  seed: number,
  images: number,
  {
    overlap,
    objects,
    ...labelled
  }: { overlap?: number | undefined } & Partial<LabelsOf & Pick<Sources, "objects">> = {},
): Feed => ({
  stepsPerEpoch,
  async next() {
    const batch = await next();
    const { sizes, places, contents, audio, ...fed } = batch;
    const own = manifest.labels !== undefined && {
      labels: labelsOf(batch.indices, labelled as LabelsOf, manifest.multiHot),
    };
    return { ...fed, ...drawStep(manifest, seed, batch, images, overlap, objects), ...own };
  },
  close,
});

type LabelsOf = Pick<Sources, "labels" | "labelSets">;

function labelsOf(
  indices: readonly number[],
  { labels, labelSets }: LabelsOf,
  classes: number | undefined,
): BigInt64Array | Float32Array {
  if (classes === undefined) return BigInt64Array.from(indices, (index) => BigInt(labels[index]!));
  const rows = new Float32Array(indices.length * classes);
  indices.forEach((index, i) => {
    for (const place of labelSets![index]!) rows[i * classes + place] = 1;
  });
  return rows;
}
