/** The section of a report that shows what a detector finds. */
import { type Html, html } from "./html.ts";
import { nameOf } from "./pictures.ts";

export interface DetectionsShown {
  readonly images: readonly {
    readonly file: string;
    /** With boxes on it, a data: URL. */
    readonly drawn: string;
  }[];
  /** Objects that score less are not drawn. */
  readonly least: number;
  /** Whether training did not see the images. */
  readonly heldOut: boolean;
}

export const detectionsSection = ({
  images,
  least,
  heldOut,
}: DetectionsShown): Html => html`<section id="detections">
<h2>What the detector finds</h2>
<p>In images ${heldOut ? "held out" : "trained on"}: objects that score ${least} or more, one colour for each class.</p>
<div class="drawn">${images.map(
  ({ file, drawn }) => html`
<img src="${drawn}" alt="detections in ${nameOf(file)}" title="${nameOf(file)}">`,
)}
</div>
</section>`;
