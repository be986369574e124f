/** Sections of a report that show what probes found. */
import type { Chart } from "./curves.ts";
import { type Html, html, type Piece } from "./html.ts";
import {
  type Accuracy,
  askedBy,
  type Confusion,
  type Probe,
  type Segmentation,
  type Spread,
} from "./probes.ts";
import type { Run } from "./run.ts";
import { figureOf } from "./sections.ts";
import { segmentationPictures } from "./segmentation.ts";

/** Classes whose confusion is readable as a table. */
const MOST_CLASSES = 30;
/** Pairs of classes that are listed where it is not. */
const MOST_PAIRS = 20;
/** Probes whose confusion is shown, the newest. */
const MOST_CONFUSIONS = 6;

/** Probes whose pictures are shown, the newest. */
const MOST_PICTURES = 3;

/** A line of a table: one measure of a probe. */
interface Line {
  readonly name: string;
  readonly value: string;
  /** 95 %. */
  readonly interval?: string;
  readonly top5?: string;
  /** Over trainings with other seeds. */
  readonly trainings?: Spread | undefined;
}

function linesOf(probe: Probe): readonly Line[] {
  if (probe.kind === "rank") {
    const { rankme, alpha, uniformity, alignment, lidar } = probe;
    const measures = { RankMe: rankme, alpha, uniformity, alignment, LiDAR: lidar };
    return Object.entries(measures).flatMap(([name, value]) =>
      value == null ? [] : [{ name, value: `${Number(value.toPrecision(4))}` }],
    );
  }
  if (probe.kind === "segmentation") {
    const { meanIoU, pixelAccuracy, stage, low, high, classes } = probe;
    return [
      { name: `mean IoU, linear on ${stage}`, ...percents(meanIoU, low, high) },
      { name: "pixel accuracy", value: `${pixelAccuracy.toFixed(2)} %` },
      ...classes.slice(0, MOST_CLASSES).map((one) => ({
        ...{ name: `IoU of ${one.class}`, value: `${one.iou.toFixed(2)} %` },
      })),
    ];
  }
  const { kind, layers, k = FIVE } = probe;
  if (layers)
    return layers.map((layer) => ({
      ...{ name: `linear on ${layer.name}`, ...scoresOf(layer), trainings: layer.repeats },
    }));
  const top5 = k >= FIVE && { top5: `${probe.top5.toFixed(2)} %` };
  const name = kind === "knn" ? "kNN" : kind;
  return [{ name, ...scoresOf(probe), ...top5, trainings: probe.repeats?.top1 }];
}

/** Fewer neighbours name no five classes. */
const FIVE = 5;

const percents = (value: number, low: number, high: number) => ({
  value: `${value.toFixed(2)} %`,
  interval: `${low.toFixed(2)} to ${high.toFixed(2)}`,
});

const scoresOf = ({ top1, low, high }: Pick<Accuracy, "top1" | "low" | "high">) => percents(top1, low, high);

/** What a probe was asked for, in words. */
function settingsOf(probe: Probe): string {
  const { limit, seed } = probe;
  const sample = [limit !== undefined && `--limit ${limit}`, seed !== 0 && `seed ${seed}`];
  return [...ownSettings(probe), ...sample].filter(Boolean).join(", ");
}

function ownSettings(probe: Probe): readonly (string | false | undefined)[] {
  if (probe.kind === "rank") return [probe.views !== undefined && `${probe.views} views`];
  if (probe.kind === "segmentation") return [`${probe.grid}x${probe.grid} map`, `${probe.epochs} epochs`];
  return [
    probe.k !== undefined && `k = ${probe.k}`,
    probe.temperature !== undefined && `T = ${probe.temperature}`,
    probe.epochs !== undefined && `${probe.epochs} epochs`,
    probe.augment && "crops and flips",
    probe.labels !== undefined && `${Number((100 * probe.labels).toPrecision(4))} % of the labels`,
  ];
}

/** Of several seeds: their mean and standard deviation. */
const spreadOf = (probe: Probe): string | undefined =>
  !("seeds" in probe) || !probe.seeds
    ? undefined
    : `; ${probe.seeds.top1.length} seeds: ${probe.seeds.mean.toFixed(2)} ± ${probe.seeds.std.toFixed(2)} %`;

