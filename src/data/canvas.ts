/** Images of different sizes in one array. */

export interface Source {
  readonly width: number;
  readonly height: number;
  /** sRGB, [height, width, 3]. */
  readonly pixels: Uint8Array;
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

/** Copies the images onto a canvas that is large enough for each of them, and has at least `least` pixels a side. */
export function assemble(sources: readonly Source[], least = 0): Canvas {
  const height = Math.max(least, ...sources.map((source) => source.height));
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
