/** Nearest neighbours by the cosine of features. */

/** Features [n, d] as rows of length 1, or 0 where a row is. */
export function normalized(features: Float32Array, d: number): Float32Array {
  const rows = new Float32Array(features.length);
  for (let at = 0; at < features.length; at += d) {
    let squares = 0;
    for (let j = at; j < at + d; j++) squares += features[j]! ** 2;
    const scale = squares > 0 ? 1 / Math.sqrt(squares) : 0;
    for (let j = at; j < at + d; j++) rows[j] = features[j]! * scale;
  }
  return rows;
}

/** Indices of the `count` rows nearest to `query`, the nearest first; without row `self`. */
export function nearestTo(
  query: Float32Array,
  rows: Float32Array,
  count: number,
  self?: number,
): readonly number[] {
  const d = query.length;
  const scored = Array.from({ length: rows.length / d }, (_, i) => {
    let cosine = 0;
    for (let j = 0; j < d; j++) cosine += query[j]! * rows[i * d + j]!;
    return { i, cosine };
  });
  return scored
    .filter(({ i }) => i !== self)
    .sort((a, b) => b.cosine - a.cosine || a.i - b.i)
    .slice(0, count)
    .map(({ i }) => i);
}

/** Features of images, some at a time. */
export async function inChunks(
  count: number,
  encode: (from: number, to: number) => Promise<Float32Array>,
): Promise<Float32Array> {
  const parts: Float32Array[] = [];
  for (let from = 0; from < count; from += CHUNK)
    parts.push(await encode(from, Math.min(count, from + CHUNK)));
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const CHUNK = 50;
