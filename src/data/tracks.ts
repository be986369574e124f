/** Boxes of objects over the frames of a video: MOT's CSV, COCO's JSON with tracks, or a CSV that names its columns. */
import { basename, dirname } from "node:path";
import { expected, messageOf } from "../errors.ts";
import type { Box, Group, Picture } from "./items.ts";
import { leavingOut } from "./left-out.ts";
import { inFolders, openListing } from "./listed.ts";
import { rowsOf } from "./table.ts";

/** A box of a track, as a file has it: pixels, not always whole. */
export interface Tracked {
  readonly file: number;
  readonly track: string;
  /** Its image's place in time: a whole number. */
  readonly at: number;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  /** Where the file says so. */
  readonly where: string;
}

/**
 * The boxes of a file. Of MOT the images are those whose names are the numbers of its frames; elsewhere the order of time
 * is that of the numbers in the names of a folder's images.
 * @throws UserError if it cannot be read, or names images that the folder does not have.
 */
export function tracksIn(text: string, path: string, root: string, files: readonly string[]): Tracked[] {
  const found = path.toLowerCase().endsWith(".json")
    ? inCoco(text, path, root, files)
    : inTable(text, path, root, files);
  if (found.length === 0) throw expected(path, "boxes of tracks", "none");
  for (const { where, ...box } of found)
    for (const key of ["x", "y", "width", "height"] as const)
      if (!Number.isFinite(box[key])) throw expected(where, `a number for ${key}`, "none");
  return found;
}

const COLUMNS = ["image", "track", "x", "y", "width", "height"] as const;

function inTable(text: string, path: string, root: string, files: readonly string[]): Tracked[] {
  const rows = rowsOf(text, path);
  const [first] = rows;
  if (first?.fields.some((field) => field === "image")) {
    const places = COLUMNS.map((column) => first.fields.indexOf(column));
    const lacking = COLUMNS.filter((_, i) => places[i]! < 0);
    if (lacking.length > 0)
      throw expected(`${path}:1`, `columns ${COLUMNS.join(", ")}`, `no ${lacking.join(", ")}`);
    const listing = openListing(root, files, path);
    const times = timesOf(files);
    const found = rows.slice(1).flatMap(({ line, fields }) => {
      const [image, track, ...box] = places.map((place) => fields[place] ?? "");
      const file = listing.find(image!);
      if (file === undefined) return [];
      const [x, y, width, height] = box.map(numberOf) as [number, number, number, number];
      return [{ file, track: track!, at: times[file]!, x, y, width, height, where: `${path}:${line}` }];
    });
    listing.check();
    return found;
  }
  if (first && first.fields.length < 6)
    throw expected(`${path}:1`, `columns ${COLUMNS.join(", ")}, or MOT's`, `${first.fields.length} values`);
  const byFrame = framesOf(files, path, root);
  const missing = new Set<number>();
  const found = rows.flatMap(({ line, fields }) => {
    const [frame, id, x, y, width, height, counted = 1] = fields.slice(0, 7).map(numberOf);
    const where = `${path}:${line}`;
    if (!Number.isInteger(frame) || !Number.isFinite(id))
      throw expected(where, "a frame and a track first", `${fields[0]},${fields[1]}`);
    if (counted === 0) return []; // MOT marks so what is not to be taken
    const file = byFrame.get(frame!);
    if (file === undefined) missing.add(frame!);
    return [
      { file: file ?? -1, track: `${id}`, at: frame!, x: x!, y: y!, width: width!, height: height!, where },
    ];
  });
  if (missing.size > 0) {
    const frames = [...missing].slice(0, 3).join(", ");
    throw expected(
      path,
      `images of ${root} named by its frames`,
      `none for frame ${frames}${missing.size > 3 ? ` and ${missing.size - 3} more` : ""}`,
    );
  }
  return found;
}

const numberOf = (text: string): number => (text.trim() === "" ? Number.NaN : Number(text));

/** The images of one folder by the number that their name ends with. */
function framesOf(files: readonly string[], path: string, root: string): ReadonlyMap<number, number> {
  const frames = new Map<number, number>();
  files.forEach((file, i) => {
    const digits = /(\d+)\.[^.]*$/.exec(basename(file))?.[1];
    if (digits === undefined) return;
    if (frames.has(Number(digits)))
      throw expected(
        path,
        `one image for each frame in ${root}`,
        `two for ${Number(digits)}`,
        "MOT's tracks are of one video: give its folder",
      );
    frames.set(Number(digits), i);
  });
  return frames;
}

/** The place of each file among those of its folder. */
function timesOf(files: readonly string[]): Float64Array {
  const times = new Float64Array(files.length);
  for (const own of inFolders(files).values())
    own.forEach((file, at) => {
      times[file] = at;
    });
  return times;
}

interface Coco {
  readonly images?: readonly Readonly<Record<string, unknown>>[];
  readonly annotations?: readonly Readonly<Record<string, unknown>>[];
}

