/** What is wrong with a folder of images: broken files, duplicates, images that teach little; and a list of the others. */
import { existsSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { findSame } from "../data/check/exact.ts";
import { inspect, type Looked } from "../data/check/inspect.ts";
import { findNear } from "../data/check/near.ts";
import { LIST_EXTENSION, listText } from "../data/list.ts";
import { classesOf, findImages, labelsOf, type Sources, takeFiles } from "../data/sources.ts";
import { expected, UserError } from "../errors.ts";
import { checkWritable, writeFileAtomic } from "../files/atomic.ts";
import { nearByFeatures } from "../probe/near.ts";
import { duration } from "../train/duration.ts";
import { openProgress, type Progress } from "../train/progress.ts";
import { writeCheckPage } from "./check-page.ts";
import { type EncoderOptions, openEncoder } from "./encoder.ts";
import { checkRoom } from "./features.ts";
import { checkOwn, startOf } from "./report.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

/** What images may be left out of a list for. */
export const FAULTS = ["broken", "duplicates", "near", "flat", "grey", "small"] as const;
export type FaultName = (typeof FAULTS)[number];

export interface CheckOptions extends EncoderOptions {
  /** Finds near duplicates by the features of an encoder.onnx or a run as well. @default by thumbnails alone */
  readonly encoder?: string | undefined;
  /** Least correlation of the thumbnails of near duplicates. @default 0.94 */
  readonly near?: number | undefined;
  /** Least cosine of their features, with `encoder`. @default 0.98 */
  readonly nearFeatures?: number | undefined;
  /** Images whose shorter side has fewer pixels are small. @default half of the median */
  readonly small?: number | undefined;
  /** Takes a fixed, balanced sample of this many images. @default all */
  readonly limit?: number | undefined;
  /** The values of black and white, in files whose values are not of 8 bits. @default 0 and 65535 where they have 16 */
  readonly range?: readonly [black: number, white: number] | undefined;
  /** A page with thumbnails. @default none */
  readonly out?: string | undefined;
  /** A list of the images to keep, which `train` takes in place of a folder. @default none */
  readonly writeList?: string | undefined;
  /** What is left out of the list. @default broken, duplicates and near */
  readonly drop?: readonly FaultName[] | undefined;
}

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

/** How a figure is distributed over images. */
export interface Distribution {
  readonly least: number;
  readonly p5: number;
  readonly median: number;
  readonly p95: number;
  readonly greatest: number;
}

export interface CheckResult {
  readonly data: string;
  /** Looked at. */
  readonly images: number;
  readonly broken: readonly { readonly file: string; readonly why: string }[];
  /** Of the same bytes or pixels. */
  readonly duplicates: readonly CopyGroup[];
  readonly near: readonly CopyGroup[];
  readonly flat: readonly string[];
  readonly grey: readonly string[];
  readonly small: readonly string[];
  /** Pixels below which a shorter side is small. */
  readonly smallBelow: number;
  /** Pixels; undefined where no image can be decoded. */
  readonly shorterSide: Distribution | undefined;
  /** Width over height. */
  readonly aspect: Distribution | undefined;
  /** Images of each top-level folder, most first; empty where images lie in fewer than two. */
  readonly folders: readonly { readonly name: string; readonly images: number }[];
  /** Images that the list has, or would have. */
  readonly kept: number;
  /** What they were kept by. */
  readonly drop: readonly FaultName[];
  readonly list: string | null;
  readonly page: string | null;
  readonly seconds: number;
}

/**
 * Looks at all images of a folder, or of a list.
 * @throws UserError if there are none, a file cannot be written or the encoder not be opened; the signal's reason once it
 * is aborted
 */
export async function checkData(
  data: string,
  options: CheckOptions = {},
  { output = QUIET, signal }: Surroundings = {},
): Promise<CheckResult> {
  const started = performance.now();
  const { near: least = 0.94, nearFeatures = 0.98, limit, range, out, writeList, encoder } = options;
  const drop = options.drop ?? ["broken", "duplicates", "near"];
  for (const [flag, value] of [
    ["near", least],
    ["near-features", nearFeatures],
  ] as const)
    if (!(value > 0 && value <= 1)) throw expected(`--${flag}`, "a number above 0, of 1 at most", `${value}`);
  if (options.nearFeatures !== undefined && encoder === undefined)
    throw expected("--near-features", "it with --encoder", "none");
  if (out !== undefined) await checkOwn(out);
  if (writeList !== undefined) await checkList(writeList);
  const progress = openProgress(output);
  const sources = await findImages(data, { limit, range });
  const { files, notes } = sources;
  for (const note of notes) progress.note(`warning: ${note}`);
  const tell = telling(progress, signal);
  try {
    const { images, thumbnails } = await inspect(sources, {
      tick: tell("data check: decoding", files.length),
      warn: (line) => progress.note(`warning: ${line}`),
    });
    const looked = (place: number) => images[place] as Looked;
    const same = findSame(images);
    const again = new Set(same.flatMap(({ images: [, ...others] }) => others));
    // The largest first, so that it is the one that is kept.
    const area = (place: number) => looked(place).width * looked(place).height;
    const good = [...images.keys()].filter((place) => typeof images[place] !== "string");
    const order = good.filter((place) => !again.has(place)).sort((a, b) => area(b) - area(a) || a - b);
    const nearTold = tell("data check: near duplicates", order.length);
    const tick = async (done: number) => {
      if (done % 256 !== 0) return;
      nearTold(done);
      await new Promise(setImmediate);
    };
    const byThumbnail = await findNear(thumbnails, order, { least, tick });
    const copies = new Set(byThumbnail.map(({ image }) => image));
    const left = order.filter((place) => !copies.has(place));
    const byFeatures =
      encoder === undefined
        ? []
        : await alike(sources, left, encoder, nearFeatures, options, { output, ...(signal && { signal }) });
    const folderOf = foldersOf(sources);
    const across = (places: readonly number[]) => new Set(places.map(folderOf)).size > 1;
    const groupOf = (places: readonly number[], by: CopyGroup["by"], likeness: number): CopyGroup => ({
      files: places.map((place) => files[place]!),
      by,
      likeness: Number(likeness.toFixed(4)),
      acrossFolders: across(places),
    });
    const nearGroups = [
      ...grouped(byThumbnail).map(({ places, likeness }) => groupOf(places, "thumbnails", likeness)),
      ...grouped(byFeatures).map(({ places, likeness }) => groupOf(places, "features", likeness)),
    ];
    const sides = good.map((place) => Math.min(looked(place).width, looked(place).height));
    const shorterSide = distributionOf(sides);
    const smallBelow = options.small ?? Math.ceil((shorterSide?.median ?? 0) / 2);
    const those = (fits: (image: Looked) => boolean) => good.filter((place) => fits(looked(place)));
    const faults: Readonly<Record<FaultName, readonly number[]>> = {
      broken: [...images.keys()].filter((place) => typeof images[place] === "string"),
      duplicates: [...again],
      near: [...byThumbnail, ...byFeatures].map(({ image }) => image),
      flat: those(({ flat }) => flat),
      grey: those(({ grey }) => grey),
      small: those(({ width, height }) => Math.min(width, height) < smallBelow),
    };
    const named = (name: FaultName) => faults[name].map((place) => files[place]!);
    const dropped = new Set(drop.flatMap((name) => faults[name]));
    const kept = files.filter((_, place) => !dropped.has(place));
    const result: CheckResult = {
      data,
      images: files.length,
      broken: faults.broken.map((place) => ({ file: files[place]!, why: images[place] as string })),
      duplicates: same.map(({ images: places, bytes }) => groupOf(places, bytes ? "bytes" : "pixels", 1)),
      near: nearGroups,
      flat: named("flat"),
      grey: named("grey"),
      small: named("small"),
      smallBelow,
      shorterSide,
      aspect: distributionOf(good.map((place) => looked(place).width / looked(place).height)),
      folders: countsOf(files, folderOf),
      kept: kept.length,
      drop,
      list: writeList === undefined ? null : resolve(writeList),
      page: out === undefined ? null : resolve(out),
      seconds: (performance.now() - started) / 1000,
    };
    if (writeList !== undefined) await writeKept(writeList, sources, kept, progress);
    if (out !== undefined) await writeCheckPage(out, sources, result);
    return result;
  } finally {
    progress.end();
  }
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
const telling = (progress: Progress, signal: AbortSignal | undefined) => (what: string, all: number) => {
  const began = performance.now();
  return (done: number) => {
    signal?.throwIfAborted();
    const left = ((performance.now() - began) / 1000) * (all / Math.max(done, 1e-9) - 1);
    const share = all === 1 ? `${Math.round(100 * done)} %` : `${done}/${all} images`;
    progress.show(`${what}  ${share}  ${duration(left)} left`);
  };
};

function distributionOf(values: readonly number[]): Distribution | undefined {
  if (values.length === 0) return undefined;
  const sorted = Float64Array.from(values).sort();
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
  return { least: sorted[0]!, p5: at(0.05), median: at(0.5), p95: at(0.95), greatest: sorted.at(-1)! };
}

/** The top-level folder of an image, by its place; undefined for one in none, and for all where there are not two. */
function foldersOf({ root, files }: Sources): (place: number) => string | undefined {
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

function countsOf(files: readonly string[], folderOf: (place: number) => string | undefined) {
  const counts = new Map<string, number>();
  for (const place of files.keys()) {
    const name = folderOf(place);
    if (name !== undefined) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, images]) => ({ name, images })).sort((a, b) => b.images - a.images);
}

/** The first line of a list, so that no other file is taken for one. */
const HEAD = "# images to train on, by ort-pretrain data check";

/** @throws UserError if no list can be written there, or another file would be written over */
async function checkList(path: string): Promise<void> {
  if (!path.endsWith(LIST_EXTENSION))
    throw expected("--write-list", `a file that ends in ${LIST_EXTENSION}`, path);
  await checkWritable(path);
  if (existsSync(path) && !(await startOf(path)).includes(HEAD))
    throw expected(path, "a list or no file", "another file", "move it away or give another --write-list");
}

async function writeKept(path: string, { root }: Sources, kept: readonly string[], progress: Progress) {
  const from = dirname(resolve(path));
  const paths = kept.map((file) => relative(from, resolve(root, file)));
  const { text, leftOut } = listText(paths);
  for (const name of leftOut)
    progress.note(`warning: ${JSON.stringify(name)}: left out of the list: its name has a line break`);
  await writeFileAtomic(path, `${HEAD}\n${text}`);
}
