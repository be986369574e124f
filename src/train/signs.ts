/** Signs of a collapsed representation, and the guard that stops a run on them. */

export interface Signs {
  /**
   * Standard deviation of the normalised embeddings, mean over dimensions, times sqrt(d): 1 when they fill the
   * sphere evenly, 0 when all are equal (Chen and He 2021, section 4.1).
   */
  readonly std: number;
  /** exp of the entropy of the covariance's spectrum: the number of dimensions in use (Roy and Vetterli 2007). */
  readonly effectiveRank: number;
}

/** Rows beyond this many change the signs little and cost time. */
const MAX_ROWS = 512;

/** Of embeddings float32 [rows, d]. */
export async function signsOf({
  data,
  rows,
  d,
}: {
  data: Float32Array;
  rows: number;
  d: number;
}): Promise<Signs> {
  const n = Math.min(rows, MAX_ROWS);
  const z = new Float64Array(n * d);
  const mean = new Float64Array(d);
  for (let i = 0; i < n; i++) {
    let length = 0;
    for (let j = 0; j < d; j++) length += data[i * d + j]! ** 2;
    const scale = 1 / Math.max(Math.sqrt(length), 1e-12);
    for (let j = 0; j < d; j++) {
      z[i * d + j] = data[i * d + j]! * scale;
      mean[j]! += z[i * d + j]! / n;
    }
  }
  for (let i = 0; i < n; i++) for (let j = 0; j < d; j++) z[i * d + j]! -= mean[j]!;
  let std = 0;
  for (let j = 0; j < d; j++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += z[i * d + j]! ** 2;
    std += Math.sqrt(sum / n) / d;
  }
  return { std: std * Math.sqrt(d), effectiveRank: await effectiveRank(z, n, d) };
}

/** Of centred rows [n, d]: from the smaller of their two Gram matrices, which share the spectrum. */
async function effectiveRank(z: Float64Array, n: number, d: number): Promise<number> {
  const { EigenvalueDecomposition, Matrix } = await import("ml-matrix"); // when needed: runs start 20 ms sooner
  const gram = n < d ? gramOf(z, n, d, d, 1) : gramOf(z, d, n, 1, d); // [n, n] or [d, d]
  if (gram.some((x) => !Number.isFinite(x))) return Number.NaN;
  const size = Math.sqrt(gram.length);
  const matrix = new Matrix(
    Array.from({ length: size }, (_, i) => [...gram.subarray(i * size, (i + 1) * size)]),
  );
  const spectrum = new EigenvalueDecomposition(matrix, { assumeSymmetric: true }).realEigenvalues;
  const positive = spectrum.filter((x) => x > 1e-12);
  const total = positive.reduce((a, b) => a + b, 0);
  return Math.exp(positive.reduce((entropy, x) => entropy - (x / total) * Math.log(x / total), 0));
}

/**
 * Products of `size` vectors of `length` numbers with each other, [size, size]; number k of vector i is at i apart + k every.
 * By hand: as matrices of ml-matrix they take four times as long, which a GPU would wait for.
 */
function gramOf(z: Float64Array, size: number, length: number, apart: number, every: number): Float64Array {
  const gram = new Float64Array(size * size);
  for (let k = 0; k < length; k++)
    for (let i = 0; i < size; i++) {
      const x = z[i * apart + k * every]!;
      for (let j = i; j < size; j++) gram[i * size + j]! += x * z[j * apart + k * every]!;
    }
  for (let i = 0; i < size; i++) for (let j = 0; j < i; j++) gram[i * size + j] = gram[j * size + i]!;
  return gram;
}

/** Below these, for `PATIENCE` looks in a row, a representation counts as collapsed. */
const LEAST_STD = 0.1;
const LEAST_RANK = 2;
const PATIENCE = 5;
/** And until these looks have seen so many rows: the spread of a few depends on which images happen to be among them. */
const PATIENCE_ROWS = 40;
/** The rank that images must allow for `LEAST_RANK` to be asked of them; of fewer, less is asked, and nothing of two. */
const AMPLE_RANK = 9;
/** Networks start out with similar features for all images; they get this many steps to spread them. */
const GRACE_STEPS = 100;

/** What signs are of. */
export interface Sample {
  /** Embeddings, and their length. */
  readonly rows: number;
  readonly d: number;
  /** Images that they are of. */
  readonly images: number;
}

/**
 * Whether a sample is spread as far as can be asked of it. Views of an image may have one embedding, so that what images
 * allow counts: n that are centred have rank n - 1 at most. Of one alone nothing can be told.
 */
function isSpread({ std, effectiveRank }: Signs, { d, images }: Sample): boolean {
  if (images === 1) return true;
  const most = Math.min(images - 1, d);
  const asked = 1 + ((LEAST_RANK - 1) * (most - 1)) / (AMPLE_RANK - 1);
  return std >= LEAST_STD && effectiveRank >= Math.min(LEAST_RANK, asked);
}

export interface Guard {
  /** A diagnosis once the run should stop. */
  look(step: number, signs: Signs, sample: Sample): string | undefined;
}

export function collapseGuard(): Guard {
  let bad = 0;
  let seen = 0;
  return {
    look(step, { std, effectiveRank: rank }, sample) {
      const fine = isSpread({ std, effectiveRank: rank }, sample);
      bad = fine || step < GRACE_STEPS ? 0 : bad + 1;
      seen = bad === 0 ? 0 : seen + sample.rows;
      if (bad < PATIENCE || seen < PATIENCE_ROWS) return undefined;
      return (
        `the representation has collapsed at step ${step}: embeddings have a standard deviation of ${std.toFixed(3)} ` +
        `(1 is spread evenly, below ${LEAST_STD} is collapsed) and an effective rank of ${rank.toFixed(1)}; ` +
        "try a lower learning rate, a larger batch or stronger views, or go on with --no-guard"
      );
    },
  };
}
