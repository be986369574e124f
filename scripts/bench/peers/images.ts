/** Folders of JPEG files to measure on, where no others are given. */
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { randomFor } from "../../../src/random.ts";

/** A folder of them. */
export interface Photos {
  readonly name: string;
  readonly count: number;
  /** Used in rotation, pixels. */
  readonly sizes: readonly (readonly [width: number, height: number])[];
}

/** Much as ImageNet's are. */
export const IMAGENET: Photos = {
  name: "photos",
  count: 384,
  sizes: [
    [500, 375],
    [375, 500],
    [640, 480],
    [400, 300],
  ],
};
export const WEB: Photos = {
  name: "web",
  count: 96,
  sizes: [
    [500, 375],
    [375, 500],
    [640, 480],
    [1024, 683],
    [683, 1024],
    [1280, 720],
  ],
};
/** As phones make them. */
export const PHONE: Photos = {
  name: "phone",
  count: 24,
  sizes: [
    [4000, 3000],
    [3000, 4000],
  ],
};

/**
 * Amplitude of an octave relative to the next coarser one: a little steeper than the spectrum of photographs, as
 * lenses have it.
 */
const FALL = 0.8;
/** Standard deviation of the coarsest octave. */
const CONTRAST = 40;
/** Share of the noise that is a channel's own; the rest is gray. */
const COLOR = 0.4;

/** Noise in octaves, a stand-in for photographs: as hard to decode as they are. Made once; gives the folder. */
export async function noiseFolder(root: string, { name, count, sizes }: Photos): Promise<string> {
  const dir = join(root, name);
  if (existsSync(dir)) return dir;
  const partial = `${dir}.partial`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  for (let i = 0; i < count; i++) {
    const [width, height] = sizes[i % sizes.length]!;
    const pixels = await noise(i, width, height);
    const image = sharp(pixels, { raw: { width, height, channels: 3 } });
    await image.jpeg({ quality: 90 }).toFile(join(partial, `${String(i).padStart(5, "0")}.jpg`));
  }
  await rename(partial, dir);
  return dir;
}

/** uint8 [height, width, 3] */
async function noise(seed: number, width: number, height: number): Promise<Uint8Array> {
  const random = randomFor("noise", seed);
  const sum = new Float32Array(width * height * 3).fill(128);
  let contrast = CONTRAST;
  for (let grid = 2; grid <= Math.min(width, height); grid *= 2) {
    const coarse = new Uint8Array(grid * grid * 3);
    for (let i = 0; i < coarse.length; i += 3) {
      const gray = random.uniform(-1, 1);
      for (let c = 0; c < 3; c++)
        coarse[i + c] = 128 + 127 * ((1 - COLOR) * gray + COLOR * random.uniform(-1, 1));
    }
    const fine = await sharp(coarse, { raw: { width: grid, height: grid, channels: 3 } })
      .resize(width, height, { fit: "fill", kernel: "cubic" })
      .raw()
      .toBuffer();
    const scale = contrast / 64;
    for (let i = 0; i < sum.length; i++) sum[i]! += scale * (fine[i]! - 128);
    contrast *= FALL;
  }
  return Uint8Array.from(sum, (x) => Math.min(255, Math.max(0, x)));
}
