/**
 * How fast steps are fed from videos: items/s of the feed alone while frames are decoded and once they come from memory, and what
 * SimCLR on resnet18 waits for it. Wants FFmpeg, which also makes the videos (640x360, 25 frames a second, H.264).
 * `tsx scripts/bench/videos.ts [--out DIR] [--videos 8] [--seconds 60]` prints a Markdown table.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { findItems } from "../../src/api/positives.ts";
import { shorterSideFor } from "../../src/api/views.ts";
import { compile } from "../../src/artifact/compile.ts";
import { countOf } from "../../src/data/sources.ts";
import { train } from "../../src/index.ts";
import type { Manifest } from "../../src/spec.ts";
import { openFeed } from "../../src/train/feed.ts";

const { values } = parseArgs({
  options: {
    out: { type: "string", default: "runs/videos" },
    videos: { type: "string", default: "8" },
    seconds: { type: "string", default: "60" },
    sizes: { type: "string", default: "32,112" },
    batch: { type: "string", default: "64" },
    epochs: { type: "string", default: "2" }, // of training; 0 measures the feed alone
    keyframes: { type: "string", default: "250" }, // frames from one to the next
  },
});
const { out } = values;
const batch = Number(values.batch);
const data = join(out, "data");
const asked = { kind: "frames", window: "0.5s", far: "2s" } as const;

await mkdir(data, { recursive: true });
for (let i = 0; i < Number(values.videos); i++) {
  const file = join(data, `${i}.mp4`);
  if (existsSync(file)) continue;
  // A zoom into noise that moves: neither still nor mere noise.
  const source = `mandelbrot=s=640x360:r=25:start_scale=${3 - i / 8}:end_scale=0.01:end_pts=2000,noise=alls=12:allf=t`;
  const form = [
    "-t",
    values.seconds,
    "-pix_fmt",
    "yuv420p",
    "-c:v",
    "libx264",
    "-preset",
    "veryfast",
    "-g",
    values.keyframes,
  ];
  const { status, stderr } = spawnSync("ffmpeg", ["-v", "error", "-f", "lavfi", "-i", source, ...form, file]);
  if (status !== 0) throw new Error(`ffmpeg: ${stderr}`);
}
const before = performance.now();
const { sources } = await findItems(data, asked, {});
const seconds = Number(values.seconds) * Number(values.videos);
const looked = (performance.now() - before) / 1000;
console.log(
  `${countOf(sources)} items an epoch; ${(seconds / looked).toFixed(0)} s of video looked at in a second\n`,
);

const rows: string[] = [];
for (const imageSize of values.sizes.split(",").map(Number)) {
  const manifest = compile({ method: "simclr", encoder: "resnet18", imageSize }).manifest as Manifest;
  const steps = Math.floor(countOf(sources) / batch);
  const shorterSide = shorterSideFor(imageSize);
  const fed = async (cacheBytes: number, epochs: number) => {
    const feed = openFeed(sources, {
      manifest,
      batch,
      seed: 0,
      shorterSide,
      cacheBytes,
      warn: console.error,
    });
    let rate = 0;
    for (let epoch = 0; epoch < epochs; epoch++) {
      const started = performance.now();
      for (let step = 0; step < steps; step++) await feed.next();
      rate = (1000 * steps * batch) / (performance.now() - started);
    }
    await feed.close();
    return rate.toFixed(0);
  };
  const [never, first, kept] = [await fed(0, 1), await fed(2 ** 31, 1), await fed(2 ** 31, 12)];
  const waits: string[] = [];
  for (const cacheMb of values.epochs === "0" ? [] : [0, 2048]) {
    const run = join(out, `run-${imageSize}-${cacheMb}`);
    await rm(run, { recursive: true, force: true });
    const settings = { method: "simclr", encoder: "resnet18", imageSize, batch, cacheMb, rank: false };
    const positives = { positives: "frames", window: asked.window, far: asked.far } as const;
    const result = await train(
      { ...settings, ...positives, data, out: run, steps: Number(values.epochs) * steps },
      { output: { stream: process.stderr, quiet: false } },
    );
    waits.push(`${result.imagesPerSecond.toFixed(0)} items/s, ${(100 * result.waitShare).toFixed(1)} %`);
  }
  rows.push(`| ${imageSize} px | ${never} | ${first} | ${kept} | ${waits.join(" | ")} |`);
}
console.log(`| views | fed, nothing kept | fed, first epoch | fed, 12th epoch | resnet18, nothing kept: speed, waited | kept as decoded: speed, waited |
|---|---|---|---|---|---|
${rows.join("\n")}`);
