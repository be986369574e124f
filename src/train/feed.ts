/** What steps are fed besides scalars and state, prepared while the steps before them run. */
import { type Batch, type Loader, type LoaderOptions, openLoader } from "../data/loader.ts";
import { countOf, type Sources } from "../data/sources.ts";
import type { Manifest } from "../spec.ts";
import { type Draws, drawStep } from "./draws.ts";

/** A batch of images and what is drawn for it. */
export type Fed = Omit<Batch, "sizes" | "places" | "contents" | "audio"> & Draws & Labelled;

interface Labelled {
  /** The place of each image's class, int64 [n], where the manifest has labels. */
  readonly labels?: BigInt64Array;
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
    { overlap, labels: sources.labels, objects: sources.objects },
  );

/** A loader's batches, each with what is drawn for it out of so many images, and out of the labels or objects of them all. */
export const withDraws = (
  { stepsPerEpoch, next, close }: Pick<Loader, "stepsPerEpoch" | "next" | "close">,
  manifest: Manifest,
  seed: number,
  images: number,
  {
    overlap,
    labels,
    objects,
  }: { overlap?: number | undefined } & Partial<Pick<Sources, "labels" | "objects">> = {},
): Feed => ({
  stepsPerEpoch,
  async next() {
    const batch = await next();
    const { sizes, places, contents, audio, ...fed } = batch;
    const own = manifest.labels !== undefined && {
      labels: BigInt64Array.from(batch.indices, (index) => BigInt(labels![index]!)),
    };
    return { ...fed, ...drawStep(manifest, seed, batch, images, overlap, objects), ...own };
  },
  close,
});
