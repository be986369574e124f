/** Which images a folder holds. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { expected } from "../errors.ts";
import { drawBalanced } from "../random.ts";
import type { Modality } from "../spec.ts";
import { audioIn, imagesIn } from "./folder.ts";
import { type Items, openItems } from "./items.ts";
import type { LabelSets } from "./label-sets.ts";
import type { Objects } from "./objects/objects.ts";
import type { ValueRange } from "./values.ts";

export interface Sources {
  /** The folder, as it was given; of a list the one that holds all of its images. */
  readonly root: string;
  /** Paths relative to root, with "/" between their parts, sorted by code unit. */
  readonly files: readonly string[];
  /** What is heard with each of them, in the same order and form; where that was searched for. */
  readonly audio?: readonly string[] | undefined;
  /** Sorted names of the top-level folders that hold images, in Unicode's form NFC, or of objects; empty if not labelled. */
  readonly classes: readonly string[];
  /** Index into `classes` for each file; empty if not labelled. */
  readonly labels: Int32Array;
  /** Of files that may be of several classes, or of none, in place of `labels`: their places in `classes`, ascending. */
  readonly labelSets?: LabelSets | undefined;
  /** A line for what was left out: entries that cannot be read, images of other formats. Who decodes passes them on. */
  readonly notes: readonly string[];
  /** As it was given. */
  readonly range?: ValueRange | undefined;
  /** What views come from, where that is not each file by itself. */
  readonly items?: Items | undefined;
  /** Those in each file, of `classes`; where that was searched for. */
  readonly objects?: readonly Objects[] | undefined;
}

/** How many images or items a run goes through in an epoch. */
export const countOf = ({ files, items }: Sources): number =>
  items ? openItems(items, 0).count : files.length;

export interface SourceOptions {
  /** What files are searched for. @default "image" */
  readonly modality?: Modality | undefined;
  /** Take a sample of this many images, balanced over the classes where there are classes. @default all */
  readonly limit?: number | undefined;
  /** Decides the sample. @default 0 */
  readonly seed?: number | undefined;
  /** The values of black and white, in files whose values are not of 8 bits. @default 0 and 65535 where they have 16 */
  readonly range?: ValueRange | undefined;
}

/**
 * The images in a folder and all folders below it, or of a list, without labels, see `imagesIn`.
 * A sample is balanced over the top-level folders if there are two or more and all images lie in them.
 *
 * @throws UserError if there is no such folder, it cannot be read or it holds no image.
 */
export async function findImages(data: string, options: SourceOptions = {}): Promise<Sources> {
  const { root, files, notes } = await filesOf(data, options);
  const found = { root, files: sample(files, options), classes: [], labels: new Int32Array(0), notes };
  return { ...found, ...rangeOf(options) };
}

/**
 * The images in a folder with one folder per class, each searched like `findImages`. Images outside of the
 * class folders are left out, with a note; a sample leaves `classes` as they are, even those that it takes no image of.
 *
 * @throws UserError like `findImages`, or if there are fewer than two classes.
 */
export async function findLabelledImages(data: string, options: SourceOptions = {}): Promise<Sources> {
  const { root, files: found, notes } = await filesOf(data, options);
  const { rows, classes, notes: stray } = classesOf(root, found);
  if (classes.every((name) => SETS.has(name.toLowerCase()))) {
    const paths = classes.map((name) => join(root, name)).join(" or ");
    const found = `sets of images (${classes.join(", ")})`;
    throw expected(root, "one folder per class", found, `did you mean ${paths}?`);
  }
  const files = sample(
    rows.map((row) => found[row]!),
    options,
  );
  return {
    root,
    files,
    classes,
    labels: labelsOf(files, classes),
    notes: [...notes, ...stray],
    ...rangeOf(options),
  };
}

const filesOf = (root: string, { modality }: SourceOptions) =>
  modality === "audio" ? audioIn(root) : imagesIn(root);

