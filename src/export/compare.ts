/** How far the features of two encoders are apart. */
import { expected } from "../errors.ts";

/** Greatest distance of a feature vector, as a share of its length. */
const TOLERANCE = 1e-3;
/** Rows shorter than this share of the longest are measured against the longest: their own values are mostly rounding. */
const SHORTEST = 1e-3;
export const NOT_WRITTEN = "the file was not written";

export interface Comparison {
  /** Greatest Euclidean distance of two rows, over the length of the reference's. */
  readonly maxRelative: number;
}

/**
 * Compares features [n, d] row by row; NaN where some are not finite. Rows shorter than `shortest` are measured against it, by
 * default a thousandth of the longest.
 */
export function compareFeatures(
  reference: Float32Array,
  frozen: Float32Array,
  d: number,
  shortest?: number,
): Comparison {
  if (reference.length !== frozen.length || reference.length % d !== 0) {
    throw new Error(`features: expected rows of ${d}, found ${reference.length} and ${frozen.length} values`);
  }
  const rows = Array.from({ length: reference.length / d }, (_, row) => {
    let [length, distance] = [0, 0];
    for (let i = row * d; i < (row + 1) * d; i++) {
      length += reference[i]! ** 2;
      distance += (frozen[i]! - reference[i]!) ** 2;
    }
    return { length: Math.sqrt(length), distance: Math.sqrt(distance) };
  });
  const longest = rows.reduce((most, { length }) => Math.max(most, length), 0);
  const least = shortest ?? SHORTEST * longest;
  const maxRelative = rows.reduce((most, { length, distance }) => {
    return distance === 0 ? most : Math.max(most, distance / Math.max(length, least));
  }, 0);
  return { maxRelative };
}

/**
 * What `compareFeatures` says. `where` names the frozen encoder in errors.
 * @throws UserError if a row differs by more than 0.1 %, or a feature is not finite.
 */
export function checkFeatures(
  where: string,
  reference: Float32Array,
  frozen: Float32Array,
  d: number,
  shortest?: number,
): Comparison {
  const { maxRelative } = compareFeatures(reference, frozen, d, shortest);
  if (!(maxRelative <= TOLERANCE)) {
    const off = `${(100 * maxRelative).toPrecision(2)} % off`;
    throw expected(where, "the features of the training-time encoder within 0.1 %", off, NOT_WRITTEN);
  }
  return { maxRelative };
}
