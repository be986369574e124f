/** Image files to sRGB pixels: with sharp, small JPEGs at once. */
import { closeSync, openSync, readSync, statSync } from "node:fs";
import type { Sharp } from "sharp";
import { expected, messageOf, UserError } from "../errors.ts";
import { faultOf } from "../fault.ts";
import { BEHIND, padded, type Source } from "./canvas.ts";
import { type Header, headerOf } from "./header.ts";
import type { Box } from "./items.ts";
import { decodeSmallJpeg } from "./small-jpeg.ts";
import { decodeRaster, type Reading } from "./values.ts";

let loading: ReturnType<typeof load> | undefined;

/** sharp, loaded when it is needed: commands that decode nothing start sooner, others work while it loads. */
export function loadSharp() {
  loading ??= load();
  return loading;
}

async function load() {
  const { default: sharp } = await import("sharp");
  // We decode many images at a time: a thread per image is enough, and no operation is asked for twice.
  sharp.cache(false);
  sharp.concurrency(1);
  return sharp;
}

/** Images with more pixels are refused: 2^28 take up to 1 GiB while they are decoded. */
export const MAX_PIXELS = 2 ** 28;

/** Of a pixel; more than hyperspectral cameras have. */
const MAX_BANDS = 512;

/**
 * An image for training views: the whole of it or of a box, with its aspect, scaled down (never up) so that the shorter
 * side is at most `shorterSide` pixels and the longer one at most twice that. At least one pixel a side.
 *
 * Its orientation (EXIF) is applied, transparent parts lie on a mean gray, and of several frames the first is taken.
 * Values of more than 8 bits, and bands besides color: see `decodeRaster`.
 *
 * @throws UserError with the path if the file is no image, is broken or cut off, or exceeds `MAX_PIXELS`.
 */
export async function decodeSource(
  path: string,
  shorterSide: number,
  reading: Reading = {},
  box?: Box,
): Promise<Source> {
  const source = await pixelsOf(
    path,
    (width, height) =>
      !box && Math.min(width, height) <= shorterSide && Math.max(width, height) <= 2 * shorterSide,
    (image) =>
      (box ? image.extract({ ...box }) : image).resize(shorterSide, shorterSide, {
        fit: "outside",
        withoutEnlargement: true,
        kernel: "linear",
      }),
    reading,
  );
  // The length of the longer side is known only now. To ask for the size first would be another round trip through
  // JavaScript for every image, for the few that are so long.
  const excess = Math.max(source.width, source.height) / (2 * shorterSide);
  return excess > 1 ? shrunk(source, excess) : source;
}

/**
 * An image for probes: scaled (up too) so that the shorter side is `side` pixels, then cropped at its centre to
 * [side, side, 3]. Otherwise like `decodeSource`.
 */
export async function decodeSquare(path: string, side: number, reading: Reading = {}): Promise<Source> {
  return pixelsOf(
    path,
    (width, height) => width === side && height === side,
    (image) => image.resize(side, side, { fit: "cover", kernel: "linear" }),
    reading,
  );
}

/** What a square box shows of an image, scaled (up too) to [side, side, 3]. Otherwise like `decodeSource`. */
export async function decodeBox(path: string, side: number, reading: Reading, box: Box): Promise<Source> {
  return pixelsOf(
    path,
    (width, height) => width === side && height === side && box.width === side,
    (image) => image.extract({ ...box }).resize(side, side, { fit: "fill", kernel: "linear" }),
    reading,
  );
}

/**
 * An image for detection: all of it, scaled down (never up) so that the longer side is at most `side` pixels, and padded to a
 * square. Otherwise like `decodeSource`.
 */
export async function decodePadded(path: string, side: number, reading: Reading = {}): Promise<Source> {
  const source = await pixelsOf(
    path,
    (width, height) => Math.max(width, height) <= side,
    (image) => image.resize(side, side, { fit: "inside", withoutEnlargement: true, kernel: "linear" }),
    reading,
  );
  return padded(source);
}

/**
 * Decodes in one job on libuv's pool, JPEG at the smallest of its scales that is large enough; a small JPEG that
 * `fits` as it is at once.
 */
