/** Nearest neighbours by the cosine of features. */
import { join } from "node:path";
import type { Features } from "../probe/features.ts";

/** Features of a folder's images. */
export interface Embedded {
  readonly features: Features;
  /** Paths relative to the folder, one for each row. */
  readonly files: readonly string[];
}

/** What an encoder makes of two folders, or of one twice. */
export interface Encoded {
  readonly train: Embedded;
  readonly test: Embedded;
}

export interface Neighbour {
  /** Path of the image. */
  readonly file: string;
  /** Whether its class is the query's. */
  readonly same: boolean;
}

export interface Row {
  /** Path of the image. */
  readonly query: string;
  /** Its class, where the folder has classes. */
  readonly category: string | undefined;
  readonly before: readonly Neighbour[];
  readonly after: readonly Neighbour[];
}

/**
 * `count` test images, as far apart in the folder as can be, each with the `k` training images nearest to it, itself left
 * out.
 */
export function rowsOf(
  folders: { readonly train: string; readonly test: string },
  before: Encoded | undefined,
  after: Encoded,
  { count = 12, k = 5 } = {},
): readonly Row[] {
  const { files, features } = after.test;
  const turned = [before, after].map((encoded) => encoded && directed(encoded));
  return apart(files.length, count).map((place) => {
    const category = classOf(features, place);
    const [own, others] = turned.map((encoded) => {
      if (!encoded) return [];
      const { train, test } = encoded;
      return nearest(train.features, test.features, place, k, train === test ? place : undefined).map(
        ({ row }) => ({
          file: join(folders.train, train.files[row]!),
          same: category !== undefined && classOf(train.features, row) === category,
        }),
      );
    });
    return { query: join(folders.test, files[place]!), category, before: own!, after: others! };
  });
}

/** With directions for features; one folder twice stays one. */
function directed({ train, test }: Encoded): Encoded {
  const turned = (embedded: Embedded) => ({ ...embedded, features: directions(embedded.features) });
  const own = turned(train);
  return { train: own, test: train === test ? own : turned(test) };
}

/** Up to `count` of n places, as far apart as can be. */
export const apart = (n: number, count: number): readonly number[] =>
  Array.from({ length: Math.min(n, count) }, (_, i) => Math.floor(((i + 0.5) * n) / Math.min(n, count)));

const classOf = ({ classes, labels }: Features, row: number): string | undefined =>
  classes[labels[row] ?? -1];

/** The same with rows of length 1. */
export function directions(features: Features): Features {
  const { n, d } = features;
  const data = features.data.slice();
  for (let i = 0; i < n; i++) {
    const row = rowOf({ data, d }, i);
    const length = Math.sqrt(dot(row, row));
    for (let j = 0; j < d; j++) row[j]! /= length || 1;
  }
  return { ...features, data };
}

export interface Near {
  readonly row: number;
  /** -1 to 1, but for rounding. */
  readonly cosine: number;
}

/** The k rows of `bank` with the greatest cosine to a row of `queries`, nearest first, the row `but` left out: of directions. */
export function nearest(
  bank: Features,
  queries: Features,
  row: number,
  k: number,
  but?: number,
): readonly Near[] {
  const query = rowOf(queries, row);
  const best: Near[] = [];
  for (let i = 0; i < bank.n; i++) {
    if (i === but) continue;
    const cosine = dot(query, rowOf(bank, i));
    if (best.length === k && cosine <= best[k - 1]!.cosine) continue;
    if (best.length === k) best.pop();
    let at = best.length;
    while (at > 0 && best[at - 1]!.cosine < cosine) at--;
    best.splice(at, 0, { row: i, cosine });
  }
  return best;
}

const rowOf = ({ data, d }: Pick<Features, "data" | "d">, row: number) =>
  data.subarray(row * d, (row + 1) * d);

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}
