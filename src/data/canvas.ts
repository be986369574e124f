/** Images of different sizes in one array. */
import type { Box } from "./items.ts";

export interface Source {
  readonly width: number;
  readonly height: number;
  /** sRGB, [height, width, 3]. */
  readonly pixels: Uint8Array;
  /** Of one that is padded, what the image takes in its top left corner, pixels. */
  readonly content?: { readonly width: number; readonly height: number } | undefined;
  /** What is heard with it, all of it, mono; where that is asked for. */
  readonly audio?: Float32Array | undefined;
}

export interface Canvas {
  /** [n, height, width, 3], each image in its top left corner, zeros elsewhere. */
  readonly images: Uint8Array;
  /** Of the tallest image, pixels, or more. */
  readonly height: number;
  /** Of the widest image, pixels, or more. */
  readonly width: number;
  /** Of each image, pixels. */
  readonly sizes: readonly { readonly height: number; readonly width: number }[];
}

/**
 * What shows behind transparent parts: the mean color of photos. Normalised it is about zero, like the padding of
 * convolutions, so that what is not there says nothing; black or white would.
 */
export const BEHIND = { r: 124, g: 116, b: 104 };

/**
 * Copies the images onto a canvas that is large enough for each of them, and for `above` squares of `least` pixels one above
 * the other.
 */
export function assemble(sources: readonly Source[], least = 0, above = 1): Canvas {
  const height = Math.max(above * least, ...sources.map((source) => source.height));
  const width = Math.max(least, ...sources.map((source) => source.width));
  const images = new Uint8Array(sources.length * height * width * 3);
  sources.forEach((source, i) => {
    const row = source.width * 3;
    for (let y = 0; y < source.height; y++) {
      images.set(source.pixels.subarray(y * row, (y + 1) * row), (i * height + y) * width * 3);
    }
  });
  return { images, height, width, sizes: sources.map(({ height, width }) => ({ height, width })) };
}

/** An image in the top left corner of the smallest square that holds it, `BEHIND` beside or below it. */
export function padded({ width, height, pixels }: Source): Source {
  const content = { width, height };
  if (width === height) return { width, height, pixels, content };
  const side = Math.max(width, height);
  const line = Uint8Array.from({ length: 3 * side }, (_, i) => [BEHIND.r, BEHIND.g, BEHIND.b][i % 3]!);
  const square = new Uint8Array(3 * side * side);
  for (let y = 0; y < side; y++) square.set(line, 3 * side * y);
  for (let y = 0; y < height; y++)
    square.set(pixels.subarray(3 * width * y, 3 * width * (y + 1)), 3 * side * y);
  return { width: side, height: side, pixels: square, content };
}

/** The image that was `padded`. */
export function unpadded({ width: side, pixels, content, ...image }: Source): Source {
  if (!content) return { width: side, pixels, ...image };
  const { width, height } = content;
  if (width === side) return { width, height, pixels: pixels.subarray(0, 3 * width * height) };
  const own = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++)
    own.set(pixels.subarray(3 * side * y, 3 * (side * y + width)), 3 * width * y);
  return { width, height, pixels: own };
}

/** Images in one, each below the one before it, zeros beside the narrower ones; and where each lies. */
export function stacked(sources: readonly Source[]): { source: Source; places: readonly Box[] } {
  const width = Math.max(...sources.map((source) => source.width));
  const height = sources.reduce((sum, source) => sum + source.height, 0);
  const pixels = new Uint8Array(height * width * 3);
  let top = 0;
  const places = sources.map((source): Box => {
    const row = source.width * 3;
    for (let y = 0; y < source.height; y++)
      pixels.set(source.pixels.subarray(y * row, (y + 1) * row), (top + y) * width * 3);
    top += source.height;
    return { top: top - source.height, left: 0, height: source.height, width: source.width };
  });
  return { source: { width, height, pixels }, places };
}
