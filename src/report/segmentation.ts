/** The section of a report that shows what a segmentation probe told of some images. */
import { type Html, html } from "./html.ts";
import { cell, styleOf } from "./pictures.ts";
import type { Sprite } from "./sprite.ts";

/** In each row of the sprite an image, its mask, and what was told of it. */
export interface SegmentationShown {
  readonly sprite: Sprite;
  /** Of each row. */
  readonly files: readonly string[];
  /** Classes that are seen, with their indices in the masks. */
  readonly classes: readonly { readonly index: number; readonly class: string }[];
}

/**
 * The colour of a class index in Pascal VOC's development kit: its bits, from the lowest on, become the highest bits of red,
 * green and blue in turn. Index 255 is that of pixels that count for nothing.
 */
export function colorOf(index: number): readonly [red: number, green: number, blue: number] {
  const color: [number, number, number] = [0, 0, 0];
  for (let bit = 0; bit < 8; bit++) {
    const channel = (bit % 3) as 0 | 1 | 2;
    color[channel] |= ((index >> bit) & 1) << (7 - Math.floor(bit / 3));
  }
  return color;
}

/** @param kind names the sprite on its page */
export const segmentationPictures = (
  { sprite, files, classes }: SegmentationShown,
  kind: string,
): Html => html`<p class="note">Of some test images: the image, its mask, and the class that scores highest.</p>
${styleOf(kind, sprite)}
<div class="seen masks" style="--across: 3">${files.map(
  (file, row) => html`
<div class="viewed"><span class="original">${cell(kind, 0, row, file)}</span>${cell(kind, 1, row, `mask of ${file}`)}${cell(kind, 2, row, `prediction for ${file}`)}</div>`,
)}
</div>
<ul class="legend">${classes.map(
  ({ index, class: name }) =>
    html`<li><i style="background: rgb(${colorOf(index).join(" ")})"></i><bdi>${name}</bdi></li>`,
)}</ul>`;
