/** The images trained on: squares of one side, in memory. */
import { expected } from "../../errors.ts";
import { mostImages } from "../bounds.ts";
import type { Squares } from "../messages.ts";

/** @throws UserError if they are not `side` pixels a side, more than a page can hold, or not what they say */
export function checkSquares({ side, pixels, names }: Squares, wanted: number): void {
  if (side !== wanted) throw expected("images", `squares of ${wanted} pixels`, `${side}`);
  const most = mostImages(wanted);
  if (names.length > most) throw expected("images", `at most ${most}`, `${names.length}`, "choose fewer");
  if (pixels.length !== names.length * bytesOf(wanted))
    throw expected("images", `${names.length * bytesOf(wanted)} values`, `${pixels.length}`);
}

const bytesOf = (side: number) => side * side * 3;

/** Copies of some, one after the other: uint8 [n, side, side, 3]. */
export function taken({ side, pixels }: Squares, indices: readonly number[]): Uint8Array {
  const size = bytesOf(side);
  const out = new Uint8Array(indices.length * size);
  indices.forEach((index, i) => {
    out.set(pixels.subarray(index * size, (index + 1) * size), i * size);
  });
  return out;
}
