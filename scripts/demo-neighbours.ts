/** A sheet to look at: held-out images with their nearest neighbours, before pretraining and after. */
import sharp from "sharp";
import type { Row } from "../src/report/neighbours.ts";
import { lettering, widthOf } from "./demo-letters.ts";

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
    const name = (category ?? "").replaceAll("-", " ");
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
