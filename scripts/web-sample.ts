/** Makes sample.png, the images that the web page offers to those who have none at hand: emoji in a grid. */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { BEHIND } from "../src/data/canvas.ts";
import { SAMPLE } from "../src/web/sample.ts";

/** For the list of licences beside the page. */
export const SAMPLE_LICENCE = `sample.png: Noto Emoji (https://github.com/googlefonts/noto-emoji), copyright Google LLC:
Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0), scaled and laid out in a grid;
by way of the package emoji-datasource-google: MIT`;

/** Two emoji whose mean difference per value is less, at `COARSE` pixels a side, look alike: hours of a clock, say. */
const ALIKE = 14;
const COARSE = 10;
/** Of all emoji in the Unicode order every second one is looked at: neighbours there are often alike. */
const EVERY = 2;

interface Emoji {
  readonly image: string;
  readonly sort_order: number;
  readonly has_img_google: boolean;
}

/** Of the emoji that do not look like one before them `SAMPLE.count`, evenly spaced in the Unicode order; as PNG. */
export async function sampleSheet(): Promise<Buffer> {
  const { side, columns, count } = SAMPLE;
  const folder = dirname(createRequire(import.meta.url).resolve("emoji-datasource-google/package.json"));
  const all = JSON.parse(await readFile(join(folder, "emoji.json"), "utf8")) as Emoji[];
  const there = all.filter((emoji) => emoji.has_img_google).sort((a, b) => a.sort_order - b.sort_order);
  const looked = there.filter((_, i) => i % EVERY === 0);
  const pictures = await Promise.all(
    looked.map(({ image }) => {
      const opened = sharp(join(folder, "img/google/64", image)).resize(side, side);
      return opened.flatten({ background: BEHIND }).raw().toBuffer();
    }),
  );
  const kept: { readonly pixels: Buffer; readonly coarse: Float64Array }[] = [];
  for (const pixels of pictures) {
    const coarse = coarsened(pixels, side);
    if (!kept.some((other) => difference(coarse, other.coarse) < ALIKE)) kept.push({ pixels, coarse });
  }
  if (kept.length < count) throw new Error(`only ${kept.length} of ${looked.length} emoji look different`);
  const grid = Array.from({ length: count }, (_, i) => ({
    input: kept[Math.floor((i * kept.length) / count)]!.pixels,
    raw: { width: side, height: side, channels: 3 as const },
    left: (i % columns) * side,
    top: Math.floor(i / columns) * side,
  }));
  const size = { width: columns * side, height: (count / columns) * side };
  return sharp({ create: { ...size, channels: 3, background: BEHIND } })
    .composite(grid)
    .removeAlpha()
    .png({ compressionLevel: 9 })
    .toBuffer();
}

/** Means over squares of pixels: [COARSE, COARSE, 3] of [side, side, 3]. */
function coarsened(pixels: Uint8Array, side: number): Float64Array {
  const means = new Float64Array(3 * COARSE * COARSE);
  const each = side / COARSE;
  for (let i = 0; i < pixels.length; i++) {
    const [c, x, y] = [i % 3, Math.floor(i / 3) % side, Math.floor(i / 3 / side)];
    means[3 * (Math.floor(y / each) * COARSE + Math.floor(x / each)) + c]! += pixels[i]! / each ** 2;
  }
  return means;
}

/** Mean absolute difference of values, 0 to 255. */
function difference(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(a[i]! - b[i]!);
  return sum / a.length;
}
