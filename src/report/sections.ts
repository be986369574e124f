/** Sections of a report that hold figures: what came of a run, its curves, settings, time and memory. */
import { duration } from "../train/duration.ts";
import { plannedSteps } from "../train/run-folder.ts";
import type { Chart } from "./curves.ts";
import { type Html, html } from "./html.ts";
import { isDone, type Run, spentBy, stepsPerEpoch } from "./run.ts";
import { type Difference, settingsOf } from "./settings.ts";

/** What came of a run, in a line of figures. */
export function figuresSection(run: Run): Html {
  const { records } = run;
  const last = records.at(-1);
  const chance = records[0]?.chance;
  const spent = spentBy(run);
  const logged = (name: "knn" | "validation") => records.flatMap(({ [name]: value }) => value ?? []);
  const best = (title: string, values: readonly number[]) =>
    values.length === 0
      ? []
      : [[title, `${values.at(-1)!.toFixed(2)} %`, `best ${Math.max(...values).toFixed(2)} %`] as const];
  const ranked = records.findLast(({ rankme }) => rankme !== undefined);
  const figures: readonly (readonly [name: string, value: string, beside?: string | undefined])[] = [
    [
      isDone(run) ? "trained" : "trained so far",
      `${last?.step ?? 0} steps`,
      `${((last?.step ?? 0) / stepsPerEpoch(run)).toFixed(1)} epochs${isDone(run) ? "" : ` of ${(plannedSteps(run.config) / stepsPerEpoch(run)).toFixed(1)}`}`,
    ],
    ...(last?.loss === undefined
      ? []
      : [
          [
            "loss",
            last.loss.toFixed(4),
            chance === undefined ? undefined : `chance ${chance.toFixed(4)}`,
          ] as const,
        ]),
    ...best("images held out", logged("validation")),
    ...best("kNN top-1", logged("knn")),
    ...(ranked
      ? [
          [
            "RankMe",
            ranked.rankme!.toFixed(1),
            ranked.alpha === undefined ? undefined : `α ${ranked.alpha.toFixed(2)}`,
          ] as const,
        ]
      : []),
    ...(spent ? [["trained for", duration(spent.seconds)] as const] : []),
    ...(last?.imagesPerSecond === undefined
      ? []
      : [["throughput", `${meanRate(run).toFixed(0)} images/s`] as const]),
    ...(spent ? [["memory", gigabytes(spent.peakRssBytes), "of the process, at most"] as const] : []),
  ];
  return html`<section class="figures">${figures.map(
    ([name, value, beside]) =>
      html`<div><span>${name}</span><strong>${value}</strong><span>${beside}</span></div>`,
  )}</section>`;
}

/** Of all steps, images/s: each logged rate is an average of what a step took. */
const meanRate = ({ records }: Run): number =>
  records.length / records.reduce((sum, record) => sum + 1 / Math.max(record.imagesPerSecond ?? 0, 1e-9), 0);

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(2)} GB`;

/** A figure for each chart, which the page's program draws by its place. */
export const curvesSection = (charts: readonly Chart[]): Html | undefined =>
  charts.length === 0
    ? undefined
    : html`<section id="curves">
<h2>Curves</h2>
<p>Over epochs. Point at one for its values; drag over a part to enlarge it, and double-click to go back.</p>
<div class="charts">${charts.map(figureOf)}
</div>
</section>`;

/** The figure of a chart, by its place among those of the page. */
export const figureOf = ({ title, unit, note }: Chart, place: number): Html => html`
<figure data-chart="${place}"><figcaption><strong>${title}</strong>${unit && ` ${unit}`}<br><span class="note">${note}</span></figcaption><div class="plot"></div></figure>`;

export const settingsSection = (run: Run): Html => html`<section id="settings">
<h2>Configuration and data</h2>
${pairsOf([...settingsOf(run)])}
</section>`;

/** Undefined where the run logged no time. */
export function timeSection(run: Run): Html | undefined {
  const spent = spentBy(run);
  if (!spent) return undefined;
  const share = (seconds: number) =>
    `${duration(seconds)} (${((100 * seconds) / spent.seconds).toFixed(1)} %)`;
  const beside: readonly (readonly [string, number])[] = [
    ["checkpoints", spent.checkpoints],
    ["kNN and rank", spent.evaluations],
    ["start and export", spent.startAndExport],
  ];
  return html`<section id="time">
<h2>Time and memory</h2>
${pairsOf([
  ["in all", duration(spent.seconds)],
  [spent.apart ? "steps" : "steps, checkpoints and the like", share(spent.steps)],
  ["waiting for images", share(spent.waited)],
  ...beside.flatMap(([name, seconds]) => (seconds > 0 ? [[name, share(seconds)] as const] : [])),
  ["memory of the process, at most", gigabytes(spent.peakRssBytes)],
])}
</section>`;
}

/** A row for each run, and what differs between them. */
export function comparisonSection(runs: readonly Run[], differing: readonly Difference[]): Html {
  const figures: readonly (readonly [string, (run: Run) => string])[] = [
    ["steps done", ({ records }) => `${records.at(-1)?.step ?? 0}`],
    ["loss", ({ records }) => records.at(-1)?.loss?.toFixed(4) ?? ""],
    [
      "kNN top-1, last",
      ({ records }) => records.findLast(({ knn }) => knn !== undefined)?.knn?.toFixed(2) ?? "",
    ],
    [
      "RankMe, last",
      ({ records }) => records.findLast(({ rankme }) => rankme !== undefined)?.rankme?.toFixed(1) ?? "",
    ],
    ["images/s", (run) => (run.records.length > 0 ? meanRate(run).toFixed(0) : "")],
    ["trained for", (run) => duration(spentBy(run)?.seconds ?? Number.NaN)],
  ];
  const rows: readonly (readonly [string, readonly string[]])[] = [
    ...figures.map(([name, of]) => [name, runs.map(of)] as const),
    ...differing.map(({ name, values }) => [name, values.map((value) => value ?? "–")] as const),
  ];
  return html`<section id="comparison">
<h2>What differs</h2>
<div class="wide"><table>
<tr><th></th>${runs.map(({ name }) => html`<th scope="col"><bdi>${name}</bdi></th>`)}</tr>${rows.map(
    ([name, values]) => html`
<tr><th scope="row">${name}</th>${values.map((value) => html`<td><bdi>${value}</bdi></td>`)}</tr>`,
  )}
</table></div>
</section>`;
}

/** What could not be shown, and why. */
export const notesSection = (notes: readonly string[]): Html | undefined =>
  notes.length === 0
    ? undefined
    : html`<section id="notes"><h2>Left out</h2><ul>${notes.map((note) => html`<li><bdi>${note}</bdi></li>`)}</ul></section>`;

const pairsOf = (pairs: readonly (readonly [string, string])[]): Html =>
  html`<dl>${pairs.map(
    ([name, value]) => html`
<div class="pair"><dt>${name}</dt><dd><bdi>${value}</bdi></dd></div>`,
  )}
</dl>`;
