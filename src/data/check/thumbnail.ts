/** Images at 16 x 16 pixels: all that duplicates are found by. */
import type { Source } from "../canvas.ts";

/** Height and width, pixels. */
export const SIDE = 16;
/** Bytes of a thumbnail. */
export const THUMBNAIL_BYTES = SIDE * SIDE * 3;

/** The image, whatever its aspect, averaged over 16 x 16 areas: [16, 16, 3]. */
export function thumbnailOf({ width, height, pixels }: Source): Uint8Array {
  const [across, down] = [areas(width), areas(height)];
  const rows = new Float32Array(height * SIDE * 3); // [height, 16, 3]
  for (let y = 0; y < height; y++) {
    for (const [x, area] of across.entries()) {
      const to = 3 * (y * SIDE + x);
      for (const [at, share] of area) {
        const from = 3 * (y * width + at);
        for (let c = 0; c < 3; c++) rows[to + c]! += share * pixels[from + c]!;
      }
    }
  }
  const means = new Float32Array(THUMBNAIL_BYTES);
  for (const [y, area] of down.entries()) {
    for (const [at, share] of area) {
      for (let i = 0; i < 3 * SIDE; i++) means[y * 3 * SIDE + i]! += share * rows[at * 3 * SIDE + i]!;
    }
  }
  return Uint8Array.from(means, Math.round);
}

/** For each of 16 equal parts of a side the pixels that it covers, and the share that each has in it. */
function areas(length: number): readonly (readonly (readonly [at: number, share: number])[])[] {
  const part = length / SIDE;
  return Array.from({ length: SIDE }, (_, i) => {
    const [from, to] = [i * part, (i + 1) * part];
    const covered: [number, number][] = [];
    for (let at = Math.floor(from); at < Math.min(length, to); at++) {
      const share = (Math.min(to, at + 1) - Math.max(from, at)) / part;
      if (share > 1e-6) covered.push([at, share]);
    }
    return covered;
  });
}
