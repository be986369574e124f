/** Which images of a folder are copies of others. */
import { findSame } from "../data/check/exact.ts";
import type { Inspection, Looked } from "../data/check/inspect.ts";
import { findNear } from "../data/check/near.ts";
import { classesOf, labelsOf, type Sources, takeFiles } from "../data/sources.ts";
import { UserError } from "../errors.ts";
import { nearByFeatures } from "../probe/near.ts";
import { duration } from "../train/duration.ts";
import { openProgress, type Progress } from "../train/progress.ts";
import { type EncoderOptions, openEncoder } from "./encoder.ts";
import { checkRoom } from "./features.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

/** Images that are copies of one. */
export interface CopyGroup {
  /** The one to keep, the largest, and its copies. */
  readonly files: readonly string[];
  /** What they have in common. */
  readonly by: "bytes" | "pixels" | "thumbnails" | "features";
  /** Least correlation or cosine with the one to keep; 1 of exact ones. */
  readonly likeness: number;
  /** Whether they lie in several top-level folders: of classes, or of training and test images. */
  readonly acrossFolders: boolean;
}

export interface Copies {
  readonly duplicates: readonly CopyGroup[];
  readonly near: readonly CopyGroup[];
  /** Places of the images that are exact duplicates of another, and of those that are near duplicates. */
  readonly again: readonly number[];
  readonly alike: readonly number[];
}

export interface CopiesOptions extends EncoderOptions {
  /** Least correlation of thumbnails. */
  readonly near: number;
  /** By its features too; @default by thumbnails alone */
  readonly encoder?: string | undefined;
  /** Least cosine of features. */
  readonly nearFeatures: number;
}

/** Exact duplicates first; of the others near ones by thumbnails; of what is left near ones by features. */
export async function findCopies(
  sources: Sources,
  { images, thumbnails }: Inspection,
  { near: least, encoder, nearFeatures, ...where }: CopiesOptions,
  surroundings: Surroundings,
): Promise<Copies> {
  const progress = openProgress(surroundings.output ?? QUIET);
  const same = findSame(images);
  const again = new Set(same.flatMap(({ images: [, ...others] }) => others));
  // The largest first, so that it is the one that is kept.
  const area = (place: number) => (images[place] as Looked).width * (images[place] as Looked).height;
  const order = [...images.keys()]
    .filter((place) => typeof images[place] !== "string" && !again.has(place))
    .sort((a, b) => area(b) - area(a) || a - b);
  const tell = telling(progress, surroundings.signal)("data check: near duplicates", order.length);
  const tick = async (done: number) => {
    if (done % 256 !== 0) return;
    tell(done);
    await new Promise(setImmediate);
  };
  const byThumbnail = await findNear(thumbnails, order, { least, tick });
  progress.end();
  const copies = new Set(byThumbnail.map(({ image }) => image));
  const left = order.filter((place) => !copies.has(place));
  const byFeatures =
    encoder === undefined ? [] : await alike(sources, left, encoder, nearFeatures, where, surroundings);

  const folderOf = foldersOf(sources);
  const groupOf = (places: readonly number[], by: CopyGroup["by"], likeness: number): CopyGroup => ({
    files: places.map((place) => sources.files[place]!),
    by,
    likeness: Number(likeness.toFixed(4)),
    acrossFolders: new Set(places.map(folderOf)).size > 1,
  });
  return {
    duplicates: same.map(({ images: places, bytes }) => groupOf(places, bytes ? "bytes" : "pixels", 1)),
    near: [
      ...grouped(byThumbnail).map(({ places, likeness }) => groupOf(places, "thumbnails", likeness)),
      ...grouped(byFeatures).map(({ places, likeness }) => groupOf(places, "features", likeness)),
    ],
    again: [...again],
    alike: [...byThumbnail, ...byFeatures].map(({ image }) => image),
  };
}

/** Copies by what they are copies of, in the order of the first. */
function grouped(copies: readonly { image: number; of: number; likeness: number }[]) {
  const groups = new Map<number, { places: number[]; likeness: number }>();
  for (const { image, of, likeness } of copies) {
    const own = groups.get(of) ?? { places: [of], likeness: 1 };
    own.places.push(image);
    groups.set(of, { places: own.places, likeness: Math.min(own.likeness, likeness) });
  }
  return [...groups.values()];
}

/** Near duplicates by features among the images at `places`; `image` and `of` are places of `sources`. */
async function alike(
  sources: Sources,
  places: readonly number[],
  path: string,
  least: number,
  { provider, device, cudaLibraries, threads, model }: EncoderOptions,
  surroundings: Surroundings,
) {
  const encoder = await openEncoder(path, { provider, device, cudaLibraries, threads, model }, surroundings);
  try {
    checkRoom(places.length, encoder.metadata.features);
    const some = { ...takeFiles(sources, places), notes: [] };
    const { features, files } = await encoder.embed(some, surroundings);
    const placeOf = new Map(places.map((place) => [sources.files[place]!, place]));
    const progress = openProgress(surroundings.output ?? QUIET);
    const tell = telling(progress, surroundings.signal)("data check: features", 1);
    const copies = await nearByFeatures(features, { least, threads, tick: tell });
    const at = (row: number) => placeOf.get(files[row]!)!;
    return copies.map(({ image, of, likeness }) => ({ image: at(image), of: at(of), likeness }));
  } finally {
    await encoder.close();
  }
}

/** Shows how much of `all` is done, and how long the rest will take. */
export const telling =
  (progress: Progress, signal: AbortSignal | undefined) => (what: string, all: number) => {
    const began = performance.now();
    return (done: number) => {
      signal?.throwIfAborted();
      const left = ((performance.now() - began) / 1000) * (all / Math.max(done, 1e-9) - 1);
      const share = all === 1 ? `${Math.round(100 * done)} %` : `${done}/${all} images`;
      progress.show(`${what}  ${share}  ${duration(left)} left`);
    };
  };

/** The top-level folder of an image, by its place; undefined for one in none, and for all where there are not two. */
export function foldersOf({ root, files }: Sources): (place: number) => string | undefined {
  try {
    const { rows, classes } = classesOf(root, files);
    const labels = labelsOf(
      rows.map((row) => files[row]!),
      classes,
    );
    const names = new Map(rows.map((row, i) => [row, classes[labels[i]!]!]));
    return (place) => names.get(place);
  } catch (error) {
    if (error instanceof UserError) return () => undefined;
    throw error;
  }
}
