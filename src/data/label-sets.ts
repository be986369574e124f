/** Subsets of images that may be of several classes, or of none: drawn by image, with every class in them where that can be. */
import { expected } from "../errors.ts";
import { randomFor } from "../random.ts";

/** The places of each image's classes, ascending. */
export type LabelSets = readonly (readonly number[])[];

/**
 * So many rows, ascending, drawn by the key: as many more as it takes for one of each class, and all if there are no more. Of
 * two counts the smaller draw is part of the larger.
 */
export function drawCovering(
  sets: LabelSets,
  count: number,
  ...key: readonly (number | string)[]
): readonly number[] {
  const order = randomFor(...key).shuffled(Array.from(sets.keys()));
  const seen = new Set<number>();
  const brings = (row: number) => {
    const known = seen.size;
    for (const place of sets[row]!) seen.add(place);
    return seen.size > known;
  };
  const first = order.filter(brings);
  const among = new Set(first);
  const taken = [...first, ...order.filter((row) => !among.has(row))].slice(0, Math.max(count, first.length));
  return taken.sort((a, b) => a - b);
}

/** The same of a share of the images. @throws UserError if it is none. */
export function rowsOfShareCovering(sets: LabelSets, share: number, seed: number): readonly number[] {
  if (!(share > 0 && share <= 1)) throw expected("labels", "a share above 0, of 1 at most", `${share}`);
  return drawCovering(sets, Math.round(share * sets.length), seed, "labels");
}

/** That share of the rows, drawn by the seed, ascending; fewer where a class would else have no image left. */
export function rowsHeldOutOfSets(sets: LabelSets, share: number, seed: number): readonly number[] {
  const left = new Map<number, number>();
  for (const place of sets.flat()) left.set(place, (left.get(place) ?? 0) + 1);
  const most = Math.min(Math.round(share * sets.length), sets.length - 1);
  const out: number[] = [];
  for (const row of randomFor(seed, "held out").shuffled(Array.from(sets.keys()))) {
    if (out.length >= most) break;
    if (sets[row]!.some((place) => left.get(place) === 1)) continue;
    for (const place of sets[row]!) left.set(place, left.get(place)! - 1);
    out.push(row);
  }
  return out.sort((a, b) => a - b);
}
