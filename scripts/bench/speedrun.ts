/**
 * What an encoder learns in some minutes, planned by the clock: it trains, is exported, and kNN (k = 200, T = 0.1) tells test
 * images by those that it trained on. `npx tsx scripts/bench/speedrun.ts --data DIR`, DIR with labelled folders train/ and
 * test/, such as CIFAR-10's. Prints one JSON line and a table; what follows `--` goes to `train` as it is.
 */
import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import type { ProbeResult } from "../../src/api/probe.ts";
import { flags, program } from "./gpu/part.ts";
import { foldersOf, linesOf, stepsIn, trainFor } from "./gpu/timed.ts";
import { secondsOf } from "./measure.ts";

/** To try the script: seconds on a CPU, where kNN says nothing. */
const TINY = { provider: "cpu", encoder: "resnet20", batch: "32", minutes: "0.5", limit: "128" };
/** Of all trainings' time, the rest of which is for what the short run had less of: checkpoints, a clock that sinks. */
const PLANNED = 0.95;

const { values, positionals: more } = parseArgs({
  allowPositionals: true,
  options: {
    data: { type: "string" }, // noise without it
    out: { type: "string", default: "runs/speedrun" },
    minutes: { type: "string" }, // of all seeds together, start to accuracies
    seeds: { type: "string", default: "1" },
    provider: { type: "string" },
    method: { type: "string", default: "simclr" },
    encoder: { type: "string" },
    batch: { type: "string" },
    // The method's by default, grown with the batch. SimCLR's, 0.12 for 256 images, is four times that of recipes for hundreds
    // of epochs (0.06 for 512), with as long a cosine: minutes are tens of epochs.
    lr: { type: "string" },
    limit: { type: "string" }, // images of each folder
    tiny: { type: "boolean", default: false },
  },
});
const { provider, encoder, batch, minutes, limit } = {
  ...{ provider: "cuda", encoder: "resnet18", batch: "256", minutes: "8", limit: undefined },
  ...(values.tiny && TINY),
  ...Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)),
};
const { out, method, lr } = values;
const seeds = Number(values.seeds);
const deadline = performance.now() + 60_000 * Number(minutes);
const secondsLeft = () => (deadline - performance.now()) / 1000;

/** One training and its accuracy, %. */
interface Taken {
  readonly steps: number;
  /** Begun. */
  readonly epochs: number;
  /** Start to export. */
  readonly seconds: number;
  readonly imagesPerSecond: number;
  readonly loss: number;
  readonly knn: number;
  readonly probeSeconds: number;
  readonly interrupted: boolean;
}

await mkdir(out, { recursive: true });
const { train, test } = await foldersOf(values.data, out, Number(limit ?? 10_000));
const settings = {
  data: train,
  provider,
  method,
  encoder,
  batch,
  lr,
  limit,
  "image-size": 32,
  "no-report": true,
};

// Two epochs: images are decoded in the first, so the second tells the rate. All that is not steps is taken as it was.
const short = await take("short", { seed: 0, epochs: 2 }, secondsLeft());
const fixed = short.seconds - (short.steps * Number(batch)) / short.imagesPerSecond;
const runs: (Taken & { readonly seed: number })[] = [];
for (let seed = 0; seed < seeds; seed++) {
  const seconds = secondsLeft() / (seeds - seed) - short.probeSeconds;
  const steps = stepsIn(PLANNED * (seconds - fixed), short.imagesPerSecond, Number(batch));
  runs.push({ seed, ...(await take(`seed-${seed}`, { seed, steps }, seconds)) });
}
const accuracies = runs.map(({ knn }) => knn);
const mean = accuracies.reduce((sum, x) => sum + x, 0) / seeds;
const std = Math.sqrt(accuracies.reduce((sum, x) => sum + (x - mean) ** 2, 0) / Math.max(1, seeds - 1));
const note = values.data ? train : "noise: kNN says nothing";
const seconds = Number(minutes) * 60 - secondsLeft();
console.log(
  JSON.stringify({
    method,
    encoder,
    provider,
    batch: Number(batch),
    note,
    mean,
    std,
    seconds,
    runs,
  }),
);
console.log(`
| seed | steps | epochs | s | images/s | loss | kNN, % | its s |
|---|---|---|---|---|---|---|---|
${runs.map(row).join("\n")}

${method}, ${encoder}, ${provider}, batches of ${batch}: kNN ${mean.toFixed(2)} % (standard deviation ${std.toFixed(2)}) in ${seconds.toFixed(0)} s (${note}).`);

function row(run: (typeof runs)[number]): string {
  const end = run.interrupted ? " (stopped at the limit)" : "";
  const figures = [run.seconds.toFixed(0), run.imagesPerSecond.toFixed(0), run.loss.toFixed(3)];
  const probe = [run.knn.toFixed(2), run.probeSeconds.toFixed(0)];
  return `| ${[`${run.seed}${end}`, run.steps, run.epochs, ...figures, ...probe].join(" | ")} |`;
}

/** Trains for at most so many seconds, exports and probes. */
async function take(name: string, own: Parameters<typeof flags>[0], most: number): Promise<Taken> {
  const run = join(out, name);
  let interrupted = false;
  const seconds = await secondsOf(async () => {
    interrupted = await trainFor(most, run, { ...settings, ...own }, more);
    if (interrupted) await tell("export", run, ...flags({ out: run }));
  });
  const asked = flags({ kind: "knn", train, test, limit, provider, json: true });
  let found: ProbeResult | undefined;
  const probeSeconds = await secondsOf(async () => {
    found = JSON.parse(await tell("probe", run, ...asked)) as ProbeResult;
  });
  const lines = await linesOf(run);
  const { epoch, loss, imagesPerSecond } = lines.at(-1)!;
  return {
    steps: lines.length,
    epochs: epoch,
    seconds,
    imagesPerSecond: imagesPerSecond!,
    loss: loss!,
    knn: found!.top1,
    probeSeconds,
    interrupted,
  };
}

/** What a command of the program says. */
async function tell(...words: readonly string[]): Promise<string> {
  const { file, args } = program(...words);
  return (await promisify(execFile)(file, args)).stdout;
}