/** The same of several trainings. */
const trainingsOf = ({ trainings }: Pick<Line, "trainings">): string | undefined =>
  trainings &&
  `; ${trainings.values.length} trainings: ${trainings.mean.toFixed(2)} ± ${trainings.std.toFixed(2)} %`;

const imagesOf = (probe: Probe): string =>
  probe.kind === "rank" ? `${probe.images} images` : `${probe.train} train, ${probe.test} test`;

/** The folder that it was asked about. */
const folderOf = ({ data }: Probe): string => ("images" in data ? data.images : data.test);

/** A chart of each probe of layers, over the layers. */
export const layerCharts = (probes: readonly Probe[]): readonly Chart[] =>
  probes.flatMap((probe) => {
    const layers = ("layers" in probe && probe.layers) || [];
    if (layers.length < 2) return [];
    const along = (key: "top1" | "low" | "high") => layers.map((layer) => Number(layer[key].toFixed(2)));
    const series = {
      ...{ name: "top-1", color: 0, x: layers.map((_, i) => i), y: along("top1") },
      ...{ low: along("low"), high: along("high") },
    };
    return [
      {
        key: "layers",
        title: "Linear top-1, layer by layer",
        unit: "%",
        note: `with the 95 % interval; ${settingsOf(probe)}, after ${probe.step} steps`,
        labels: layers.map(({ name }) => name),
        series: [series],
      },
    ];
  });

/**
 * A table of all probes, and where there are some, charts of layers and confusions. Undefined of no probes.
 * @param first place of the first of `charts` among those of the page
 */
export function probesSection(
  probes: readonly Probe[],
  charts: readonly Chart[],
  first: number,
): Html | undefined {
  if (probes.length === 0) return undefined;
  const confusions = probes.flatMap((probe) =>
    probe.kind !== "rank" && probe.confusion ? [{ probe, confusion: probe.confusion }] : [],
  );
  const pictures = probes.flatMap((probe) =>
    probe.kind === "segmentation" && probe.pictures ? [{ probe, shown: probe.pictures }] : [],
  );
  return html`<section id="probes">
<h2>Probes</h2>
<p>Of the frozen encoder, the newest first. An interval says how far another sample of test images would lead.</p>
<div class="wide"><table>
<tr>${["", "top-1, or value", "95 % interval", "top-5", "settings", "images", "data", "after"].map(
    (name) => html`<th scope="col">${name}</th>`,
  )}</tr>${probes.map((probe) =>
    linesOf(probe).map(
      ({ name, value, interval, top5, ...line }) => html`
<tr><th scope="row"><bdi>${name}</bdi></th><td><strong>${value}</strong></td><td>${interval}</td><td>${top5}</td><td>${settingsOf(probe)}${spreadOf(probe)}${trainingsOf(line)}</td><td>${imagesOf(probe)}</td><td class="path"><bdi>${folderOf(probe)}</bdi></td><td>${probe.step} steps</td></tr>`,
    ),
  )}
</table></div>
${charts.length > 0 ? html`<div class="charts">${charts.map((chart, i) => figureOf(chart, first + i))}</div>` : undefined}
${pictures.slice(0, MOST_PICTURES).map(
  ({ probe, shown }, i) => html`
<details${i === 0 ? html` open` : undefined}><summary>Segmentation on ${probe.stage}, ${settingsOf(probe)}, after ${probe.step} steps</summary>
${segmentationPictures(shown, `masks${i}`)}
</details>`,
)}
${confusions.slice(0, MOST_CONFUSIONS).map(
  ({ probe, confusion }, i) => html`
<details${i === 0 ? html` open` : undefined}><summary>Confusion of ${confusedBy(probe)}, ${settingsOf(probe)}</summary>
${confusion.names.length <= MOST_CLASSES ? confusionTable(confusion, unitOf(probe)) : confusionList(probe, confusion)}
</details>`,
)}
</section>`;
}

type Confused = Accuracy | Segmentation;

/** What was confused: the classifier of the last of several layers, for one. */
const confusedBy = (probe: Confused): string =>
  probe.kind === "segmentation" ? `pixels on ${probe.stage}` : linesOf(probe).at(-1)!.name;

