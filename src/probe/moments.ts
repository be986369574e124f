/** Statistics of channels, as BatchNorm without affine parameters has them. */
import type { Features } from "./features.ts";

/** A standard deviation below this share of the largest value is what rounding to float32 leaves of a constant. */
const ROUNDING = 1e-6;

/**
 * Mean and 1 / standard deviation of each channel, the `places` values that lie side by side in each feature vector; a
 * constant channel gets scale 0, which leaves it out.
 */
export function channelMoments(
  { data, n, d }: Pick<Features, "data" | "n" | "d">,
  places: number,
): { mean: Float64Array; scale: Float64Array } {
  const channels = Math.ceil(d / places);
  const channelOf = Int32Array.from({ length: d }, (_, j) => Math.floor(j / places));
  const count = n * places;
  const mean = new Float64Array(channels);
  const variance = new Float64Array(channels);
  const largest = new Float64Array(channels);
  for (let i = 0; i < n * d; i++) mean[channelOf[i % d]!]! += data[i]! / count;
  for (let i = 0; i < n * d; i++) {
    const c = channelOf[i % d]!;
    variance[c]! += (data[i]! - mean[c]!) ** 2 / count;
    largest[c] = Math.max(largest[c]!, Math.abs(data[i]!));
  }
  const scale = variance.map((v, c) => (Math.sqrt(v) > ROUNDING * largest[c]! ? 1 / Math.sqrt(v) : 0));
  return { mean, scale };
}
