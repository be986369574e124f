/** The main task on a small scale: pretrain on emoji without their labels, and measure how good the features are. */
import { rm } from "node:fs/promises";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { openEncoder, report, train } from "../src/index.ts";
import { rowsOf } from "../src/report/neighbours.ts";
import { compare, judge, K } from "./demo-compare.ts";
import { demoData } from "./demo-data.ts";
import { writeSheet } from "./demo-neighbours.ts";

/** The same on every machine, so that what is learnt does not hang on its speed. */
const STEPS = 400;

const { values } = parseArgs({ options: { json: { type: "boolean" } } });
const started = performance.now();
const say = (line: string) => process.stderr.write(`${line}\n`);

const data = await demoData("runs/demo-data");
const settings = {
  method: "moco",
  encoder: "resnet20",
  imageSize: 24,
  batch: 64, // many small steps, for there are few images
  lr: 0.08,
  warmupEpochs: 2,
  // An emoji is one thing in the middle: large crops. The queue is shorter than an epoch: few keys of the same image.
  config: { symmetric: true, queue: 512, splits: 1, temperature: 0.15, cropScale: 0.25 },
  data: data.train,
  seed: 0,
} as const;

say("1/3  the encoder as initialised: how far do random features come?");
for (const run of ["runs/demo-initial", "runs/demo"]) await rm(run, { recursive: true, force: true });
const initial = await train({ ...settings, out: "runs/demo-initial", steps: 0 });
const before = await judge(initial.run, data);

say(`2/3  MoCo on ${before.train.files.length} images alone, without labels`);
const progress = { output: { stream: process.stderr, quiet: false } };
const trained = await train({ ...settings, out: "runs/demo", steps: STEPS }, progress);

say("3/3  the same test with the trained encoder");
const after = await judge(trained.run, data);
const { before: knnInitial, after: knnTrained, gain, interval } = compare(before.right, after.right);
const neighbours = join(trained.run, "neighbours.png");
await writeSheet(neighbours, rowsOf(data, before, after));
const { report: page } = await report(trained.run);

const seconds = (performance.now() - started) / 1000;
if (values.json) {
  const { run, encoder, steps } = trained;
  const result = {
    knnInitial,
    knnTrained,
    gain,
    interval,
    steps,
    run,
    encoder,
    neighbours,
    report: page,
    seconds,
  };
  console.log(JSON.stringify(result));
} else {
  const encoder = await openEncoder(trained.run);
  const { features, imageSize } = encoder.metadata;
  await encoder.close();
  const here = (path: string) => relative(process.cwd(), path);
  const [from, to] = interval.map((points) => points.toFixed(1));
  console.log(`
kNN top-1 on ${before.right.length} held-out emoji (10 categories, k = ${K})
  random initialisation   ${knnInitial.toFixed(1)} %
  after pretraining       ${knnTrained.toFixed(1)} %
  ${gain.toFixed(1)} points better, 95 % interval ${from} to ${to}

look at  ${here(neighbours)}: held-out emoji, the five training images nearest to
         each before pretraining and after; in a green frame are those of its category
report   ${here(page)}: curves, views, and a map of the embeddings, in a browser
run      ${here(trained.run)}
encoder  ${here(join(trained.run, "encoder.onnx"))}  (uint8 [n, h, w, 3] -> float32 [n, ${features}], made for ${imageSize} px)
took     ${Math.round(seconds)} s`);
}