function inCoco(text: string, path: string, root: string, files: readonly string[]): Tracked[] {
  let coco: Coco;
  try {
    coco = JSON.parse(text) as Coco;
  } catch (error) {
    throw expected(path, "JSON", messageOf(error));
  }
  if (!Array.isArray(coco?.images) || !Array.isArray(coco.annotations))
    throw expected(path, "COCO's images and annotations", "others");
  const listing = openListing(root, files, path);
  const times = timesOf(files);
  const images = new Map(coco.images.map((image) => [image.id, image]));
  const found = coco.annotations.flatMap((annotation, i) => {
    const where = `${path}: annotations[${i}]`;
    const track = annotation.track_id ?? annotation.instance_id;
    if (track === undefined || track === null) return []; // of a thing that is not followed
    const image = images.get(annotation.image_id);
    if (!image) throw expected(where, "an image_id of images", JSON.stringify(annotation.image_id) ?? "none");
    const file = listing.find(`${image.file_name}`);
    const box = annotation.bbox;
    if (!Array.isArray(box) || box.length !== 4)
      throw expected(where, "a bbox of four numbers", JSON.stringify(box) ?? "none");
    if (file === undefined) return [];
    const frame = image.frame_id ?? image.frame_index;
    const at = typeof frame === "number" && Number.isInteger(frame) ? frame : times[file]!;
    const [x, y, width, height] = box.map(Number) as [number, number, number, number];
    const video = image.video_id ?? dirname(files[file]!);
    return [{ file, track: `${video} ${track}`, at, x, y, width, height, where }];
  });
  listing.check();
  return found;
}

export interface Tracks {
  readonly groups: readonly Group[];
  /** What was left out, a line for each reason. */
  readonly notes: readonly string[];
  /** Median of the boxes' shorter sides, pixels. */
  readonly side: number;
}

/**
 * A group for each track: its boxes, each with `margin` times its width and height more on either side, as far as the image
 * goes, in whole pixels.
 *
 * @param sizes of the images, by their place in the files; undefined where one cannot be read
 * @throws UserError if no track has boxes in two images.
 */
export function groupsOfTracks(
  tracked: readonly Tracked[],
  margin: number,
  sizes: ReadonlyMap<number, readonly [width: number, height: number]>,
  path: string,
): Tracks {
  const left = leavingOut();
  const tracks = new Map<string, { picture: Picture; at: number; where: string }[]>();
  for (const { file, track, at, where, ...box } of tracked) {
    const size = sizes.get(file);
    const region = size && regionOf(box, margin, size);
    if (!size) left.add("boxes of images that cannot be read", where);
    else if (!(box.width > 0 && box.height > 0)) left.add("boxes without a size", where);
    else if (!region) left.add("boxes outside of their images", where);
    else {
      const own = tracks.get(track) ?? [];
      tracks.set(track, own);
      own.push({ picture: { file, box: region }, at, where });
    }
  }
  const groups: Group[] = [];
  const sides: number[] = [];
  for (const own of tracks.values()) {
    own.sort((a, b) => a.at - b.at);
    const twice = own.find(({ at }, i) => i > 0 && at === own[i - 1]!.at);
    if (twice) throw expected(twice.where, "one box of a track in an image", "a second");
    if (own.length < 2) {
      left.add("tracks of one frame", own[0]!.where);
      continue;
    }
    sides.push(...own.map(({ picture: { box } }) => Math.min(box!.width, box!.height)));
    groups.push({ pictures: own.map(({ picture }) => picture), at: own.map(({ at }) => at), shots: [0] });
  }
  const { notes } = left;
  if (groups.length === 0)
    throw expected(path, "a track with boxes in two images", "none", notes.join("; ") || undefined);
  sides.sort((a, b) => a - b);
  return { groups, notes, side: sides[Math.floor(sides.length / 2)]! };
}

/** Undefined where the box lies outside of the image. Never beyond the box and its margin, but at least a pixel. */
function regionOf(
  { x, y, width, height }: Pick<Tracked, "x" | "y" | "width" | "height">,
  margin: number,
  [imageWidth, imageHeight]: readonly [number, number],
): Box | undefined {
  if (!(x < imageWidth && y < imageHeight && x + width > 0 && y + height > 0)) return undefined;
  const along = (start: number, length: number, end: number) => {
    const first = Math.max(0, Math.ceil(start - margin * length));
    const last = Math.min(end, Math.floor(start + (1 + margin) * length));
    const from = Math.min(first, end - 1, Math.max(0, Math.floor(start)));
    return last > first ? [first, last - first] : [from, 1];
  };
  const [left, boxWidth] = along(x, width, imageWidth) as [number, number];
  const [top, boxHeight] = along(y, height, imageHeight) as [number, number];
  return { top, left, height: boxHeight, width: boxWidth };
}
