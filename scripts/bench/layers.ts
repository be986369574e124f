/**
 * Accuracy layer by layer of methods that have seen the same images for as many steps: `tsx scripts/bench/layers.ts
 * --data DIR`, DIR with labelled folders train/ and test/, such as CIFAR-10. Goes on where it was cut off; prints a
 * Markdown table and writes layers.svg into --out.
 */
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writeFileAtomic } from "../../src/files/atomic.ts";
import { type LayerScore, probe, train } from "../../src/index.ts";
import { type Line, layersChart } from "./layers-chart.ts";

const { values } = parseArgs({
  options: {
    method: { type: "string", multiple: true, default: ["rotation", "jigsaw", "simclr", "pirl", "vicreg"] },
    data: { type: "string", default: "data" },
    out: { type: "string", default: "runs/layers" },
    epochs: { type: "string", default: "8" },
    limit: { type: "string", default: "5000" },
    threads: { type: "string" },
  },
});
const { data, out } = values;
const [epochs, limit] = [Number(values.epochs), Number(values.limit)];
const threads = values.threads === undefined ? undefined : Number(values.threads);
const [trainDir, testDir] = [join(data, "train"), join(data, "test")];
if (!existsSync(trainDir) || !existsSync(testDir)) {
  console.error(`${data}: expected labelled folders train/ and test/; give --data DIR`);
  process.exit(2);
}

const INITIAL = "as initialised";
/** Of lines in the chart: methods with a pretext task are dashed. */
const DASHES: Readonly<Record<string, string>> = { [INITIAL]: "1 4", rotation: "7 4", jigsaw: "7 4" };
const surroundings = { output: { stream: process.stderr, quiet: false } };

/** The layers' scores, kept in a file of the run's name. */
async function scoresOf(name: string): Promise<readonly LayerScore[]> {
  const run = join(out, name.replaceAll(" ", "-"));
  const kept = `${run}.json`;
  if (!existsSync(kept)) {
    if (existsSync(join(run, "config.json"))) await train({ out: run, resume: true, threads }, surroundings);
    else {
      const what = name === INITIAL ? { steps: 0 } : { method: name, epochs };
      const settings = { encoder: "resnet20", imageSize: 32, batch: 128, data: trainDir, limit, threads };
      await train({ ...settings, ...what, out: run }, surroundings);
    }
    const folders = { train: trainDir, test: testDir, limit, threads };
    const { layers } = await probe({ encoder: run, kind: "layers", ...folders }, surroundings);
    await writeFileAtomic(kept, `${JSON.stringify({ layers }, null, 2)}\n`);
  }
  return (JSON.parse(await readFile(kept, "utf8")) as { layers: readonly LayerScore[] }).layers;
}

await mkdir(out, { recursive: true });
const lines: Line[] = [];
for (const name of [INITIAL, ...values.method])
  lines.push({ name, dash: DASHES[name] ?? "none", layers: await scoresOf(name) });
const chart = join(out, "layers.svg");
await writeFileAtomic(chart, layersChart(lines));

const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
const layers = lines[0]!.layers;
const score = ({ top1, low, high }: LayerScore) =>
  `${top1.toFixed(1)} (${low.toFixed(1)} to ${high.toFixed(1)})`;
console.log(
  [
    row(["", ...layers.map(({ name }) => name)]),
    `|${"---|".repeat(layers.length + 1)}`,
    row(["values", ...layers.map(({ features }) => features.toLocaleString("en"))]),
    ...lines.map((line) => row([line.name, ...line.layers.map(score)])),
  ].join("\n"),
);
console.log(`\n${chart}`);
