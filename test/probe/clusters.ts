/** Labelled features to probe, drawn. */
import type { Features } from "../../src/probe/features.ts";
import { randomFor } from "../../src/random.ts";

/** Rows in class order 0, 1, 2, 0, ...: a centre of normal values for each class, plus noise. */
export function clusters(seed: number, n: number, d: number, count: number, noise: number): Features {
  const centre = randomFor("centres", d, count);
  const centres = Array.from({ length: count * d }, () => centre.normal());
  const random = randomFor("rows", seed);
  const labels = Int32Array.from({ length: n }, (_, i) => i % count);
  const data = Float32Array.from(
    { length: n * d },
    (_, i) => centres[labels[Math.floor(i / d)]! * d + (i % d)]! + noise * random.normal(),
  );
  return { data, n, d, labels, classes: Array.from({ length: count }, (_, i) => `class${i}`) };
}

/** Features from rows of numbers. */
export function featuresOf(
  rows: readonly (readonly number[])[],
  labels: readonly number[],
  classes: readonly string[] = ["a", "b", "c"],
): Features {
  return {
    data: Float32Array.from(rows.flat()),
    n: rows.length,
    d: rows[0]?.length ?? 2,
    labels: Int32Array.from(labels),
    classes,
  };
}

/** The message of what was thrown; undefined if nothing was. */
export const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  );
