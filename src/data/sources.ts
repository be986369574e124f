/** Which images a folder holds. */
import { createHash } from "node:crypto";
import type { Dirent } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { expected, messageOf, type UserError } from "../errors.ts";
import { randomFor } from "../random.ts";

/** Extensions that are read, in any case; what a file holds is found out when it is decoded. */
export const IMAGE_EXTENSIONS = ["jpg", "jpeg", "png", "webp", "avif", "tif", "tiff", "gif"] as const;

export interface Sources {
  /** The folder, as it was given. */
  readonly root: string;
  /** Paths relative to root, with "/" between their parts, sorted by code unit. */
  readonly files: readonly string[];
  /** Sorted names of the top-level folders that hold images; empty if not labelled. */
  readonly classes: readonly string[];
  /** Index into `classes` for each file; empty if not labelled. */
  readonly labels: Int32Array;
}

export interface SourceOptions {
  /** Take a sample of this many images, balanced over the classes where there are classes. @default all */
  readonly limit?: number | undefined;
  /** Decides the sample. @default 0 */
  readonly seed?: number | undefined;
}

/**
 * The images in a folder and all folders below it, without labels. Names that start with a dot are skipped.
 * A sample is balanced over the top-level folders if there are two or more and all images lie in them.
 *
 * @throws UserError if there is no such folder, it cannot be read or it holds no image.
 */
export async function findImages(root: string, options: SourceOptions = {}): Promise<Sources> {
  const files = await imagesIn(root);
  return { root, files: sample(files, options), classes: [], labels: new Int32Array(0) };
}

/**
 * The images in a folder with one folder per class, each searched like `findImages`. Images outside of the
 * class folders are left out; a sample leaves `classes` as they are, even those that it takes no image of.
 *
 * @throws UserError like `findImages`, or if there are fewer than two classes.
 */
export async function findLabelledImages(root: string, options: SourceOptions = {}): Promise<Sources> {
  const all = (await imagesIn(root)).filter((file) => classOf(file) !== undefined);
  const classes = [...new Set(all.map((file) => classOf(file)!))].sort();
  if (classes.length < 2) {
    const found = classes.length === 0 ? "no class" : `one class "${classes[0]}"`;
    throw expected(root, "one folder per class (two or more)", found);
  }
  const files = sample(all, options);
  const number = new Map(classes.map((name, i) => [name, i]));
  return { root, files, classes, labels: Int32Array.from(files, (file) => number.get(classOf(file)!)!) };
}

/** SHA-256 of the files' names in their order, in hexadecimal: the same images at the same places give the same. */
export function fingerprint({ files }: Pick<Sources, "files">): string {
  const hash = createHash("sha256");
  for (const file of files) hash.update(`${file}\0`);
  return hash.digest("hex");
}

/** The top-level folder, undefined for a file that lies directly in the root. */
function classOf(file: string): string | undefined {
  const end = file.indexOf("/");
  return end < 0 ? undefined : file.slice(0, end);
}

/** All images below root, sorted. */
async function imagesIn(root: string): Promise<string[]> {
  const what = await stat(root).catch((error) => {
    throw unreadable(root, error);
  });
  if (!what.isDirectory()) throw expected(root, "a folder of images", "a file", "give the folder it lies in");

  const files: string[] = [];
  const visited = new Set<string>(); // real paths
  const folders = [""];
  // Folders behind links wait until all others are read, so that an image is listed by its own path if it has one.
  const linked: string[] = [];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop() ?? linked.pop()) {
    const path = join(root, folder);
    const entries = await entriesOnce(path, visited);
    for (const entry of entries) {
      if (entry.name.startsWith(".")) continue;
      const file = folder === "" ? entry.name : `${folder}/${entry.name}`;
      const kind = await kindOf(entry, join(path, entry.name));
      if (kind === "folder") (entry.isSymbolicLink() ? linked : folders).push(file);
      else if (kind === "file" && hasImageExtension(file)) files.push(file);
    }
  }
  if (files.length === 0) {
    throw expected(root, `images (${IMAGE_EXTENSIONS.join(", ")})`, "none in it or in its folders");
  }
  return files.sort();
}

/** What a folder holds, in one order on every file system; nothing if it was read before under another path. */
async function entriesOnce(path: string, visited: Set<string>): Promise<Dirent[]> {
  try {
    const real = await realpath(path);
    if (visited.has(real)) return [];
    visited.add(real);
    const entries = await readdir(path, { withFileTypes: true });
    return entries.sort((a, b) => (a.name < b.name ? 1 : -1)); // the last one is popped first
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** What an entry is, or what it links to; a link that leads nowhere is neither. */
async function kindOf(entry: Dirent, path: string): Promise<"folder" | "file" | "other"> {
  const what = entry.isSymbolicLink() ? await stat(path).catch(() => undefined) : entry;
  if (what?.isDirectory()) return "folder";
  return what?.isFile() ? "file" : "other";
}

function hasImageExtension(file: string): boolean {
  return IMAGE_EXTENSIONS.some((extension) => file.toLowerCase().endsWith(`.${extension}`));
}

function unreadable(path: string, error: unknown): UserError {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOENT" || code === "ENOTDIR")
    return expected(path, "a folder of images", "nothing at this path");
  const found = code === "EACCES" || code === "EPERM" ? "one that may not be read" : messageOf(error);
  return expected(path, "a folder that can be read", found);
}

/** Takes an image of each class in turn, each class in its own random order; sorted. */
function sample(files: string[], { limit, seed = 0 }: SourceOptions): string[] {
  if (limit === undefined) return files;
  if (!Number.isInteger(limit) || limit < 1) throw expected("limit", "a whole number from 1", `${limit}`);
  if (limit >= files.length) return files;

  const groups = [...groupsOf(files)].map(([name, own]) => randomFor(seed, "limit", name).shuffled(own));
  const taken: string[] = [];
  for (let round = 0; taken.length < limit; round++) {
    for (const group of groups) if (round < group.length && taken.length < limit) taken.push(group[round]!);
  }
  return taken.sort();
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