async function pixelsOf(
  path: string,
  fits: (width: number, height: number) => boolean,
  resize: (image: Sharp) => Sharp,
  reading: Reading,
): Promise<Source> {
  const { file, raster } = look(path);
  const small = file && (await decodeSmallJpeg(file, fits));
  if (small) return small;
  const sharp = await loadSharp();
  const open = (from: Uint8Array | string = file ?? path, ignoreIcc = false) =>
    // "error" refuses files that are cut off, which would decode half gray, and lets oddities of metadata pass.
    sharp(from, {
      failOn: "error",
      limitInputPixels: MAX_PIXELS,
      limitInputChannels: MAX_BANDS,
      sequentialRead: true,
      autoOrient: true,
      ignoreIcc,
    });
  const decode = async () => {
    if (raster) return decodeRaster(path, raster, open, resize, Object.values(BEHIND), reading);
    const raw = resize(open()).flatten({ background: BEHIND }).toColourspace("srgb").raw();
    const { data, info } = await raw.toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw expected(path, "an image in color or gray", `${info.channels} channels`);
    return { width: info.width, height: info.height, pixels: bytes(data) };
  };
  return decode().catch((error: unknown) => {
    throw error instanceof UserError ? error : expected(path, DECODABLE, firstLine(error));
  });
}

const DECODABLE = "an image that can be decoded";

/** Files up to this are read whole, bytes: more would hold JavaScript up, or many of them fill memory. */
const SMALL_FILE = 2 ** 16;

/**
 * What a file's first bytes say, and all of its bytes if it is small. sharp opens a file some twenty times to find out
 * what it is; of bytes, a quarter of the time that a small image takes is saved. Read at once, for a decode that had to
 * come back to JavaScript would wait for it.
 *
 * Formats other than those that we name are refused, though libvips reads some. SVG above all, under any name: it is a
 * program that draws, which may take any time and memory, and may ask for other files.
 */
export function look(path: string): Pick<Header, "raster"> & { readonly file?: Uint8Array } {
  try {
    const { size } = fileStats(path);
    const opened = openSync(path, "r");
    try {
      const read = (at: number, length: number) => readAt(opened, at, length);
      const whole = size <= SMALL_FILE ? read(0, Math.max(size, 32)) : undefined;
      const { format, raster } = headerOf(whole ? (at, n) => whole.subarray(at, at + n) : read);
      if (format) return { raster, ...(whole && { file: whole }) };
      if (whole?.length === 0) throw expected(path, DECODABLE, "an empty file");
    } finally {
      closeSync(opened);
    }
  } catch (error) {
    throw error instanceof UserError ? error : expected(path, DECODABLE, faultOf(error));
  }
  throw expected(path, DECODABLE, "none of JPEG, PNG, WebP, AVIF, TIFF and GIF");
}

/** Asked before it is opened: to open a named pipe would wait for ever. */
function fileStats(path: string) {
  const stats = statSync(path);
  if (!stats.isFile()) throw expected(path, DECODABLE, "something that is not a file");
  return stats;
}

/** Up to `length` bytes, fewer where the file ends. */
function readAt(file: number, at: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const more = readSync(file, bytes, done, length - done, at + done);
    if (more === 0) return bytes.subarray(0, done);
    done += more;
  }
  return bytes;
}

async function shrunk({ width, height, pixels }: Source, factor: number): Promise<Source> {
  const size = (side: number) => Math.max(1, Math.round(side / factor));
  const [newWidth, newHeight] = [size(width), size(height)];
  const sharp = await loadSharp();
  const data = await sharp(pixels, { raw: { width, height, channels: 3 } })
    .resize(newWidth, newHeight, { fit: "fill", kernel: "linear" })
    .raw()
    .toBuffer();
  return { width: newWidth, height: newHeight, pixels: bytes(data) };
}

function bytes(data: Buffer): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** libvips repeats itself over many lines. */
function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return messageOf(message.split("\n")[0]).replace(/:$/, ""); // after which it sometimes has nothing to say
}
