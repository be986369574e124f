/** Images as the artifact takes them: squares of its side. */
import { BEHIND } from "../../data/canvas.ts";
import type { Squares } from "../messages.ts";
import { SAMPLE } from "../sample.ts";

/** One image. */
export interface Square {
  readonly name: string;
  /** uint8 [side, side, 3], sRGB. */
  readonly pixels: Uint8Array;
}

/** A part of a picture: size x size pixels from its left top corner on. */
export interface Part {
  readonly left: number;
  readonly top: number;
  readonly size: number;
}

/** The largest square in the middle. */
export const centre = (width: number, height: number): Part => {
  const size = Math.min(width, height);
  return { left: (width - size) / 2, top: (height - size) / 2, size };
};

/** A part scaled to `side`, on the color that lies behind transparent images everywhere: uint8 [side, side, 3]. */
export function pixelsOf(picture: CanvasImageSource, { left, top, size }: Part, side: number): Uint8Array {
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.fillStyle = `rgb(${BEHIND.r} ${BEHIND.g} ${BEHIND.b})`;
  context.fillRect(0, 0, side, side);
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, left, top, size, size, 0, 0, side, side);
  const { data } = context.getImageData(0, 0, side, side);
  const pixels = new Uint8Array(3 * side * side);
  for (let i = 0; i < side * side; i++) pixels.set(data.subarray(4 * i, 4 * i + 3), 3 * i);
  return pixels;
}

/**
 * The centre square of an image file, upright as its EXIF says.
 *
 * @throws DOMException where the browser cannot decode it
 */
export async function decoded(file: Blob, side: number): Promise<Uint8Array> {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  try {
    return pixelsOf(bitmap, centre(bitmap.width, bitmap.height), side);
  } finally {
    bitmap.close();
  }
}

/** The built-in sample's images. */
export async function sampled(sheet: Blob, side: number): Promise<Square[]> {
  const bitmap = await createImageBitmap(sheet);
  const { columns, count, side: size } = SAMPLE;
  return Array.from({ length: count }, (_, i) => {
    const [left, top] = [(i % columns) * size, Math.floor(i / columns) * size];
    return { name: `emoji ${i + 1}`, pixels: pixelsOf(bitmap, { left, top, size }, side) };
  });
}

/** As they are sent to the worker. */
export function packed(
  squares: readonly Square[],
  side: number,
): Squares & { pixels: Uint8Array<ArrayBuffer> } {
  const pixels = new Uint8Array(squares.length * 3 * side * side);
  squares.forEach((square, i) => {
    pixels.set(square.pixels, i * 3 * side * side);
  });
  return { side, pixels, names: squares.map(({ name }) => name) };
}

export function unpacked({ side, pixels, names }: Squares): Square[] {
  const size = 3 * side * side;
  return names.map((name, i) => ({ name, pixels: pixels.subarray(i * size, (i + 1) * size) }));
}

/** Up to `count` of n places, as far apart as can be. */
export const apart = (n: number, count: number): number[] => {
  const taken = Math.min(n, count);
  return Array.from({ length: taken }, (_, i) => Math.floor(((i + 0.5) * n) / taken));
};
