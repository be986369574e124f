/** What a file's first bytes say of it: its format, and of a PNG or TIFF what its values are. */

/** Values and bands of a PNG or TIFF that are not those of an 8-bit picture. */
export interface Raster {
  /** Of a value. */
  readonly bits: number;
  readonly values: "unsigned" | "signed" | "float" | "complex";
  /** Values of a pixel. */
  readonly bands: number;
  /** How many of them, the first, are gray or color: 1 or 3. */
  readonly color: number;
  /** The band after those says how opaque a pixel is, and no other follows. */
  readonly alpha: boolean;
  /** The file says itself which bands are color and which are not. */
  readonly plain: boolean;
  /** The least value is white. */
  readonly whiteIsZero: boolean;
}

export interface Header {
  /** Undefined for a file of none of the formats that are read. */
  readonly format: "JPEG" | "PNG" | "WebP" | "AVIF" | "TIFF" | "GIF" | undefined;
  /** Undefined for 8-bit pictures, for what only libvips can say, and for a header that is broken: libvips says how. */
  readonly raster?: Raster | undefined;
}

/** The bytes of a file from `at` on, up to `length` of them. */
export type Read = (at: number, length: number) => Uint8Array;

export function headerOf(read: Read): Header {
  const start = read(0, 32);
  const text = (from: number, to: number) => String.fromCharCode(...start.subarray(from, to));
  if (text(0, 2) === "\xff\xd8") return { format: "JPEG" };
  if (text(0, 8) === "\x89PNG\r\n\x1a\n") return { format: "PNG", raster: pngRaster(start) };
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") return { format: "WebP" };
  if (text(4, 8) === "ftyp") return { format: "AVIF" };
  if (text(0, 3) === "GIF") return { format: "GIF" };
  if (/^(II[*+]\0|MM\0[*+])/.test(text(0, 4))) return { format: "TIFF", raster: tiffRaster(start, read) };
  return { format: undefined };
}

/** By the first chunk, IHDR: bits at 24, color type at 25 (1 palette, 2 color, 4 transparency). */
function pngRaster(start: Uint8Array): Raster | undefined {
  const [bits, type] = [start[24], start[25]!];
  if (bits !== 16) return undefined;
  const color = type & 2 ? 3 : 1;
  const alpha = (type & 4) > 0;
  const bands = color + (alpha ? 1 : 0);
  return { bits, values: "unsigned", bands, color, alpha, plain: true, whiteIsZero: false };
}

/** Of TIFF 6.0. */
const BITS_PER_SAMPLE = 258;
const PHOTOMETRIC = 262;
const SAMPLES_PER_PIXEL = 277;
const EXTRA_SAMPLES = 338;
const SAMPLE_FORMAT = 339;
const TAGS = [BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLES_PER_PIXEL, EXTRA_SAMPLES, SAMPLE_FORMAT];

const WHITE_IS_ZERO = 0;
const RGB = 2;
/** Of SampleFormat, from 1 on; 4 is "undefined", which readers take as unsigned. */
const VALUES = ["unsigned", "signed", "float", "unsigned", "complex", "complex"] as const;

function tiffRaster(start: Uint8Array, read: Read): Raster | undefined {
  const tags = tiffTags(start, read);
  const photometric = tags?.get(PHOTOMETRIC);
  // Palettes, CMYK, YCbCr, L*a*b*: 8-bit pictures, or what libvips knows more about.
  if (!tags || photometric === undefined || photometric > RGB) return undefined;
  const bits = tags.get(BITS_PER_SAMPLE) ?? 1;
  const bands = tags.get(SAMPLES_PER_PIXEL) ?? 1;
  const values = VALUES[(tags.get(SAMPLE_FORMAT) ?? 1) - 1] ?? "unsigned";
  const extra = tags.get(EXTRA_SAMPLES);
  const own = photometric === RGB ? 3 : 1;
  // 1 and 2 are the two ways of transparency; anything else, or nothing, is a band of another kind. Of floats and the
  // like nobody says which value is opaque.
  const countable = values === "unsigned" && bits <= 16;
  const alpha = bands === own + 1 && (extra === 1 || extra === 2) && countable;
  const plain = bands === own || alpha;
  if (bits <= 8 && values === "unsigned" && plain) return undefined;
  const color = plain ? own : bands < 3 ? 1 : 3;
  return { bits, values, bands, color, alpha, plain, whiteIsZero: photometric === WHITE_IS_ZERO };
}

/** More entries than any camera or scanner writes. */
const MAX_ENTRIES = 4096;
/** Bytes of a value: 8-bit, 16-bit, 32-bit, by its type. */
const SIZES: Readonly<Record<number, 1 | 2 | 4>> = { 1: 1, 3: 2, 4: 4 };

/** The first value of each of `TAGS`, of the first image; undefined if they cannot be read. BigTIFF has wider fields. */
function tiffTags(start: Uint8Array, read: Read): ReadonlyMap<number, number> | undefined {
  const little = start[0] === 0x49;
  const big = (start[2]! | start[3]!) === 43;
  const number = (bytes: Uint8Array, at: number, size: 1 | 2 | 4 | 8) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (size === 8) return Number(view.getBigUint64(at, little));
    if (size === 4) return view.getUint32(at, little);
    return size === 2 ? view.getUint16(at, little) : view.getUint8(at);
  };
  const [word, counted, entry] = big ? ([8, 8, 20] as const) : ([4, 2, 12] as const);
  const tags = new Map<number, number>();
  try {
    const folder = number(start, word, word);
    const count = number(read(folder, counted), 0, counted);
    if (count > MAX_ENTRIES) return undefined;
    const entries = read(folder + counted, count * entry);
    for (let at = 0; at < count * entry; at += entry) {
      const tag = number(entries, at, 2);
      const size = SIZES[number(entries, at + 2, 2)];
      if (size === undefined || !TAGS.includes(tag)) continue;
      const value = at + 4 + word;
      const inside = number(entries, at + 4, word) * size <= word;
      tags.set(
        tag,
        inside ? number(entries, value, size) : number(read(number(entries, value, word), size), 0, size),
      );
    }
    return tags;
  } catch (error) {
    if (error instanceof RangeError) return undefined; // past the end of the file
    throw error;
  }
}
