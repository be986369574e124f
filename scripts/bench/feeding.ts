/**
 * How fast steps are fed: SimCLR's batches from a folder of images, in the first epoch, where they are decoded, and in
 * later ones, where they come from memory; for steps that take no time, and for steps that block this thread as those on
 * CUDA do. On this thread, and on one of its own. Prints a line for each.
 */
import { parseArgs } from "node:util";
import { compile } from "../../src/artifact/compile.ts";
import { findImages } from "../../src/data/sources.ts";
import type { Trainer } from "../../src/runtime/trainer.ts";
import type { Manifest } from "../../src/spec.ts";
import { openFeed } from "../../src/train/feed.ts";
import { openFeedBeside } from "../../src/train/feed-beside.ts";
import { runLoop } from "../../src/train/loop.ts";

const { values } = parseArgs({
  options: {
    data: { type: "string" }, // a folder of images of 32 px, such as CIFAR-10's
    limit: { type: "string", default: "20480" },
    batch: { type: "string", default: "256" },
    blocking: { type: "string", default: "17" }, // ms of a step
  },
});
if (values.data === undefined) throw new Error("--data: expected a folder of images");
const EPOCHS = 3;
const manifest = compile({ method: "simclr", encoder: "resnet18", imageSize: 32 }).manifest as Manifest;
const sources = await findImages(values.data, { limit: Number(values.limit) });
const images = sources.files.length;
const batch = Number(values.batch);
const stepsPerEpoch = Math.floor(images / batch);
const never = new Int32Array(new SharedArrayBuffer(4));

for (const ms of [0, Number(values.blocking)]) {
  await measure("this thread", openFeed, ms);
  await measure("its own thread", openFeedBeside, ms);
}

async function measure(where: string, open: typeof openFeed | typeof openFeedBeside, ms: number) {
  const steps = EPOCHS * stepsPerEpoch;
  const options = {
    manifest,
    batch,
    seed: 0,
    shorterSide: 64,
    cacheBytes: 2 ** 30,
    steps,
    warn: console.error,
  };
  const started = performance.now();
  const feed = await open(sources, options);
  const startMs = performance.now() - started;
  const ends = [performance.now()];
  const { waitShare } = await runLoop({
    manifest,
    trainer: blocking(ms),
    feed,
    schedules: Object.fromEntries(manifest.scalars.map(({ name, schedule }) => [name, schedule])),
    images,
    from: 0,
    steps,
    batch,
    guard: false,
    checkpointEvery: steps + 1,
    checkpoint: async () => {},
    log: {
      write: ({ step }) => void (step % stepsPerEpoch === 0 && ends.push(performance.now())),
      amend: () => {},
    },
    progress: { show: () => {}, note: () => {}, end: () => {} },
  });
  await feed.close();
  const [first, ...later] = ends
    .slice(1)
    .map((end, i) => Math.round((1000 * stepsPerEpoch * batch) / (end - ends[i]!)));
  console.log(
    JSON.stringify({
      where,
      ms,
      first,
      later,
      waitShare: Number(waitShare.toFixed(3)),
      startMs: Math.round(startMs),
    }),
  );
}

/** Steps of so many ms, of which JavaScript's thread computes nothing. */
function blocking(ms: number): Trainer {
  // Of a few rows, for the signs of a collapse take JavaScript's time as well.
  const embedding = { data: Float32Array.from({ length: 64 }, (_, i) => Math.sin(i * i)), rows: 8, d: 8 };
  return {
    async step() {
      if (ms > 0) Atomics.wait(never, 0, 0, ms);
      return { metrics: { loss: 1 }, embedding };
    },
    encode: async () => new Float32Array(0),
    readState: async () => new Map(),
    close: async () => {},
  };
}