/** Those of the rows named, in their order. */
export const takeFiles = (sources: Sources, rows: readonly number[]): Sources => ({
  ...sources,
  files: rows.map((row) => sources.files[row]!),
  ...(sources.audio && { audio: rows.map((row) => sources.audio![row]!) }),
  ...(sources.objects && { objects: rows.map((row) => sources.objects![row]!) }),
  labels: Int32Array.from(sources.labels.length ? rows : [], (row) => sources.labels[row]!),
  ...(sources.labelSets && { labelSets: rows.map((row) => sources.labelSets![row]!) }),
});

/** Each file's place in `classes`, the one of its top-level folder. */
export function labelsOf(files: readonly string[], classes: readonly string[]): Int32Array {
  const number = new Map(classes.map((name, i) => [name, i]));
  return Int32Array.from(files, (file) => number.get(classOf(file)!)!);
}

/**
 * The classes that files lie in, and the rows of those that lie in one; a note if others do not. `where` names the
 * folder or the list.
 * @throws UserError if there are fewer than two classes.
 */
export function classesOf(
  where: string,
  files: readonly string[],
): { rows: readonly number[]; classes: readonly string[]; notes: readonly string[] } {
  const rows = Array.from(files.keys()).filter((row) => classOf(files[row]!) !== undefined);
  const classes = [...new Set(rows.map((row) => classOf(files[row]!)!))].sort();
  if (classes.length < 2) {
    const found = classes.length === 0 ? "no class" : `one class "${classes[0]}"`;
    throw expected(where, "one folder per class (two or more)", found);
  }
  const stray = files.length - rows.length;
  const notes = stray > 0 ? [`${where}: left out images outside of the class folders: ${stray}`] : [];
  return { rows, classes, notes };
}

/** Folders of these names alone hold the classes of a data set, and are none themselves. */
export const SETS = new Set(["train", "training", "val", "valid", "validation", "dev", "test", "testing"]);

export function rangeOf({ range }: SourceOptions): Pick<Sources, "range"> {
  if (!range) return {};
  const [low, high] = range;
  if (Number.isFinite(low) && Number.isFinite(high) && low < high) return { range };
  throw expected("range", "the values of black and white, the lower one first", range.join(","));
}

/**
 * SHA-256 of the files' names in their order, of the items or objects, and of labels that are not in the names, in hexadecimal:
 * the same images at the same places give the same.
 */
export function fingerprint({
  files,
  audio = [],
  items,
  objects,
  classes = [],
  labelSets = [],
}: Pick<Sources, "files" | "audio" | "items" | "objects" | "labelSets"> &
  Partial<Pick<Sources, "classes">>): string {
  const hash = createHash("sha256");
  for (const file of [...files, ...audio]) hash.update(`${file}\0`);
  for (const set of labelSets) hash.update(`${set.map((place) => classes[place]).join("\0")}\n`);
  if (items) hash.update(items.fingerprint);
  if (objects) hash.update(JSON.stringify(classes));
  for (const { boxes, classes: own, ignored } of objects ?? [])
    hash.update(`${own.length}\0`).update(boxes).update(own).update(ignored);
  return hash.digest("hex");
}

/**
 * The name of the top-level folder, undefined for a file that lies directly in the root. In form NFC: systems write the
 * same name in different forms, and a class stays one.
 */
function classOf(file: string): string | undefined {
  const end = file.indexOf("/");
  return end < 0 ? undefined : file.slice(0, end).normalize("NFC");
}

/** Takes an image of each class in turn, each class in its own random order; sorted. */
export function sample(files: string[], { limit, seed = 0 }: SourceOptions): string[] {
  if (limit === undefined) return files;
  if (!Number.isInteger(limit) || limit < 1) throw expected("limit", "a whole number from 1", `${limit}`);
  if (limit >= files.length) return files;
  return drawBalanced(groupsOf(files), limit, seed, "limit").sort();
}

/** By top-level folder, or all in one group if some image lies in none. */
function groupsOf(files: string[]): Map<string, string[]> {
  if (files.some((file) => classOf(file) === undefined)) return new Map([["", files]]);
  const groups = new Map<string, string[]>();
  for (const file of files) {
    const own = groups.get(classOf(file)!);
    if (own) own.push(file);
    else groups.set(classOf(file)!, [file]);
  }
  return groups;
}
