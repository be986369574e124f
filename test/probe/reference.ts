/** Features made from names alone, as scripts/reference/probes.py makes them, and what NumPy and scikit-learn say of them. */
import { readFileSync } from "node:fs";
import type { Features } from "../../src/probe/features.ts";
import type { Rows, Views } from "../../src/probe/rank.ts";
import { values } from "../methods/parity.ts";

export const REFERENCE = JSON.parse(
  readFileSync(new URL("../fixtures/probes.json", import.meta.url), "utf8"),
) as {
  readonly rankme: { readonly tall: number; readonly wide: number };
} & Readonly<Record<"alpha" | "uniformity" | "alignment" | "lidar" | "logistic", number>>;

/** Off centre, with a spectrum that falls. */
export function falling(name: string, n: number, d: number): Rows & { readonly data: Float32Array } {
  const drawn = Float64Array.from(values(name, [n, d]));
  return { data: Float32Array.from(drawn, (v, i) => v / (1 + (i % d) / 4) + 0.25), n, d };
}

export function views(name: string, images: number, count: number, d: number): Views {
  const own = Float64Array.from(values(name, [images, 1, d]), (v, i) => v / (1 + (i % d) / 4));
  const noise = values(`${name} views`, [images, count, d]);
  const data = Float32Array.from(noise, (v, i) => own[Math.floor(i / (count * d)) * d + (i % d)]! + 0.25 * v);
  return { data, images, views: count, d };
}

/** Features about a centre for each class. */
export function classes(name: string, n: number, d: number, count: number): Features {
  const centres = values("centres", [count, d]);
  const noise = values(name, [n, d, 4]);
  const labels = Int32Array.from({ length: n }, (_, i) => i % count);
  const data = Float32Array.from({ length: n * d }, (_, i) => {
    const drawn = noise.subarray(4 * i, 4 * i + 4).reduce((sum, v) => sum + v, 0);
    return centres[labels[Math.floor(i / d)]! * d + (i % d)]! + drawn;
  });
  return { data, n, d, labels, classes: Array.from({ length: count }, (_, i) => `class${i}`) };
}
