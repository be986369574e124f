/** Sections of the page of `data check`. */
import { type Html, html } from "./html.ts";
import { cell, nameOf, styleOf } from "./pictures.ts";
import type { Sprite } from "./sprite.ts";

export type Figure = readonly [name: string, value: string, beside?: string | undefined];

export const figuresOf = (figures: readonly Figure[]): Html =>
  html`<section class="figures">${figures.map(
    ([name, value, beside]) =>
      html`<div><span>${name}</span><strong>${value}</strong><span>${beside}</span></div>`,
  )}</section>`;

export interface TableShown {
  readonly id: string;
  readonly title: string;
  readonly about: string;
  readonly heads: readonly string[];
  readonly rows: readonly (readonly (string | number)[])[];
}

export const tableSection = ({ id, title, about, heads, rows }: TableShown): Html => html`<section id="${id}">
<h2>${title}</h2>
<p>${about}</p>
<div class="wide"><table>
<tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr>${rows.map(
  (row) => html`
<tr>${row.map((value) => html`<td><bdi>${value}</bdi></td>`)}</tr>`,
)}
</table></div>
</section>`;

/** Images in groups: copies beside what they are copies of, say. */
export interface GroupsShown {
  readonly id: string;
  readonly title: string;
  readonly about: string;
  readonly groups: readonly {
    /** Below its images. */
    readonly label: string;
    readonly files: readonly string[];
  }[];
  /** Of all images of the groups, in their order. */
  readonly sprite: Sprite;
}

export function groupsSection({ id, title, about, groups, sprite }: GroupsShown): Html {
  let place = 0;
  const tile = (file: string) => {
    const [x, y] = [place % sprite.columns, Math.floor(place / sprite.columns)];
    place++;
    return html`<span>${cell(id, x, y, file)}</span>`;
  };
  return html`<section id="${id}">
<h2>${title}</h2>
<p>${about}</p>
${styleOf(id, sprite)}
<div class="copies">${groups.map(
    ({ label, files }) => html`
<div><span class="group">${files.map(tile)}</span><bdi class="note">${nameOf(label)}</bdi></div>`,
  )}
</div>
</section>`;
}
