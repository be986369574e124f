/** How large the images of a folder are. */
import { join } from "node:path";
import { loadSharp, look } from "./decode.ts";
import { mapInOrder } from "./parallel.ts";
import type { Sources } from "./sources.ts";

/** Images that are asked: the same ones for the same folder. */
const ASKED = 101;

/** The median of the shorter sides of some images, pixels; undefined if none can be read. */
export async function typicalSide({ root, files }: Sources): Promise<number | undefined> {
  const count = Math.min(ASKED, files.length);
  const some = Array.from({ length: count }, (_, i) => files[Math.floor((i * files.length) / count)]!);
  const sharp = await loadSharp();
  const sides = await mapInOrder(some, async (name) => {
    try {
      const path = join(root, name);
      const { file = path } = look(path);
      const { width, height } = await sharp(file, { limitInputPixels: false }).metadata(); // of the header alone
      return Math.min(width, height);
    } catch {
      return 0; // told when it is decoded
    }
  });
  const known = sides.filter((side) => side > 0).sort((a, b) => a - b);
  return known[Math.floor(known.length / 2)];
}
