/**
 * What pretraining adds to segmentation: mean IoU of a linear classifier on the feature maps of an encoder, pretrained and
 * as initialised, over seeds. `tsx scripts/bench/segmentation.ts --out DIR`; the images are drawn (see `scripts/shapes.ts`):
 * some to pretrain on, part of them with masks, and others to test on. Goes on where it was cut off; prints a Markdown table.
 */
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { recordProbes } from "../../src/api/probe-record.ts";
import { segmentationSummary } from "../../src/api/segmentation.ts";
import { writeFileAtomic } from "../../src/files/atomic.ts";
import { type SegmentationResult, segmentation, train } from "../../src/index.ts";
import { shapes } from "../shapes.ts";

const { values } = parseArgs({
  options: {
    out: { type: "string", default: "runs/segmentation" },
    method: { type: "string", default: "simclr" },
    encoder: { type: "string", default: "resnet20" },
    size: { type: "string", default: "64" },
    images: { type: "string", default: "2000" },
    labelled: { type: "string", default: "200" },
    test: { type: "string", default: "200" },
    epochs: { type: "string", default: "30" },
    batch: { type: "string", default: "64" },
    lr: { type: "string" },
    seeds: { type: "string", default: "3" },
    stage: { type: "string", multiple: true },
    threads: { type: "string" },
  },
});
const { out, method, encoder } = values;
const [size, images] = [Number(values.size), Number(values.images)];
const [labelled, tested] = [Number(values.labelled), Number(values.test)];
const [epochs, batch, seeds] = [Number(values.epochs), Number(values.batch), Number(values.seeds)];
const lr = values.lr === undefined ? undefined : Number(values.lr);
const threads = values.threads === undefined ? undefined : Number(values.threads);
const surroundings = { output: { stream: process.stderr, quiet: false } };

/** Draws a set where it is not there yet. */
async function drawnSet(name: string, count: number, seed: number): Promise<string> {
  const dir = join(out, name);
  if (!existsSync(join(dir, "done"))) {
    await shapes(dir, count, { width: size, height: size, seed });
    await writeFileAtomic(join(dir, "done"), "");
  }
  return dir;
}

await mkdir(out, { recursive: true });
const data = await drawnSet("pretrain", images, 0);
const test = await drawnSet("test", tested, 1);
const stages = values.stage ?? [undefined];

type Summary = ReturnType<typeof segmentationSummary>;

/** Of a run, kept in a file of its name for each stage. */
async function scoreOf(
  name: string,
  seed: number,
  steps: object,
  stage: string | undefined,
): Promise<Summary> {
  const run = join(out, `${name}-${seed}`);
  const kept = `${run}-${stage ?? "last"}.json`;
  if (!existsSync(kept)) {
    const resumed = existsSync(join(run, "config.json"));
    const settings = { method, encoder, imageSize: size, batch, lr, seed, threads, out: run, ...steps };
    if (!resumed) await train({ ...settings, data: join(data, "images") }, surroundings);
    else await train({ out: run, resume: true, threads }, surroundings);
    const asked = { encoder: run, data, test, limit: labelled, stage, threads };
    const result: SegmentationResult = await segmentation(asked, surroundings);
    await recordProbes([result], asked, surroundings);
    await writeFileAtomic(kept, JSON.stringify(segmentationSummary(result), null, 2));
  }
  return JSON.parse(await readFile(kept, "utf8")) as Summary;
}

const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
const lines = [row(["map", "seed", "as initialised", "pretrained", "gain"]), row(Array(5).fill("---"))];
for (const stage of stages)
  for (let seed = 0; seed < seeds; seed++) {
    const before = await scoreOf("initial", seed, { steps: 0 }, stage);
    const after = await scoreOf(method, seed, { epochs }, stage);
    const shown = ({ meanIoU, low, high }: Summary) =>
      `${meanIoU.toFixed(1)} (${low.toFixed(1)} to ${high.toFixed(1)})`;
    lines.push(
      row([after.stage, `${seed}`, shown(before), shown(after), (after.meanIoU - before.meanIoU).toFixed(1)]),
    );
  }
console.log(lines.join("\n"));
