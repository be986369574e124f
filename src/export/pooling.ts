/** Feature vectors of what a model gives for an image: a vector, tokens or a feature map. */
import type { UserError } from "../errors.ts";

export const POOLS = ["cls", "mean"] as const;
/** The class token, or the mean of the patch tokens. */
export type Pool = (typeof POOLS)[number];

/** Feature j of an image is the mean over i < `count` of its values offset + i step + j jump. */
export interface Pooling {
  /** Length of a feature vector. */
  readonly d: number;
  readonly offset: number;
  readonly count: number;
  readonly step: number;
  readonly jump: number;
  /** What becomes of an image's values, such as "class token"; empty where they are features as they are. */
  readonly name: string;
}

/**
 * How values of these sizes become features: [n, d] as they are; of tokens [n, t, d] the class token, which is the first,
 * or the mean of the patches; of a feature map, [n, c, h, w] or [n, h, w, c], the mean over places. Views are square: the
 * axes of equal size are height and width, and patches are the last g^2 tokens, of the largest g that leaves none out
 * but class and register tokens.
 *
 * @param pool of tokens. @default the class token, or the mean where there are patches alone
 * @param refuse makes the error of what was expected and found
 * @throws UserError on other sizes, or if `pool` does not go with them
 */
export function poolingOf(
  dims: readonly number[],
  pool: Pool | undefined,
  refuse: (wanted: string, found: string) => UserError,
): Pooling {
  const [, a = 0, b = 0, c = 0] = dims;
  const whole = { offset: 0, count: 1, step: 0, jump: 1, name: "" };
  if (dims.slice(1).some((size) => size < 1)) throw refuse("an output with values", shownDims(dims));
  if (pool && dims.length === 2) throw refuse("--pool with tokens [n, t, d]", shownDims(dims));
  if (pool === "cls" && dims.length === 4) throw refuse("--pool cls with tokens [n, t, d]", shownDims(dims));
  if (dims.length === 2) return { ...whole, d: a };
  if (dims.length === 3) {
    const patches = Math.floor(Math.sqrt(a)) ** 2;
    if ((pool ?? (patches === a ? "mean" : "cls")) === "cls") return { ...whole, d: b, name: "class token" };
    return {
      d: b,
      offset: (a - patches) * b,
      count: patches,
      step: b,
      jump: 1,
      name: `mean of ${patches} patches`,
    };
  }
  const name = "mean over places";
  if (dims.length === 4 && b === c) return { d: a, offset: 0, count: b * c, step: 1, jump: b * c, name };
  if (dims.length === 4 && a === b) return { d: c, offset: 0, count: a * b, step: c, jump: 1, name };
  throw refuse("an output [n, d], [n, t, d] or of square maps [n, c, h, w]", shownDims(dims));
}

const shownDims = (dims: readonly number[]) => `[${dims.join(", ")}]`;

/** Images whose values are pooled. */
interface Pooled {
  readonly n: number;
  /** Values of an image. */
  readonly size: number;
  /** [..., d]: what features are written into, from row `at` on. */
  readonly rows: Float32Array;
  readonly at: number;
}

/** Writes the features of the first `n` images of `values`. */
export function poolInto(pooling: Pooling, values: Float32Array, { n, size, rows, at }: Pooled): void {
  const { d, offset, count, step, jump } = pooling;
  for (let image = 0; image < n; image++) {
    for (let j = 0; j < d; j++) {
      const first = image * size + offset + j * jump;
      let sum = 0;
      for (let i = 0; i < count; i++) sum += values[first + i * step]!;
      rows[(at + image) * d + j] = sum / count;
    }
  }
}
