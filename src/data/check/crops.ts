/** Parts of a thumbnail: copies are often cut a little at their edges. */
import { SIDE } from "./thumbnail.ts";

/** From and to, as shares of a side. */
export type Span = readonly [from: number, to: number];
export interface Box {
  readonly x: Span;
  readonly y: Span;
}

/** Share of a side that a crop leaves out: before it, after it, or half of it at either end. */
const CUT = 0.08;
const SPANS: readonly Span[] = [
  [0, 1 - CUT],
  [CUT / 2, 1 - CUT / 2],
  [CUT, 1],
];

/** The whole, then the crops that an image's hash is taken of. */
export const CROPS: readonly Box[] = [
  { x: [0, 1], y: [0, 1] },
  ...SPANS.flatMap((x) => SPANS.map((y) => ({ x, y }))),
];

/** Where 16 samples across a span lie between the 16 pixels of a side: the pixel before each, and how far beyond it. */
export function samplesOf([from, to]: Span): { readonly at: Int32Array; readonly beyond: Float32Array } {
  const at = new Int32Array(SIDE);
  const beyond = new Float32Array(SIDE);
  for (let i = 0; i < SIDE; i++) {
    const place = Math.max(0, Math.min(SIDE - 1, (from + ((to - from) * (i + 0.5)) / SIDE) * SIDE - 0.5));
    at[i] = Math.min(SIDE - 2, Math.floor(place));
    beyond[i] = place - at[i]!;
  }
  return { at, beyond };
}
