/** What is wrong with a folder of images: broken files, duplicates, images that teach little; and a list of the others. */
import { existsSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { inspect, type Looked } from "../data/check/inspect.ts";
import { LIST_EXTENSION, listText } from "../data/list.ts";
import { findImages, type Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { checkWritable, writeFileAtomic } from "../files/atomic.ts";
import { openProgress, type Progress } from "../train/progress.ts";
import { type CopyGroup, findCopies, foldersOf, telling } from "./check-copies.ts";
import { writeCheckPage } from "./check-page.ts";
import type { EncoderOptions } from "./encoder.ts";
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
  /** Least cosine of their features about the mean of all, with `encoder`. @default 0.99 */
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

/** How a figure is distributed over images. */
export interface Distribution {
  readonly least: number;
  readonly p5: number;
  readonly median: number;
  readonly p95: number;
  readonly greatest: number;
  /** The images with the least and the greatest. */
  readonly leastFile: string;
  readonly greatestFile: string;
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
  surroundings: Surroundings = {},
): Promise<CheckResult> {
  const started = performance.now();
  const { near = 0.94, nearFeatures = 0.99, limit, range, out, writeList, encoder } = options;
  const drop = options.drop ?? ["broken", "duplicates", "near"];
  for (const [flag, value] of [
    ["near", near],
    ["near-features", nearFeatures],
  ] as const)
    if (!(value > 0 && value <= 1)) throw expected(`--${flag}`, "a number above 0, of 1 at most", `${value}`);
  if (options.nearFeatures !== undefined && encoder === undefined)
    throw expected("--near-features", "it with --encoder", "none");
  if (out !== undefined) await checkOwn(out);
  if (writeList !== undefined) await checkList(writeList);
  const progress = openProgress(surroundings.output ?? QUIET);
  const sources = await findImages(data, { limit, range });
  const { files, notes } = sources;
  for (const note of notes) progress.note(`warning: ${note}`);
  try {
    const inspection = await inspect(sources, {
      tick: telling(progress, surroundings.signal)("data check: decoding", files.length),
      warn: (line) => progress.note(`warning: ${line}`),
    });
    const { images } = inspection;
    const copies = await findCopies(sources, inspection, { ...options, near, nearFeatures }, surroundings);
    const looked = (place: number) => images[place] as Looked;
    const good = [...images.keys()].filter((place) => typeof images[place] !== "string");
    const shorterSide = distributionOf(files, good, (place) =>
      Math.min(looked(place).width, looked(place).height),
    );
    const smallBelow = options.small ?? Math.ceil((shorterSide?.median ?? 0) / 2);
    const those = (fits: (image: Looked) => boolean) => good.filter((place) => fits(looked(place)));
    const faults: Readonly<Record<FaultName, readonly number[]>> = {
      broken: [...images.keys()].filter((place) => typeof images[place] === "string"),
      duplicates: copies.again,
      near: copies.alike,
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
      duplicates: copies.duplicates,
      near: copies.near,
      flat: named("flat"),
      grey: named("grey"),
      small: named("small"),
      smallBelow,
      shorterSide,
      aspect: distributionOf(files, good, (place) => looked(place).width / looked(place).height),
      folders: countsOf(files, foldersOf(sources)),
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

/** Of the images at `places` of `files`. */
function distributionOf(
  files: readonly string[],
  places: readonly number[],
  measured: (place: number) => number,
): Distribution | undefined {
  if (places.length === 0) return undefined;
  const sorted = places.map((place) => [measured(place), files[place]!] as const).sort(([a], [b]) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
  const [least, greatest] = [at(0), at(1)];
  const [[p5], [median], [p95]] = [at(0.05), at(0.5), at(0.95)];
  return {
    least: least[0],
    p5,
    median,
    p95,
    greatest: greatest[0],
    leastFile: least[1],
    greatestFile: greatest[1],
  };
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
