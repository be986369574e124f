/** Near duplicates: images that are the same but for size, JPEG, brightness, or a little cut off at their edges. */
import { type Box, CROPS, type Span, samplesOf } from "./crops.ts";
import { hashesOf, WORDS } from "./hash.ts";
import { openHashIndex } from "./hash-index.ts";
import { SIDE, THUMBNAIL_BYTES } from "./thumbnail.ts";

export interface NearOptions {
  /** Least correlation of two thumbnails, aligned. */
  readonly least: number;
  /** Called after each image, with how many were looked at. */
  readonly tick?: ((done: number) => Promise<void>) | undefined;
}

/** An image, and the one before it that it is like. */
export interface Copy {
  /** Place of the image. */
  readonly image: number;
  /** Place of the one that it is a copy of, which is none itself. */
  readonly of: number;
  /** Their correlation, or the cosine of their features. */
  readonly likeness: number;
}

/** Pairs that are compared for an image: among images that are all much alike, X-rays say, a hash names any number. */
const MOST_COMPARED = 256;

/**
 * The copies among images, `order` of them in turn, by their thumbnails [n, 16, 16, 3]. An image is compared with those
 * before it that are no copies themselves: a chain of images, each a little unlike the last, is not taken for one.
 */
export async function findNear(
  thumbnails: Uint8Array,
  order: readonly number[],
  { least, tick }: NearOptions,
): Promise<readonly Copy[]> {
  const index = openHashIndex(order.length * CROPS.length);
  const copies: Copy[] = [];
  const at = (image: number) => thumbnails.subarray(image * THUMBNAIL_BYTES, (image + 1) * THUMBNAIL_BYTES);
  for (const [done, image] of order.entries()) {
    const own = at(image);
    const hashes = hashesOf(own);
    let best: Copy | undefined;
    let compared = 0;
    for (let crop = 0; crop < CROPS.length && !best && compared <= MOST_COMPARED; crop++) {
      const tried = new Set<number>();
      index.near(hashes[crop * WORDS]!, hashes[crop * WORDS + 1]!, (number) => {
        const [of, ofCrop] = [Math.floor(number / CROPS.length), number % CROPS.length];
        if (tried.has(number) || (crop > 0 && ofCrop > 0)) return false;
        if (++compared > MOST_COMPARED) return true;
        tried.add(number);
        const [whole, part, box] = crop > 0 ? [at(of), own, CROPS[crop]!] : [own, at(of), CROPS[ofCrop]!];
        if (likenessOf(whole, part, box, least) < least) return false;
        best = { image, of, likeness: likenessOf(whole, part, box, 1) };
        return true;
      });
    }
    if (best) copies.push(best);
    else
      for (let crop = 0; crop < CROPS.length; crop++)
        index.add(hashes[crop * WORDS]!, hashes[crop * WORDS + 1]!, image * CROPS.length + crop);
    await tick?.(done + 1);
  }
  return copies;
}

/** Further below it than this, no better box will do. */
const HOPELESS = 0.25;
/** Steps that a box is moved by, shares of a side. */
const STEPS = [0.04, 0.02];
/** Least share of a side that a box keeps. */
const LEAST_SPAN = 0.8;

/** The greatest correlation of a thumbnail with a part of another about `box`. */
export function likenessOf(whole: Uint8Array, of: Uint8Array, box: Box, enough: number): number {
  let best = { box, likeness: correlation(whole, of, box) };
  if (best.likeness < enough - HOPELESS) return best.likeness;
  for (const step of STEPS) {
    for (let moved = true; moved && best.likeness < enough; ) {
      moved = false;
      for (const next of neighboursOf(best.box, step)) {
        const likeness = correlation(whole, of, next);
        if (likeness <= best.likeness) continue;
        best = { box: next, likeness };
        moved = true;
      }
    }
  }
  return best.likeness;
}

function neighboursOf({ x, y }: Box, step: number): readonly Box[] {
  const moved = ([from, to]: Span): Span[] =>
    (
      [
        [from - step, to],
        [from + step, to],
        [from, to - step],
        [from, to + step],
      ] as const
    ).filter(([a, b]) => a >= 0 && b <= 1 && b - a >= LEAST_SPAN);
  return [...moved(x).map((x) => ({ x, y })), ...moved(y).map((y) => ({ x, y }))];
}

/** Variance, of values from 0 to 255, below which an image is of one colour. */
const PLAIN = 4;
/** Difference of two such colours that nobody sees. */
const SAME_COLOUR = 4;

/** Of `a` with a box of `b`, each channel about its own mean. Of images of one colour: 1 where that is the same, else 0. */
function correlation(a: Uint8Array, b: Uint8Array, { x, y }: Box): number {
  const [across, down] = [samplesOf(x), samplesOf(y)];
  let [varianceA, varianceB, covariance, apart] = [0, 0, 0, 0];
  for (let c = 0; c < 3; c++) {
    let [sumA, sumB, squaresA, squaresB, products] = [0, 0, 0, 0, 0];
    for (let i = 0; i < SIDE; i++) {
      const [row, v] = [down.at[i]! * SIDE * 3, down.beyond[i]!];
      for (let j = 0; j < SIDE; j++) {
        const [at, u] = [row + across.at[j]! * 3 + c, across.beyond[j]!];
        const upper = b[at]! * (1 - u) + b[at + 3]! * u;
        const lower = b[at + SIDE * 3]! * (1 - u) + b[at + SIDE * 3 + 3]! * u;
        const valueB = upper * (1 - v) + lower * v;
        const valueA = a[(i * SIDE + j) * 3 + c]!;
        sumA += valueA;
        sumB += valueB;
        squaresA += valueA * valueA;
        squaresB += valueB * valueB;
        products += valueA * valueB;
      }
    }
    const n = SIDE * SIDE;
    varianceA += squaresA / n - (sumA / n) ** 2;
    varianceB += squaresB / n - (sumB / n) ** 2;
    covariance += products / n - (sumA / n) * (sumB / n);
    apart = Math.max(apart, Math.abs(sumA - sumB) / n);
  }
  if (varianceA < PLAIN || varianceB < PLAIN)
    return varianceA < PLAIN && varianceB < PLAIN && apart < SAME_COLOUR ? 1 : 0;
  return covariance / Math.sqrt(varianceA * varianceB);
}
