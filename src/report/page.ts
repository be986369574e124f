/** A report as one HTML file that asks for nothing: its style, its program, its images and its data are inside. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Chart } from "./curves.ts";
import { Html, html, jsonIn, type Piece } from "./html.ts";
import type { MapShown } from "./pictures.ts";

export interface Page {
  readonly title: string;
  /** Below the title. */
  readonly about: string;
  readonly sections: Piece;
  readonly charts: readonly Chart[];
  readonly map?: MapShown | undefined;
  /** At the end. */
  readonly foot: string;
}

/** What the first bytes of a report say, so that no other file is taken for one. */
export const GENERATOR = '<meta name="generator" content="ort-pretrain report">';

/** The part of the page that runs in a browser; two levels below the project's root here and wherever this is built to. */
const OWN = fileURLToPath(new URL("../../src/report/page", import.meta.url));

export async function pageOf({ title, about, sections, charts, map, foot }: Page): Promise<string> {
  const uplot = dirname(createRequire(import.meta.url).resolve("uplot/package.json"));
  const [look, style, chartStyle, program, chartProgram, licence] = await Promise.all(
    [
      join(OWN, "look.css"),
      join(OWN, "report.css"),
      join(uplot, "dist/uPlot.min.css"),
      join(OWN, "report.js"),
      join(uplot, "dist/uPlot.iife.min.js"),
      join(uplot, "LICENSE"),
    ].map((path) => readFile(path, "utf8")),
  );
  const script = `${chartProgram}\n${program}`;
  const data = {
    charts,
    map: map && {
      points: map.points,
      names: map.names,
      labels: map.labels,
      classes: map.classes,
      columns: map.sprite.columns,
    },
  };
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
${new Html(GENERATOR)}
<meta http-equiv="Content-Security-Policy" content="${policyOf(script)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${new Html(chartStyle!)}
${new Html(look!)}
${new Html(style!)}</style>
</head>
<body>
<header>
<h1>${title}</h1>
<p><bdi>${about}</bdi></p>
</header>
<main>
${sections}
</main>
<footer>${foot}</footer>
<script type="application/json" id="data">${jsonIn(data)}</script>
<!-- uPlot
${new Html(licence!.replaceAll("--", "- -"))}-->
<script>${new Html(script)}</script>
</body>
</html>
`.text;
}

/** Nothing from anywhere, and no program but this one, whatever the page may hold. */
function policyOf(script: string): string {
  const hash = createHash("sha256").update(script).digest("base64");
  return [
    "default-src 'none'",
    "img-src data:",
    "style-src 'unsafe-inline'",
    `script-src 'sha256-${hash}'`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
}
