/** The images that a folder and all folders below it hold, and what of it was left out. */
import type { Dirent } from "node:fs";
import { readdir, realpath, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import { expected, type UserError } from "../errors.ts";
import { faultOf } from "../fault.ts";
import { imagesListed, LIST_EXTENSION } from "./list.ts";

/** Extensions that are read, in any case; what a file holds is found out when it is decoded. */
export const IMAGE_EXTENSIONS = [
  ...["jpg", "jpeg", "jpe", "jif", "jfif"],
  ...["png", "apng", "webp", "avif", "tif", "tiff", "gif"],
] as const;

/** Of audio, those that are read here first. */
export const AUDIO_EXTENSIONS = [
  "wav",
  "flac",
  "mp3",
  "ogg",
  "oga",
  "opus",
  "m4a",
  "aac",
  "aif",
  "aiff",
] as const;

/** Of videos, those any frame of which is found by its time. */
export const SEEKABLE_EXTENSIONS: readonly string[] = ["mp4", "m4v", "mov", "mkv", "webm", "avi"];
const OTHER_VIDEOS = ["mpg", "mpeg", "wmv", "flv", "3gp", "mts", "m2ts", "ogv"];
const VIDEO_EXTENSIONS = [...SEEKABLE_EXTENSIONS, ...OTHER_VIDEOS];

/** Images that are not read: who has them in a folder would miss them. */
const OTHER_EXTENSIONS = (
  "bmp dib ico icns cur tga pcx ras xbm xpm pbm pgm ppm pnm pam pfm " +
  "jp2 j2k j2c jpc jpx jpf jxl jxr jls heic heif hif mpo bpg qoi flif " +
  "svg svgz eps psd psb xcf kra exr hdr rgbe dds ktx ktx2 " +
  "dng cr2 cr3 crw nef nrw arw srf sr2 raf orf rw2 pef srw raw 3fr iiq " +
  "fits fit fts dcm dicom nii mha mhd nrrd czi lif lsm nd2 svs ndpi scn"
).split(" ");

export interface Found {
  /** The folder: as it was given, or the one that holds all images of a list. */
  readonly root: string;
  /** Paths relative to it, with "/" between their parts, sorted by code unit. */
  readonly files: string[];
  /** A line for each entry that could not be read, and one for the images of other formats. */
  readonly notes: readonly string[];
}

/** What a folder is searched for. */
interface Wanted {
  readonly what: string;
  readonly extensions: readonly string[];
  /** Extensions of the same kind that are not read, and what to do about them. */
  readonly others: readonly string[];
  readonly advice: string;
  /** Whether a list of them is taken in place of a folder. */
  readonly listed?: true;
}

const IMAGES: Wanted = {
  what: "images",
  extensions: IMAGE_EXTENSIONS,
  others: [...OTHER_EXTENSIONS, ...VIDEO_EXTENSIONS],
  advice: "convert them to PNG or JPEG",
  listed: true,
};
const IMAGES_AND_VIDEOS: Wanted = {
  ...IMAGES,
  what: "images and videos",
  extensions: [...IMAGE_EXTENSIONS, ...SEEKABLE_EXTENSIONS],
  others: [...OTHER_EXTENSIONS, ...OTHER_VIDEOS],
  advice: "convert them to PNG, JPEG or MP4",
};
const VIDEOS: Wanted = { what: "videos", extensions: VIDEO_EXTENSIONS, others: [], advice: "" };
const AUDIO: Wanted = {
  what: "audio files",
  extensions: AUDIO_EXTENSIONS,
  others: ["wma", "amr", "ra", "mid", "midi", "ape", "wv", "au", "snd", "caf", "dsf", "ac3"],
  advice: "convert them to WAV",
};

/** Lists a folder, as node:fs does. */
export type List = (path: string) => Promise<Dirent[]>;

/** More entries that cannot be read than these are only counted. */
const MAX_LINES = 10;

/**
 * Names that start with a dot are skipped. Links are followed, but no folder is read twice. In place of a folder a list of
 * images is taken, see `imagesListed`.
 *
 * @throws UserError if there is no such folder, it cannot be read itself, or it holds no image.
 */
export const imagesIn = (root: string, list?: List): Promise<Found> => filesIn(root, IMAGES, list);

/** The same of audio files. @throws UserError as `imagesIn` */
export const audioIn = (root: string, list?: List): Promise<Found> => filesIn(root, AUDIO, list);

/** The same of images, and of videos whose frames can be sought. @throws UserError as `imagesIn` */
export const imagesAndVideosIn = (root: string): Promise<Found> => filesIn(root, IMAGES_AND_VIDEOS);

/** The same of videos. @throws UserError as `imagesIn` */
export const videosIn = (root: string): Promise<Found> => filesIn(root, VIDEOS);

/** The same of files with any of these extensions; there may be none. @throws UserError if it is no folder that can be read */
export const anyIn = (root: string, what: string, extensions: readonly string[]): Promise<Found> =>
  search(root, { what, extensions, others: [], advice: "" });

async function filesIn(root: string, wanted: Wanted, list?: List): Promise<Found> {
  const found = await search(root, wanted, list);
  if (found.files.length > 0) return found;
  const named = `${wanted.what} (${wanted.extensions.join(", ")})`;
  throw expected(root, named, "none in it or in its folders", found.notes.join("; ") || undefined);
}

async function search(
  root: string,
  wanted: Wanted,
  list: List = (path) => readdir(path, { withFileTypes: true }),
): Promise<Found> {
  const { what, extensions } = wanted;
  const stats = await stat(root).catch((error) => {
    throw unreadable(root, what, error);
  });
  if (stats.isFile() && wanted.listed && root.endsWith(LIST_EXTENSION)) return imagesListed(root);
  if (!stats.isDirectory()) {
    const list = wanted.listed ? ", or a list that ends in .txt" : "";
    throw expected(root, `a folder of ${what}`, "a file", `give the folder it lies in${list}`);
  }

  const files: string[] = [];
  const faults: string[] = [];
  const others = new Map<string, number>();
  const visited = new Set<string>(); // real paths
  const folders = [""];
  // Folders behind links wait until all others are read, so that an image is listed by its own path if it has one.
  const linked: string[] = [];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop() ?? linked.pop()) {
    const path = join(root, folder);
    const entries = await entriesOnce(path, visited, list).catch((error) => {
      if (folder === "") throw unreadable(root, what, error);
      faults.push(`${path}: the folder is left out: ${faultOf(error)}`);
      return [];
    });
    for (const entry of entries) {
      if (entry.name.startsWith(".")) continue;
      const file = folder === "" ? entry.name : `${folder}/${entry.name}`;
      const extension = extname(entry.name).slice(1).toLowerCase();
      const kind = await kindOf(entry, join(path, entry.name)).catch((error) => {
        faults.push(`${join(path, entry.name)}: left out: ${faultOf(error)}`);
      });
      if (kind === "folder") (entry.isSymbolicLink() ? linked : folders).push(file);
      else if (kind === "file" && isOneOf(extensions, extension)) files.push(file);
      else if (kind === "file" && isOneOf(wanted.others, extension))
        others.set(extension, (others.get(extension) ?? 0) + 1);
      else if (kind === "other" && isOneOf(extensions, extension))
        faults.push(`${join(path, entry.name)}: left out: not a file`);
    }
  }
  const notes = [...shortened(root, faults), ...leftOut(root, others, wanted)];
  return { root, files: files.sort(), notes };
}

