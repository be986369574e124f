/** Sections of a report that show images: views, neighbours and the map. */

import type { ViewRecipe } from "../spec.ts";
import { type Html, html } from "./html.ts";
import type { Neighbour, Row } from "./neighbours.ts";
import { recipesInWords } from "./recipes.ts";
import type { Sprite } from "./sprite.ts";

/** Images as the network saw them: in each row of the sprite the image itself, then a view of each recipe. */
export interface ViewsShown {
  readonly sprite: Sprite;
  readonly recipes: readonly ViewRecipe[];
  /** Counted from 1. */
  readonly epoch: number;
  readonly files: readonly string[];
}

/** Side of a view that is shown pixel by pixel; larger ones are smoothed. */
const PIXELATED = 48;

export function viewsSection({ sprite, recipes, epoch, files }: ViewsShown): Html {
  const kind = sprite.cell <= PIXELATED ? "views pixelated" : "views";
  return html`<section id="views">
<h2>What the network saw</h2>
<p>Images of the run, and the views of them that it was given in epoch ${epoch}, drawn by the operators of its step.</p>
${styleOf("views", sprite)}
<div class="seen" style="--across: ${recipes.length + 1}">${files.map(
    (file, row) => html`
<div class="viewed"><span class="original">${cell(kind, 0, row, file)}</span>${recipes.map((_, i) =>
      cell(kind, i + 1, row, `view ${i + 1} of ${file}`),
    )}</div>`,
  )}
</div>
<ul class="recipes">${recipesInWords(recipes).map((line) => html`<li>${line}</li>`)}</ul>
</section>`;
}

/** Nearest neighbours of images, before training and after. */
export interface NeighboursShown {
  readonly rows: readonly Row[];
  /** Of all images in the rows. */
  readonly sprite: Sprite;
  /** Place of an image in the sprite, by its path. */
  readonly places: ReadonlyMap<string, number>;
  /** Images that they were chosen from. */
  readonly among: number;
  /** What the images are, such as "the run’s images". */
  readonly folder: string;
}

export function neighboursSection({ rows, sprite, places, among, folder }: NeighboursShown): Html {
  const classes = rows.some(({ category }) => category !== undefined);
  const before = rows.some((row) => row.before.length > 0);
  const tile = (file: string) => {
    const place = places.get(file);
    if (place === undefined) return undefined;
    return cell("near", place % sprite.columns, Math.floor(place / sprite.columns), nameOf(file));
  };
  const group = (title: string, neighbours: readonly Neighbour[]) =>
    html`<span class="group" data-title="${title}">${neighbours.map(
      ({ file, same }) =>
        html`<span class="${classes ? (same ? "same" : "other") : ""}">${tile(file)}</span>`,
    )}</span>`;
  return html`<section id="neighbours">
<h2>Nearest neighbours</h2>
<p>Images nearest to each by the cosine of their features${before ? ", at the start and now" : ""}, among ${among} of ${folder}.${
    classes ? " In a green frame are those of the image’s class." : undefined
  }</p>
${styleOf("near", sprite)}
<div class="neighbours${before ? "" : " alone"}">
<div class="row heads"><span></span>${before ? html`<span>at the start</span>` : undefined}<span>now</span></div>${rows.map(
    (row) => html`
<div class="row"><span class="query">${tile(row.query)}<bdi>${row.category}</bdi></span>${
      before ? group("at the start", row.before) : undefined
    }${group("now", row.after)}</div>`,
  )}
</div>
</section>`;
}

/** Images in the plane. */
export interface MapShown {
  readonly points: readonly (readonly [x: number, y: number])[];
  /** The end of each image's path. */
  readonly names: readonly string[];
  /** Place in `classes` of each, empty where there are none. */
  readonly labels: readonly number[];
  readonly classes: readonly string[];
  /** Of all images, in their order. */
  readonly sprite: Sprite;
  /** What the images are, such as "the run’s images". */
  readonly folder: string;
}

export const mapSection = ({ points, classes, sprite, folder }: MapShown): Html => html`<section id="map">
<h2>Map of the embeddings</h2>
<p>${points.length} of ${folder}, placed by UMAP so that neighbours by the cosine of their features stay together${
  classes.length > 0 ? "; the colour is the class, which training did not see" : ""
}. Point at one to see it.</p>
${styleOf("mapped", sprite)}
<div class="map"><canvas role="img" aria-label="map of ${points.length} images"></canvas><div class="tip" hidden><span class="cell mapped"></span><bdi class="name"></bdi><bdi class="class"></bdi></div></div>
<ul class="classes"></ul>
</section>`;

/** The part of a path that is shown: the end of a long one. */
export const nameOf = (path: string): string =>
  path.length <= NAME ? path : `…${path.slice(path.length - NAME + 1)}`;
const NAME = 80;

/** The sprite as the background of cells of a kind, once. */
export const styleOf = (
  kind: string,
  { url, columns, rows, cell }: Sprite,
): Html => html`<style>.${kind}.cell {
  --columns: ${columns};
  --rows: ${rows};
  --side: ${cell}px;
  background-image: url("${url}");
}</style>`;

export const cell = (kind: string, x: number, y: number, label: string): Html =>
  html`<i class="cell ${kind}" style="--x: ${x}; --y: ${y}" role="img" aria-label="${nameOf(label)}" title="${nameOf(label)}"></i>`;
