/** Images, views and neighbours as pictures. */
import type { Answer, Neighbours } from "../messages.ts";
import { made } from "./dom.ts";
import type { Square } from "./squares.ts";

/** Pixels [side, side, 3] as an element; `label` is what it shows. */
export function picture(pixels: Uint8Array, side: number, label: string): HTMLCanvasElement {
  const canvas = made("canvas", side <= PIXELATED ? "picture pixelated" : "picture");
  canvas.width = side;
  canvas.height = side;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  canvas.title = label;
  const image = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[3 * i + c]!;
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d")?.putImageData(image, 0, 0);
  return canvas;
}

/** Side up to which a picture is shown pixel by pixel; larger ones are smoothed. */
const PIXELATED = 48;

/** Squares of one side as pictures. */
export const pictureOf = ({ pixels, name }: Square, side: number) => picture(pixels, side, name);

/** A column for each image, its views below each other, small ones smaller. */
export function viewsShown({ rows, views }: Extract<Answer, { kind: "views" }>): HTMLElement[] {
  const most = Math.max(...views.map(({ size }) => size));
  return Array.from({ length: rows }, (_, row) => {
    const column = views.map(({ size, pixels }, i) => {
      const length = 3 * size * size;
      const view = pixels.subarray(row * length, (row + 1) * length);
      const shown = picture(view, size, `view ${i + 1} of image ${row + 1}`);
      shown.style.setProperty("--scale", `${size / most}`);
      return shown;
    });
    return made("span", "column", ...column);
  });
}

/** Rows of queries, each with its neighbours before and now. */
export function neighboursShown(
  squares: readonly Square[],
  side: number,
  before: Neighbours | undefined,
  now: Neighbours,
  step: number,
): HTMLElement[] {
  const shown = (index: number) => {
    const square = squares[index];
    return made("span", "", ...(square ? [pictureOf(square, side)] : []));
  };
  const group = (title: string, nearest: readonly number[] = []) => {
    const element = made("span", "group", ...nearest.map(shown));
    element.dataset.title = title;
    return element;
  };
  const titles = ["before training", `now, after step ${step}`] as const;
  const rows = now.queries.map((query, i) => {
    const earlier = before?.nearest[before.queries.indexOf(query)];
    return made(
      "div",
      "row",
      made("span", "query", shown(query)),
      ...(before ? [group(titles[0], earlier)] : []),
      group(titles[1], now.nearest[i]),
    );
  });
  const heads = [made("span", ""), ...titles.slice(before ? 0 : 1).map((title) => made("span", "", title))];
  return [made("div", "row heads", ...heads), ...rows];
}