/** What a folder holds, in one order on every file system; nothing if it was read before under another path. */
async function entriesOnce(path: string, visited: Set<string>, list: List): Promise<Dirent[]> {
  const real = await realpath(path);
  if (visited.has(real)) return [];
  visited.add(real);
  const entries = await list(path);
  return entries.sort((a, b) => (a.name < b.name ? 1 : -1)); // the last one is popped first
}

/** What an entry is, or what it links to. */
async function kindOf(entry: Dirent, path: string): Promise<"folder" | "file" | "other"> {
  const what = entry.isSymbolicLink() ? await stat(path) : entry;
  if (what.isDirectory()) return "folder";
  return what.isFile() ? "file" : "other";
}

const isOneOf = (extensions: readonly string[], extension: string) => extensions.includes(extension);

function shortened(root: string, faults: readonly string[]): readonly string[] {
  if (faults.length <= MAX_LINES) return faults;
  const more = faults.length - MAX_LINES;
  return [...faults.slice(0, MAX_LINES), `${root}: ${more} more entries are left out, which cannot be read`];
}

function leftOut(root: string, others: ReadonlyMap<string, number>, { advice }: Wanted): readonly string[] {
  if (others.size === 0) return [];
  const counts = [...others].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  const named = counts.map(([extension, count]) => `${count} .${extension}`).join(", ");
  return [`${root}: left out ${named}, of formats that are not read: ${advice}`];
}

function unreadable(path: string, what: string, error: unknown): UserError {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOENT" || code === "ENOTDIR")
    return expected(path, `a folder of ${what}`, "nothing at this path");
  return expected(path, "a folder that can be read", faultOf(error));
}
