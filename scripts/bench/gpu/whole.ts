/**
 * The program as users run it, for some minutes: SimCLR on resnet18 at 32 px, from a folder of images; a JSON line for
 * each epoch and one for the run. --data DIR has labelled folders train/ and test/, such as CIFAR-10's.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { say } from "./part.ts";
import { foldersOf, linesOf, stepsIn, trainFor } from "./timed.ts";

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

const { train, test } = await foldersOf(values.data, out, Number(values.images));
const settings = {
  data: train,
  provider,
  method: "simclr",
  encoder,
  batch,
  "image-size": 32,
  "no-report": true,
};
const short = join(out, "short");
await trainFor(secondsLeft(), short, { ...settings, epochs: 2 });
const last = (await linesOf(short)).at(-1)!;
const stepsPerEpoch = Math.round(last.step / last.epoch);
const steps = stepsIn(PLANNED * secondsLeft(), last.imagesPerSecond!, Number(batch));
const epochs = Math.max(1, Math.floor(steps / stepsPerEpoch));
const run = join(out, "whole");
const begun = performance.now();
const interrupted = await trainFor(secondsLeft(), run, {
  ...settings,
  epochs,
  knn: test,
  "knn-every": Math.max(1, Math.floor(epochs / LOOKS)),
});
const seconds = (performance.now() - begun) / 1000;
const lines = await linesOf(run);
const ends = lines.filter(({ epoch }, i) => lines[i + 1]?.epoch !== epoch);
for (const { epoch, imagesPerSecond, waitShare, loss, knn } of ends)
  say({ kind: "epoch", epoch, imagesPerSecond, waitShare, loss, ...(knn !== undefined && { knn }) });
say({
  kind: "whole",
  note: values.data ? train : "noise: kNN says nothing",
  epochs: ends.length,
  steps: lines.length,
  seconds,
  imagesPerSecond: (lines.length * Number(batch)) / seconds,
  knn: ends.findLast(({ knn }) => knn !== undefined)?.knn ?? null,
  interrupted,
});
