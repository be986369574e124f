/** What pixels say of an image by themselves: whether it is grey, and flat like a screenshot. */
import type { Source } from "../canvas.ts";

export interface Measures {
  /** Share of the pixels that have a colour. */
  readonly coloured: number;
  /** Share of the pixels that have the colour of those to the right and below. */
  readonly even: number;
  /** Colours, of 4096, that 95 % of the pixels have. */
  readonly colours: number;
}

/** Difference of channels, and of neighbouring pixels, that JPEG makes of none. */
const NOTICED = 8;
const UNNOTICED = 2;

export function measuresOf({ width, height, pixels }: Source): Measures {
  const counts = new Uint32Array(4096); // by four bits of each channel
  const same = (a: number, b: number) =>
    Math.abs(pixels[a]! - pixels[b]!) <= UNNOTICED &&
    Math.abs(pixels[a + 1]! - pixels[b + 1]!) <= UNNOTICED &&
    Math.abs(pixels[a + 2]! - pixels[b + 2]!) <= UNNOTICED;
  let [coloured, even] = [0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = 3 * (y * width + x);
      const [r, g, b] = [pixels[at]!, pixels[at + 1]!, pixels[at + 2]!];
      if (Math.max(r, g, b) - Math.min(r, g, b) > NOTICED) coloured++;
      counts[((r >> 4) << 8) | ((g >> 4) << 4) | (b >> 4)]!++;
      if (x + 1 < width && y + 1 < height && same(at, at + 3) && same(at, at + 3 * width)) even++;
    }
  }
  const inside = Math.max(1, (width - 1) * (height - 1));
  return { coloured: coloured / (width * height), even: even / inside, colours: coloursOf(counts, 0.95) };
}

/** How many of the counts, the greatest, make up a share of all. */
function coloursOf(counts: Uint32Array, share: number): number {
  const sorted = counts.filter((count) => count > 0).sort((a, b) => b - a);
  let left = share * sorted.reduce((sum, count) => sum + count, 0);
  let taken = 0;
  while (left > 0 && taken < sorted.length) left -= sorted[taken++]!;
  return taken;
}

/** Share of coloured pixels up to which an image is grey. */
const GREY = 0.005;

export const isGrey = ({ coloured }: Measures): boolean => coloured <= GREY;

/** Half of the pixels and more are even, and all of few colours: screenshots, diagrams, cartoons, text, plain areas. */
const [LEAST_EVEN, MOST_COLOURS] = [0.5, 16];

export const isFlat = ({ even, colours }: Measures): boolean => even >= LEAST_EVEN && colours <= MOST_COLOURS;
