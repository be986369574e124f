/** How large the images of a folder are. */
import { join } from "node:path";
import { loadSharp, look } from "./decode.ts";
import { mapInOrder } from "./parallel.ts";
import type { Sources } from "./sources.ts";

/** Images that are asked: the same ones for the same folder. */
const ASKED = 101;

/** The median of the shorter sides of some images, or with objects of the longer, pixels; undefined if none can be read. */
export async function typicalSide(sources: Sources): Promise<number | undefined> {
  if (sources.items?.side !== undefined) return sources.items.side;
  const side = sources.objects ? Math.max : Math.min; // as `Decoder.source` scales them
  const sides = (await someSizes(sources)).map((size) => side(...size)).sort((a, b) => a - b);
  return sides[Math.floor(sides.length / 2)];
}

/**
 * The side of a square canvas for images that are decoded with `shorterSide`, pixels, by the sizes of some; undefined where
 * all have one size, and so have their batches.
 */
export async function canvasFor(sources: Sources, shorterSide: number): Promise<number | undefined> {
  if (sources.items) return 2 * shorterSide; // whose pictures come once or twice
  const sizes = await someSizes(sources);
  if (new Set(sizes.map((size) => size.join())).size <= 1) return undefined;
  const longest = sources.objects ? shorterSide : 2 * shorterSide; // see `Decoder.source`
  return Math.min(longest, Math.max(...sizes.flat()));
}

/** Width and height of some images as they are shown, without those that cannot be read. */
async function someSizes({ root, files }: Sources): Promise<readonly (readonly [number, number])[]> {
  const count = Math.min(ASKED, files.length);
  const some = Array.from({ length: count }, (_, i) => files[Math.floor((i * files.length) / count)]!);
  const sizes = await sizesOf(root, some);
  return sizes.flatMap((size) => (size ? [size] : []));
}

/** Width and height of each image as it is shown; undefined where it cannot be read. */
export async function sizesOf(
  root: string,
  files: readonly string[],
): Promise<readonly (readonly [number, number] | undefined)[]> {
  return mapInOrder(files, async (name) => {
    try {
      return await sizeOf(join(root, name));
    } catch {
      return undefined; // told when it is decoded
    }
  });
}

/** Width and height of an image as it is shown, pixels. @throws an error of any kind if it cannot be read */
export async function sizeOf(path: string): Promise<readonly [width: number, height: number]> {
  const sharp = await loadSharp();
  const { file = path } = look(path);
  const { autoOrient } = await sharp(file, { limitInputPixels: false }).metadata(); // of the header alone
  return [autoOrient.width, autoOrient.height];
}
