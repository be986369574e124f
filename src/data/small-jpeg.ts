/**
 * Small JPEG files to pixels, with libjpeg-turbo alone. sharp takes 0.4 to 1 ms of a core for an image however small
 * it is, which is what a data set of small images then trains at; this takes 0.03 ms for 32 x 32 pixels, and gives
 * the same bytes.
 */
import type { Source } from "./canvas.ts";

/** Images of more pixels are left to sharp, whose decodes take long on a thread of their own and not on JavaScript's. */
const MAX_PIXELS = 96 * 96;

/** What of `JPEGDecoder` is used. It throws a number for a file that is broken, or only odd. */
interface Decoder {
  /** Where the file goes. */
  getEncodedBuffer(bytes: number): Uint8Array;
  decode(): void;
  /** [height, width, componentCount], until the next decode. */
  getDecodedBuffer(): Uint8ClampedArray;
}

interface Codec {
  default(): Promise<{ JPEGDecoder: new () => Decoder }>;
}

let loading: Promise<Decoder> | undefined;
let failures = 0;

async function load(): Promise<Decoder> {
  // @ts-expect-error: it comes without types
  const codec: Codec = await import("@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasmjs");
  const { JPEGDecoder } = await codec.default();
  return new JPEGDecoder();
}

/** Each failure costs the decoder some 13 KB of its memory: it breaks at about the 4,000th, so begins anew before. */
const MAX_FAILURES = 1000;

/**
 * The pixels of a file, if it is a small JPEG of which nothing else decides how it looks, and one that `wanted` takes
 * by its size. Otherwise undefined, also for one that is broken or odd: sharp may decode it, or says what is wrong.
 */
export async function decodeSmallJpeg(
  file: Uint8Array,
  wanted: (width: number, height: number) => boolean,
): Promise<Source | undefined> {
  const size = plainSize(file);
  if (!size || size.width * size.height > MAX_PIXELS || !wanted(size.width, size.height)) return undefined;
  loading ??= load();
  const decoder = await loading;
  try {
    decoder.getEncodedBuffer(file.length).set(file);
    decoder.decode();
  } catch {
    if (++failures % MAX_FAILURES === 0) loading = undefined;
    return undefined;
  }
  return { ...size, pixels: inColor(decoder.getDecodedBuffer(), size.width * size.height) };
}

/** A copy of [pixels, 3], of gray three times. */
function inColor(decoded: Uint8ClampedArray, pixels: number): Uint8Array {
  if (decoded.length === 3 * pixels) return new Uint8Array(decoded);
  const color = new Uint8Array(3 * pixels);
  decoded.forEach((value, i) => {
    color.fill(value, 3 * i, 3 * i + 3);
  });
  return color;
}

/** JFIF, a comment, tables of quantization and codes, the restart interval. Orientation and profiles have others. */
const PLAIN_SEGMENTS = new Set([0xe0, 0xfe, 0xdb, 0xc4, 0xdd]);
/** Baseline, extended and progressive frames with Huffman codes. */
const FRAMES = new Set([0xc0, 0xc1, 0xc2]);
const START_OF_SCAN = 0xda;

/** By the segments up to the first scan (ITU-T T.81, B.2): of a JPEG with 8 bits, gray or YCbCr, and nothing besides. */
function plainSize(file: Uint8Array): { width: number; height: number } | undefined {
  const number = (at: number) => (file[at]! << 8) | file[at + 1]!;
  if (number(0) !== 0xffd8) return undefined;
  let size: { width: number; height: number } | undefined;
  for (let at = 2; at + 10 < file.length && file[at] === 0xff; at += 2 + number(at + 2)) {
    const marker = file[at + 1]!;
    if (marker === START_OF_SCAN) return size;
    if (FRAMES.has(marker)) {
      const [bits, components] = [file[at + 4]!, file[at + 9]!];
      size = { height: number(at + 5), width: number(at + 7) };
      if (bits !== 8 || (components !== 1 && components !== 3) || size.width * size.height === 0)
        return undefined;
    } else if (!PLAIN_SEGMENTS.has(marker)) return undefined;
  }
  return undefined;
}