/** What is counted. */
type Unit = "images" | "pixels";
const unitOf = ({ kind }: Confused): Unit => (kind === "segmentation" ? "pixels" : "images");

/** Rows are the classes of the images or pixels, columns those that they were taken for; colour is the share of a row. */
function confusionTable({ names, pairs }: Confusion, unit: Unit): Html {
  const counts = names.map(() => new Map<number, number>());
  for (const [own, taken, n] of pairs) counts[own]!.set(taken, n);
  return html`<p class="note">Row: the class of the ${unit}; column: the class that they were taken for. Of each class, last: the share that is right.</p>
<div class="wide"><table class="confusion">
<tr><td></td>${names.map((name) => html`<th scope="col"><span><bdi>${name}</bdi></span></th>`)}<td></td></tr>${names.map(
    (name, own) => {
      const row = counts[own]!;
      const all = [...row.values()].reduce((sum, n) => sum + n, 0);
      return html`
<tr><th scope="row"><span><bdi>${name}</bdi></span></th>${names.map((other, taken) => {
        const n = row.get(taken);
        if (n === undefined) return html`<td></td>`;
        const kind = taken === own ? "right" : "wrong";
        return html`<td class="${kind}" style="--share: ${Math.round((100 * n) / all)}%" title="${name} taken for ${other}">${n}</td>`;
      })}<td class="note">${all > 0 ? `${((100 * (row.get(own) ?? 0)) / all).toFixed(0)} %` : undefined}</td></tr>`;
    },
  )}
</table></div>`;
}

/** The classes that are most often taken for another. */
function confusionList(probe: Confused, { names, pairs }: Confusion): Html {
  const of =
    probe.kind === "segmentation"
      ? probe.classes.map((score) => [score.class, score.pixels] as const)
      : (probe.classes ?? []).map((score) => [score.class, score.images] as const);
  const all = new Map(of);
  const worst = pairs.filter(([own, taken]) => own !== taken).slice(0, MOST_PAIRS);
  return html`<p class="note">The pairs of classes that are confused most often.</p>
<div class="wide"><table>
<tr><th scope="col">class</th><th scope="col">taken for</th><th scope="col">${unitOf(probe)}</th></tr>${worst.map(
    ([own, taken, n]) => html`
<tr><td><bdi>${names[own]}</bdi></td><td><bdi>${names[taken]}</bdi></td><td>${n} of ${all.get(names[own]!) ?? "?"}</td></tr>`,
  )}
</table></div>`;
}

/** A row for each measure that was asked for alike, with what it is of each run. Undefined of no probes. */
export function probesComparison(
  runs: readonly Run[],
  probes: readonly (readonly Probe[])[],
): Html | undefined {
  const rows = new Map<string, { head: readonly Piece[]; cells: Map<number, Line> }>();
  probes.forEach((own, run) => {
    for (const probe of own)
      for (const line of linesOf(probe)) {
        const key = JSON.stringify([askedBy(probe), line.name]);
        const head = [line.name, settingsOf(probe), folderOf(probe)];
        const row = rows.get(key) ?? { head, cells: new Map<number, Line>() };
        rows.set(key, row);
        row.cells.set(run, line);
      }
  });
  if (rows.size === 0) return undefined;
  return html`<section id="probes">
<h2>Probes</h2>
<p>In brackets the 95 % interval: how far another sample of test images would lead.</p>
<div class="wide"><table>
<tr><th></th>${runs.map(({ name }) => html`<th scope="col"><bdi>${name}</bdi></th>`)}<th scope="col">settings</th><th scope="col">data</th></tr>${[
    ...rows.values(),
  ].map(
    ({ head: [name, settings, folder], cells }) => html`
<tr><th scope="row"><bdi>${name}</bdi></th>${runs.map((_, run) => {
      const line = cells.get(run);
      return html`<td>${line ? html`<strong>${line.value}</strong>${line.interval && ` (${line.interval})`}` : "–"}</td>`;
    })}<td>${settings}</td><td class="path"><bdi>${folder}</bdi></td></tr>`,
  )}
</table></div>
</section>`;
}
