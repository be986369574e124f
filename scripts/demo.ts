/** The main task on a small scale: pretrain on emoji without their labels, and measure how good the features are. */
import { rm } from "node:fs/promises";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { openEncoder, probe, train } from "../src/index.ts";
import { demoData } from "./demo-data.ts";

const TRAINING_SECONDS = 195;
/** What a fast machine needs no more than. */
const MOST_STEPS = 1400;

const { values } = parseArgs({ options: { json: { type: "boolean" } } });
const started = performance.now();
const say = (line: string) => process.stderr.write(`${line}\n`);
const output = { stream: process.stderr, quiet: false };

const data = await demoData("runs/demo-data");
const settings = {
  method: "simclr",
  encoder: "resnet20",
  imageSize: 32,
  batch: 32, // many small steps, for there are few images
  lr: 0.04,
  // An emoji is one thing in the middle, told by its colors too: larger crops and a little less jitter than photos.
  config: { cropScale: 0.25, strength: 0.4 },
  data: data.train,
  seed: 0,
} as const;
const knn = async (encoder: string) =>
  (await probe({ encoder, kind: "knn", ...data, k: 20, temperature: 0.2 }, { output })).top1;

say("1/3  the encoder as initialised: how far do random features come?");
for (const run of ["runs/demo-initial", "runs/demo-speed", "runs/demo"])
  await rm(run, { recursive: true, force: true });
const initial = await train({ ...settings, out: "runs/demo-initial", steps: 0 });
const knnInitial = await knn(initial.run);

say("2/3  SimCLR on the images alone, without labels, for about three minutes");
const { imagesPerSecond } = await train({ ...settings, out: "runs/demo-speed", steps: 60 });
const steps = Math.min(MOST_STEPS, Math.ceil((TRAINING_SECONDS * imagesPerSecond) / settings.batch));
const trained = await train({ ...settings, out: "runs/demo", steps }, { output });

say("3/3  the same test with the trained encoder");
const knnTrained = await knn(trained.run);
const encoder = await openEncoder(trained.run);
const { features, imageSize } = encoder.metadata;
await encoder.close();

const here = (path: string) => relative(process.cwd(), path);
const seconds = (performance.now() - started) / 1000;
if (values.json) {
  console.log(
    JSON.stringify({ knnInitial, knnTrained, run: trained.run, encoder: trained.encoder, seconds }),
  );
} else {
  console.log(`
kNN top-1 on held-out emoji (10 categories, k = 20)
  random initialisation   ${knnInitial.toFixed(1)} %
  after pretraining       ${knnTrained.toFixed(1)} %

run      ${here(trained.run)}
encoder  ${here(join(trained.run, "encoder.onnx"))}  (uint8 [n, h, w, 3] -> float32 [n, ${features}], made for ${imageSize} px)
took     ${Math.round(seconds)} s`);
}
