/** A sheet to look at: held-out images with their nearest neighbours, before pretraining and after. */
import { join } from "node:path";
import sharp from "sharp";
import type { Embedded, Features } from "../src/index.ts";
import { lettering, widthOf } from "./demo-letters.ts";

/** What an encoder makes of two labelled folders. */
export interface Encoded {
  readonly train: Embedded;
  readonly test: Embedded;
}

export interface Neighbour {
  /** Path of the image. */
  readonly file: string;
  /** Whether its category is the query's. */
  readonly same: boolean;
}

export interface Row {
  /** Path of the image. */
  readonly query: string;
  readonly category: string;
  readonly before: readonly Neighbour[];
  readonly after: readonly Neighbour[];
}

/** `count` test images, as far apart in the folder as can be, each with the `k` training images nearest to it. */
export function rowsOf(
  folders: { readonly train: string; readonly test: string },
  before: Encoded,
  after: Encoded,
  { count = 12, k = 5 } = {},
): readonly Row[] {
  const { files, features } = before.test;
  return Array.from({ length: count }, (_, i) => {
    const place = Math.floor(((i + 0.5) * files.length) / count);
    const category = features.classes[features.labels[place]!]!;
    const neighbours = ({ train, test }: Encoded) =>
      nearest(train.features, test.features, place, k).map((row) => ({
        file: join(folders.train, train.files[row]!),
        same: train.features.classes[train.features.labels[row]!] === category,
      }));
    return {
      query: join(folders.test, files[place]!),
      category,
      before: neighbours(before),
      after: neighbours(after),
    };
  });
}

/** The k rows of `bank` with the greatest cosine to a row of `queries`, nearest first. */
function nearest(bank: Features, queries: Features, row: number, k: number): readonly number[] {
  const query = rowOf(queries, row);
  const cosines = Array.from({ length: bank.n }, (_, i) => cosine(query, rowOf(bank, i)));
  return Array.from(cosines.keys())
    .sort((a, b) => cosines[b]! - cosines[a]!)
    .slice(0, k);
}

const rowOf = ({ data, d }: Features, row: number) => data.subarray(row * d, (row + 1) * d);
const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
const cosine = (a: Float32Array, b: Float32Array) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));

/** Pixels. */
const IMAGE = 64;
const CELL = 80;
const MARGIN = 24;
const HEADER = 72;
const FOOTER = 56;
const NAMES = 156;
const GAP = 28;
const INK = "#222";
const PALE = "#888";
/** Of a frame around a neighbour of the query's category; others are faded. */
export const SAME = "#12a150";

/** Writes the sheet as PNG: a row for each query, its neighbours before in the middle and after on the right. */
export async function writeSheet(file: string, rows: readonly Row[]): Promise<void> {
  const k = Math.max(...rows.map(({ before, after }) => Math.max(before.length, after.length)));
  const queryAt = MARGIN + NAMES;
  const beforeAt = queryAt + CELL + GAP;
  const afterAt = beforeAt + k * CELL + GAP;
  const width = afterAt + k * CELL + MARGIN;
  const height = HEADER + rows.length * CELL + FOOTER;

  const images: { readonly input: string; readonly left: number; readonly top: number }[] = [];
  const under = [panel(beforeAt, k, rows.length), panel(afterAt, k, rows.length)];
  const over = [heading("held out", queryAt, CELL), ...legend(beforeAt, height - FOOTER / 2 + 3)];
  over.push(heading("before", beforeAt, k * CELL), heading("after", afterAt, k * CELL));
  rows.forEach(({ query, category, before, after }, i) => {
    const y = HEADER + i * CELL;
    const name = category.replaceAll("-", " ");
    const right = queryAt - 14 - widthOf(name, 9);
    over.push(lettering(name, { x: right, y: y + CELL / 2, height: 9, color: PALE }));
    images.push({ input: query, left: queryAt, top: y });
    for (const [left, neighbours] of [
      [beforeAt, before],
      [afterAt, after],
    ] as const)
      neighbours.forEach(({ file: input, same }, j) => {
        images.push({ input, left: left + j * CELL, top: y });
        over.push(same ? frame(left + j * CELL, y) : veil(left + j * CELL, y));
      });
  });

  const inset = (CELL - IMAGE) / 2;
  const thumbnails = images.map(async ({ input, left, top }) => ({
    input: await sharp(input).resize(IMAGE, IMAGE, { fit: "contain", background: "#0000" }).png().toBuffer(),
    left: left + inset,
    top: top + inset,
  }));
  await sharp(svg(width, height, [`<rect width="${width}" height="${height}" fill="#fff"/>`, ...under]))
    .composite([...(await Promise.all(thumbnails)), { input: svg(width, height, over), left: 0, top: 0 }])
    .removeAlpha()
    .png()
    .toFile(file);
}

const svg = (width: number, height: number, parts: readonly string[]): Buffer =>
  Buffer.from(
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${parts.join("")}</svg>`,
  );

const box = (x: number, y: number, width: number, height: number, style: string): string =>
  `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="8" ${style}/>`;

/** Behind k neighbours of all queries. */
const BACK = "#f4f4f4";
const panel = (x: number, k: number, rows: number): string =>
  box(x - 6, HEADER - 6, k * CELL + 12, rows * CELL + 12, `fill="${BACK}"`);

const frame = (x: number, y: number): string =>
  box(x + 2.5, y + 2.5, CELL - 5, CELL - 5, `fill="none" stroke="${SAME}" stroke-width="3"`);

const veil = (x: number, y: number): string =>
  box(x + 2, y + 2, CELL - 4, CELL - 4, `fill="${BACK}" fill-opacity=".5"`);

/** In the middle above a column. */
const heading = (text: string, x: number, width: number): string =>
  lettering(text, { x: x + (width - widthOf(text, 15)) / 2, y: HEADER - 32, height: 15, color: INK });

/** What a frame means, its middle at height y. */
const legend = (x: number, y: number): readonly string[] => [
  box(x + 2.5, y - 10, 20, 20, `fill="none" stroke="${SAME}" stroke-width="3"`),
  lettering("same category", { x: x + 36, y, height: 9, color: PALE }),
];
