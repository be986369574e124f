/** A line chart of accuracy layer by layer, as SVG that is readable on light and on dark pages. */
import type { LayerScore } from "../../src/index.ts";

export interface Line {
  readonly name: string;
  /** "5 3" and the like; "none" for a whole line. */
  readonly dash: string;
  readonly layers: readonly LayerScore[];
}

/** Of the chart and of the plot in it, pixels. */
const [WIDTH, HEIGHT] = [680, 366];
const [LEFT, RIGHT, TOP, BOTTOM] = [48, 550, 40, 330];
/** Between two names at the ends of lines, pixels. */
const APART = 17;
/** Between two lines of the grid, percent. */
const GRID = 2;
/** Of lines, in turn, on light and on dark ground. */
const COLORS = [
  ["#7f7f7f", "#a8a8a8"],
  ["#e07b00", "#ffa53d"],
  ["#d1394b", "#ff7683"],
  ["#2f6fde", "#6ea0ff"],
  ["#1f9d63", "#4fd08f"],
  ["#8a5bd6", "#b594ff"],
] as const;

/** Each line with its name at its end. All have the same layers, of which the classifiers' mean interval is drawn once. */
export function layersChart(lines: readonly Line[]): string {
  const scores = lines.flatMap(({ layers }) => layers);
  const low = GRID * Math.floor(Math.min(...scores.map(({ top1 }) => top1)) / GRID);
  const high = GRID * Math.ceil(Math.max(...scores.map(({ top1 }) => top1)) / GRID);
  const names = lines[0]!.layers.map(({ name }) => name);
  const x = (layer: number) => LEFT + 24 + (layer * (RIGHT - LEFT - 48)) / (names.length - 1);
  const y = (top1: number) => BOTTOM - ((top1 - low) * (BOTTOM - TOP)) / (high - low);
  const ticks = Array.from({ length: (high - low) / GRID + 1 }, (_, i) => low + GRID * i);
  const half = scores.reduce((sum, score) => sum + (score.high - score.low) / 2, 0) / scores.length;
  const places = apart(lines.map(({ layers }) => y(layers.at(-1)!.top1)));
  const text = (atX: number, atY: number, words: string, anchor = "start", kind = "") =>
    `<text x="${f(atX)}" y="${f(atY)}" text-anchor="${anchor}"${kind && ` class="${kind}"`}>${words}</text>`;
  const bar = [y(high) + 2, y(high - 2 * half) + 2] as const;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img">
<title>Top-1 of a linear classifier on each layer</title>
<style>
  text { font: 13px system-ui, sans-serif; fill: #1b1f24; }
  .soft { fill: #656d76; }
  .ground { fill: #ffffff; }
  .grid { stroke: #e3e6ea; }
  .bar { stroke: #656d76; fill: none; }
${colors(0)}
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e9ed; }
    .soft { fill: #99a2ad; }
    .ground { fill: #14171b; }
    .grid { stroke: #2c323a; }
    .bar { stroke: #99a2ad; }
${colors(1)}
  }
</style>
<rect class="ground" width="${WIDTH}" height="${HEIGHT}"/>
${text(LEFT - 36, 22, "top-1, %", "start", "soft")}
${ticks.map((tick) => `<path class="grid" d="M${LEFT} ${f(y(tick))}H${RIGHT}"/>${text(LEFT - 8, y(tick) + 4, `${tick}`, "end", "soft")}`).join("\n")}
${names.map((name, i) => text(x(i), BOTTOM + 24, name, "middle")).join("\n")}
<path class="bar" d="M${RIGHT - 4} ${f(bar[0])}h8m-4 0V${f(bar[1])}m-4 0h8"/>
${text(RIGHT + 12, (bar[0] + bar[1]) / 2 + 4, "95 % interval", "start", "soft")}
${lines
  .map(({ name, dash, layers }, i) => {
    const color = i % COLORS.length;
    const points = layers.map(({ top1 }, layer) => [f(x(layer)), f(y(top1))] as const);
    const end = points.at(-1)!;
    return [
      `<polyline class="line-${color}" fill="none" stroke-width="2" stroke-dasharray="${dash}" points="${points.join(" ")}"/>`,
      ...points.map(([cx, cy]) => `<circle class="dot-${color}" cx="${cx}" cy="${cy}" r="3.5"/>`),
      `<path class="line-${color}" d="M${Number(end[0]) + 6} ${end[1]}L${RIGHT} ${f(places[i]!)}" stroke-width="0.7" fill="none"/>`,
      text(RIGHT + 4, places[i]! + 4, name, "start", `dot-${color}`),
    ].join("\n");
  })
  .join("\n")}
</svg>
`;
}

const f = (x: number): string => `${Number(x.toFixed(1))}`;

const colors = (ground: 0 | 1): string =>
  COLORS.map(
    (color, i) => `  .line-${i} { stroke: ${color[ground]}; } .dot-${i} { fill: ${color[ground]}; }`,
  ).join("\n");

/** Heights moved down so that each is at least `APART` below the one before, in their order. */
function apart(heights: readonly number[]): readonly number[] {
  const moved = [...heights];
  let least = -Infinity;
  for (const i of heights.map((_, i) => i).sort((a, b) => heights[a]! - heights[b]!)) {
    moved[i] = Math.max(heights[i]!, least);
    least = moved[i]! + APART;
  }
  return moved;
}
