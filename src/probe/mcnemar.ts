/** The exact McNemar test (McNemar 1947): which of two encoders is better, on the same test images. */

export interface McNemar {
  /** Test images that were right before and are wrong now. */
  readonly lost: number;
  /** That were wrong before and are right now. */
  readonly won: number;
  /** Probability of a difference as large or larger, either way, if each of them were as likely lost as won. */
  readonly p: number;
}

/** Of the same images, in the same order. */
export function mcnemar(before: readonly boolean[], now: readonly boolean[]): McNemar {
  const lost = before.filter((right, i) => right && !now[i]).length;
  const won = before.filter((right, i) => !right && now[i]).length;
  return { lost, won, p: pValue(lost, won) };
}

/** Two-sided: twice the tail of a binomial with probability 1/2, 1 at most. */
export function pValue(lost: number, won: number): number {
  const m = lost + won;
  return Math.min(1, 2 * upperTail(Math.max(lost, won), m, 0.5, logFactorials(m)));
}

/** What the test is asked to find: a difference that is there, in this share of all draws of test images. */
export const POWER = 0.8;
/** Probability that the test finds one where there is none. */
export const LEVEL = 0.05;

/** The drop is found to this part of all images. */
const PRECISION = 2 ** -20;

/**
 * The least drop in accuracy, as a share of n test images, that the test shows at the 5 % level with a power of 80 %, if
 * `changed` is the share of images that are right with one of the two encoders alone. Exact: the number of these is
 * binomial (n, changed), and of m, those that are lost are binomial with probability (1 + drop / changed) / 2. A drop
 * changes its own share at least. Undefined if n is too few for any (fewer than 6).
 */
export function leastDrop(n: number, changed: number): number | undefined {
  const logs = logFactorials(n);
  const critical = criticalCounts(n, logs);
  const isShown = (drop: number) => {
    const share = Math.max(changed, drop);
    const lost = (1 + drop / share) / 2;
    let power = 0;
    for (const [m, chance] of likely(n, share, logs)) power += chance * upperTail(critical(m), m, lost, logs);
    return power >= POWER;
  };
  let [low, high] = [0, 1];
  if (!isShown(high)) return undefined;
  while (high - low > PRECISION) {
    const middle = (low + high) / 2;
    if (isShown(middle)) high = middle;
    else low = middle;
  }
  return high;
}

/** Of m images that changed, the fewest losses that the test calls a drop; m + 1 if none would do. */
function criticalCounts(n: number, logs: Float64Array): (m: number) => number {
  const known = new Int32Array(n + 1).fill(-1);
  return (m) => {
    if (known[m]! < 0) {
      // By the normal approximation, and from there to the exact one.
      let count = Math.min(m + 1, Math.ceil((m + 1.96 * Math.sqrt(m)) / 2));
      while (count <= m && 2 * upperTail(count, m, 0.5, logs) > LEVEL) count++;
      while (count > 0 && 2 * upperTail(count - 1, m, 0.5, logs) <= LEVEL) count--;
      known[m] = count;
    }
    return known[m]!;
  };
}

/** Counts of a binomial (n, p) with their probabilities, within six standard deviations. */
function likely(n: number, p: number, logs: Float64Array): (readonly [count: number, chance: number])[] {
  const reach = 6 * Math.sqrt(n * p * (1 - p)) + 6;
  const from = Math.max(0, Math.floor(n * p - reach));
  const to = Math.min(n, Math.ceil(n * p + reach));
  return Array.from({ length: to - from + 1 }, (_, i) => [
    from + i,
    Math.exp(logChance(from + i, n, p, logs)),
  ]);
}

/** P(X >= count) for X binomial (m, p); `logs` as of `logFactorials`. */
function upperTail(count: number, m: number, p: number, logs: Float64Array): number {
  if (count <= 0) return 1;
  if (count > m) return 0;
  // Summed from the middle outwards, where terms only fall.
  if (count <= m * p) return 1 - upperTail(m - count + 1, m, 1 - p, logs);
  let term = Math.exp(logChance(count, m, p, logs));
  let sum = term;
  for (let k = count; k < m && term > sum * Number.EPSILON; k++) {
    term *= ((m - k) / (k + 1)) * (p / (1 - p));
    sum += term;
  }
  return Math.min(1, sum);
}

/** log P(X = count) for X binomial (m, p). */
function logChance(count: number, m: number, p: number, logs: Float64Array): number {
  const ways = logs[m]! - logs[count]! - logs[m - count]!;
  // 0 log 0 is 0.
  return ways + (count && count * Math.log(p)) + (m - count && (m - count) * Math.log1p(-p));
}

/** log k! for k from 0 to n. */
function logFactorials(n: number): Float64Array {
  const logs = new Float64Array(n + 1);
  for (let k = 2; k <= n; k++) logs[k] = logs[k - 1]! + Math.log(k);
  return logs;
}
