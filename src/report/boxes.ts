/** Draws boxes about objects on an image, each with a label. */
import type { Sharp } from "sharp";
import type { Source } from "../data/canvas.ts";
import { loadSharp } from "../data/decode.ts";
import { expected } from "../errors.ts";
import { type Html, html } from "./html.ts";

export interface LabelledBox {
  /** Left, top, right and bottom, pixels. */
  readonly box: readonly [number, number, number, number];
  readonly label: string;
  /** Boxes of one kind have one color. */
  readonly kind: number;
}

/** What draws SVG takes no longer sides, pixels. */
const LONGEST = 32_767;
/** Height of the letters over the image's longer side, and its bounds, pixels. */
const LETTERS = { share: 1 / 45, least: 9, most: 96 };
/** Width of a letter, and of one that is as wide as high, over the height: those of most fonts of one width are a little less. */
const ADVANCE = 0.61;
const WIDE = 1.05;
/** Letters of a label; of longer ones some are left out. */
const LONGEST_LABEL = 32;

/** The image with the boxes on it, the first ones on top. @throws UserError if it is too long; `where` names it */
export async function drawBoxes(
  { width, height, pixels }: Source,
  boxes: readonly LabelledBox[],
  where: string,
): Promise<Sharp> {
  if (Math.max(width, height) > LONGEST)
    throw expected(where, `an image of at most ${LONGEST} pixels a side to draw on`, `${width}x${height}`);
  const { share, least, most } = LETTERS;
  const letters = Math.min(most, Math.max(least, Math.round(share * Math.max(width, height))));
  const line = Math.max(2, Math.round(letters / 7));
  const look = { width, height, letters, line };
  const parts = [boxOf, labelOf].flatMap((part) => boxes.map((one) => part(one, look)).reverse()); // labels above all lines
  const overlay = html`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${parts}</svg>`;
  const sharp = await loadSharp();
  const raw = { width, height, channels: 3 } as const;
  return sharp(pixels, { raw })
    .composite([{ input: Buffer.from(overlay.text) }])
    .removeAlpha();
}

interface Look {
  readonly width: number;
  readonly height: number;
  /** Height of the letters, and width of a box's line, pixels. */
  readonly letters: number;
  readonly line: number;
}

/** The line lies within the box. */
function boxOf({ box: [left, top, right, bottom], kind }: LabelledBox, { line }: Look): Html {
  const [width, height] = [right - left, bottom - top].map((side) => Math.max(0, side - line));
  return html`<rect x="${left + line / 2}" y="${top + line / 2}" width="${width}" height="${height}" fill="none" stroke="${colorOf(kind).color}" stroke-width="${line}"/>`;
}

/** The label stands above its box, or in it where there is no room. */
function labelOf({ box: [left, top], label, kind }: LabelledBox, { width, height, letters }: Look): Html {
  const { color, ink } = colorOf(kind);
  const text = printable(label);
  const [across, down] = [widthOf(text, letters) + letters / 2, Math.ceil(1.35 * letters)];
  const x = Math.max(0, Math.min(left, width - across));
  const y = top >= down ? top - down : Math.max(0, Math.min(top, height - down));
  return html`<rect x="${x}" y="${y}" width="${across}" height="${down}" fill="${color}"/><text x="${x + letters / 4}" y="${y + letters}" font-family="monospace" font-size="${letters}" fill="${ink}">${text}</text>`;
}

/** A color of its own for each of many kinds, and black or white, whichever can be read on it. */
function colorOf(kind: number): { readonly color: string; readonly ink: string } {
  const turn = (kind * 0.618034 + 0.02) % 1; // by the golden ratio, so that the hues of the first ones are far apart
  const channels = [0, 1 / 3, 2 / 3].map((at) => {
    const far = Math.abs(((turn + at) % 1) - 0.5) * 6 - 1; // from hue to red, to blue, to green
    return 25 + 215 * Math.min(1, Math.max(0, far));
  });
  const [r, b, g] = channels as [number, number, number];
  const hex = [r, g, b].map((x) => Math.round(x).toString(16).padStart(2, "0")).join("");
  return { color: `#${hex}`, ink: 0.299 * r + 0.587 * g + 0.114 * b > 120 ? "#000" : "#fff" };
}

/** What XML can hold, on one line, not too long. */
function printable(label: string): string {
  const letters = [...label.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\uFFFE\uFFFF]/gu, " ")];
  if (letters.length <= LONGEST_LABEL) return letters.join("");
  return [...letters.slice(0, LONGEST_LABEL - 6), "…", ...letters.slice(-5)].join(""); // the end is how sure it is
}

/** Letters from U+1100 on, such as those of Chinese, are about as wide as high. */
const widthOf = (text: string, letters: number): number =>
  [...text].reduce((sum, letter) => sum + letters * (letter.codePointAt(0)! < 0x1100 ? ADVANCE : WIDE), 0);
