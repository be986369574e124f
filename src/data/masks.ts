/** Images with masks: a class for each pixel. */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { expected } from "../errors.ts";
import { faultOf } from "../fault.ts";
import { imagesIn } from "./folder.ts";
import type { Box } from "./items.ts";
import { mapInOrder } from "./parallel.ts";
import { decodePlane, type Plane } from "./png.ts";
import { sizeOf } from "./sizes.ts";
import { rangeOf, type SourceOptions, type Sources, sample } from "./sources.ts";

/** The value of pixels that belong to no class, as in Pascal VOC. */
export const IGNORED = 255;

export interface Masked {
  /** The images. */
  readonly sources: Sources;
  /** Of each, in their order. */
  readonly masks: readonly Mask[];
  /** Of class indices from 0 on, where there is a classes.txt. */
  readonly names?: readonly string[];
}

export interface Mask extends Pick<Plane, "width" | "height"> {
  readonly path: string;
  /** Class indices in it, ascending. */
  readonly indices: readonly number[];
}

/**
 * The images in `images/` of a folder, see `findImages`, with a mask each in `masks/`: a PNG of the same path and size whose
 * values are class indices, or 255 where a pixel counts for nothing. Names of classes are the lines of `classes.txt`, or else
 * those given. Images whose masks hold no class are left out, with a note.
 *
 * @throws UserError if there are no images, a mask is missing, of another kind or size, or holds a class without a name.
 */
export async function findMasked(
  data: string,
  options: SourceOptions = {},
  given?: readonly string[],
): Promise<Masked> {
  const root = join(data, "images");
  const { files: found, notes } = await imagesIn(root);
  const folder = join(data, "masks");
  if (!(await stat(folder).catch(() => undefined))?.isDirectory())
    throw expected(folder, "a folder of masks, PNG files named as the images", "no such folder");
  const names = (await namesIn(join(data, "classes.txt"))) ?? given;
  const files = sample(found, options);
  const masks = await mapInOrder(files, (file) => maskFor(join(root, file), maskPath(folder, file), names));
  const sources = { root, files, classes: [], labels: new Int32Array(0), notes, ...rangeOf(options) };
  const all = { sources, masks, ...(names && { names }) };
  const rows = [...masks.keys()].filter((row) => masks[row]!.indices.length > 0);
  const empty = masks.length - rows.length;
  if (rows.length === 0) throw expected(folder, "masks that hold classes", `${IGNORED} alone`);
  if (empty === 0) return all;
  const kept = takeMasked(all, rows);
  const note = `${folder}: left out images whose masks hold ${IGNORED} alone: ${empty}`;
  return { ...kept, sources: { ...kept.sources, notes: [...notes, note] } };
}

/** Those of the rows named, in their order. */
export const takeMasked = ({ sources, masks, ...rest }: Masked, rows: readonly number[]): Masked => ({
  ...rest,
  sources: { ...sources, files: rows.map((row) => sources.files[row]!) },
  masks: rows.map((row) => masks[row]!),
});

const maskPath = (folder: string, file: string): string =>
  join(folder, `${file.replace(/\.[^./]*$/, "")}.png`);

async function maskFor(image: string, path: string, names: readonly string[] | undefined): Promise<Mask> {
  if (!(await stat(path).catch(() => undefined)))
    throw expected(path, `the mask of ${image}`, "no such file");
  const { width, height, values } = await decodePlane(path);
  const size = await sizeOf(image).catch(() => undefined); // told when it is decoded
  if (size && (size[0] !== width || size[1] !== height))
    throw expected(path, `a mask of ${size.join("x")} pixels, as ${image}`, `${width}x${height}`);
  const indices = indicesIn(values);
  const last = indices.at(-1) ?? 0;
  if (names && last >= names.length) {
    const wanted = `class indices up to ${names.length - 1}, for classes.txt names ${names.length}`;
    throw expected(path, `${wanted}, or ${IGNORED}`, `${last}`);
  }
  return { path, width, height, indices };
}

function indicesIn(values: Uint8Array): readonly number[] {
  const seen = new Uint8Array(256);
  for (const value of values) seen[value] = 1;
  return Array.from(seen.keys()).filter((index) => seen[index] && index !== IGNORED);
}

/** More than a file of so many names has. */
const MAX_NAMES = 2 ** 16;

/** A name a line; undefined where there is no file. */
async function namesIn(path: string): Promise<readonly string[] | undefined> {
  const stats = await stat(path).catch(() => undefined);
  if (!stats) return undefined;
  const wanted = `1 to ${IGNORED} names of classes, one a line`;
  if (!stats.isFile() || stats.size > MAX_NAMES) throw expected(path, wanted, "something else");
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw expected(path, wanted, faultOf(error));
  });
  const names = text.trimEnd().split(/\r?\n/);
  if (text.trim() === "" || names.length > IGNORED)
    throw expected(path, wanted, text.trim() === "" ? "none" : `${names.length}`);
  return names.map((name) => name.trim().normalize("NFC"));
}

/** A square of an image, and the part of it that is its own: each pixel of the image is one square's. */
export interface Square {
  readonly box: Box;
  readonly own: Box;
}

/** A square, and the place of its image. */
export interface Placed extends Square {
  readonly image: number;
}

/**
 * Squares that cover an image: as few as do, of its shorter side, evenly along its longer one. A pixel belongs to the square
 * whose centre is nearest.
 */
export function squaresOf({ width, height }: Pick<Plane, "width" | "height">): readonly Square[] {
  const [side, length] = [Math.min(width, height), Math.max(width, height)];
  const count = Math.ceil(length / side);
  const starts = Array.from({ length: count }, (_, i) =>
    count === 1 ? 0 : Math.round((i * (length - side)) / (count - 1)),
  );
  /** Where the pixels of the square before square i end. */
  const edge = (i: number) => Math.floor((starts[i - 1]! + starts[i]! + side) / 2);
  const along = (from: number, to: number): Box =>
    width > height
      ? { top: 0, left: from, height: side, width: to - from }
      : { top: from, left: 0, height: to - from, width: side };
  return starts.map((start, i) => ({
    box: along(start, start + side),
    own: along(i === 0 ? 0 : edge(i), i === count - 1 ? length : edge(i + 1)),
  }));
}

/**
 * What a mask holds of a square, [size, size], each the value at the centre of a pixel of that many a side: the square's own
 * pixels, and around them 255.
 */
export function maskOf({ width, values }: Plane, { box, own }: Square, size: number): Uint8Array {
  const out = new Uint8Array(size * size).fill(IGNORED);
  const place = (i: number) => Math.floor(((i + 0.5) * box.width) / size);
  for (let i = 0; i < size; i++) {
    const y = box.top + place(i);
    if (y < own.top || y >= own.top + own.height) continue;
    for (let j = 0; j < size; j++) {
      const x = box.left + place(j);
      if (x >= own.left && x < own.left + own.width) out[i * size + j] = values[y * width + x]!;
    }
  }
  return out;
}
