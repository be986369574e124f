/**
 * The program as users run it, for some minutes: SimCLR on resnet18 at 32 px, from a folder of images; a JSON line for
 * each epoch and one for the run. --data DIR has labelled folders train/ and test/, such as CIFAR-10's.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { runFiles, type StepRecord } from "../../../src/train/run-folder.ts";
import { noiseFolder } from "../peers/images.ts";
import { flags, program, say } from "./part.ts";

const { values } = parseArgs({
  options: {
    data: { type: "string" },
    out: { type: "string", default: "runs/gpu" },
    provider: { type: "string", default: "cuda" },
    encoder: { type: "string", default: "resnet18" },
    batch: { type: "string", default: "256" },
    minutes: { type: "string", default: "5" },
    images: { type: "string", default: "10000" }, // of noise, where none are given
  },
});
const { out, provider, encoder, batch } = values;
const deadline = performance.now() + 60_000 * Number(values.minutes);
const secondsLeft = () => (deadline - performance.now()) / 1000;
/** Share of the time that is planned: the rest is for decoding, kNN and the export. */
const PLANNED = 0.85;
/** Looks at kNN in a run. */
const LOOKS = 5;

const { data, labelled } = await folders();
const settings = { data, provider, method: "simclr", encoder, batch, "image-size": 32, "no-report": true };
const short = join(out, "short");
await trainFor(short, { epochs: 2 });
const last = (await linesOf(short)).at(-1)!;
const stepsPerEpoch = Math.round(last.step / last.epoch);
const rate = last.imagesPerSecond!;
const epochs = Math.max(1, Math.floor((PLANNED * secondsLeft() * rate) / Number(batch) / stepsPerEpoch));
const run = join(out, "whole");
const begun = performance.now();
const interrupted = await trainFor(run, {
  epochs,
  knn: labelled,
  "knn-every": Math.max(1, Math.floor(epochs / LOOKS)),
});
const seconds = (performance.now() - begun) / 1000;
const lines = await linesOf(run);
const ends = lines.filter(({ epoch }, i) => lines[i + 1]?.epoch !== epoch);
for (const { epoch, imagesPerSecond, waitShare, loss, knn } of ends)
  say({ kind: "epoch", epoch, imagesPerSecond, waitShare, loss, ...(knn !== undefined && { knn }) });
say({
  kind: "whole",
  note: values.data ? data : "noise: kNN says nothing",
  epochs: ends.length,
  steps: lines.length,
  seconds,
  imagesPerSecond: (lines.length * Number(batch)) / seconds,
  knn: ends.findLast(({ knn }) => knn !== undefined)?.knn ?? null,
  interrupted,
});

async function folders(): Promise<{ data: string; labelled: string }> {
  if (values.data === undefined) {
    const root = join(out, "noise");
    await mkdir(root, { recursive: true });
    const count = Math.ceil(Number(values.images) / 2);
    for (const name of ["one", "two"]) await noiseFolder(root, { name, count, sizes: [[32, 32]] });
    return { data: root, labelled: root };
  }
  const [train, test] = [join(values.data, "train"), join(values.data, "test")];
  if (!existsSync(train) || !existsSync(test))
    throw new Error(`--data: expected labelled folders train/ and test/, found others in ${values.data}`);
  return { data: train, labelled: test };
}

/** To its end, or to the deadline: a checkpoint stands then. Gives whether it was interrupted. */
async function trainFor(run: string, more: Parameters<typeof flags>[0]): Promise<boolean> {
  await rm(run, { recursive: true, force: true });
  const { file, args } = program("train", ...flags({ ...settings, out: run, ...more }));
  const child = spawn(file, args, { stdio: ["ignore", "ignore", "inherit"] });
  const timer = setTimeout(() => child.kill("SIGINT"), 1000 * secondsLeft());
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  clearTimeout(timer);
  if (code !== 0 && code !== 130) throw new Error(`train ended with ${code}`);
  return code === 130;
}

async function linesOf(run: string): Promise<readonly StepRecord[]> {
  const text = await readFile(runFiles(run).metrics, "utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as StepRecord);
}
