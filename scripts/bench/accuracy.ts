/**
 * What each method learns from the same images in the same time: `npm run bench:accuracy -- --data DIR`, DIR with
 * labelled folders train/ and test/, such as CIFAR-10. Resumes where it was cut off; writes accuracy.json and
 * accuracy.md into --out.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { exportEncoder, probe, train } from "../../src/index.ts";
import { methods } from "../../src/methods/index.ts";
import type { StepCost } from "./methods.ts";

const { values } = parseArgs({
  options: {
    method: { type: "string", multiple: true },
    data: { type: "string", default: "data" },
    out: { type: "string", default: "runs/accuracy" },
    minutes: { type: "string", default: "10" },
    limit: { type: "string", default: "10000" },
    threads: { type: "string" },
  },
});
const { data, out } = values;
const [minutes, limit] = [Number(values.minutes), Number(values.limit)];
const [trainDir, testDir] = [join(data, "train"), join(data, "test")];
if (!existsSync(trainDir) || !existsSync(testDir)) {
  console.error(`${data}: expected labelled folders train/ and test/; give --data DIR`);
  process.exit(2);
}

interface Settings {
  readonly batch?: number;
  /** Further options of the command line. */
  readonly options?: readonly string[];
}

/** Small batches suit few images: they make many steps. The defaults of some methods are meant for hundreds of epochs. */
const SETTINGS: Readonly<Record<string, Settings>> = {
  // The paper's own runs of 40 epochs have an average that moves faster, and twice the learning rate.
  byol: { options: ["--set", "momentum=0.97", "--lr", "0.03"] },
  dino: { options: ["--set", "momentum=0.97", "--set", "outputs=512"] },
  // The learning rate for a thousand epochs times ten or more, and a context network that costs less than the
  // encoder.
  cpc: { batch: 64, options: ["--lr", "8e-4", "--set", "context=64", "--set", "blocks=3"] },
};
const batchOf = (method: string) => SETTINGS[method]?.batch ?? 128;

/** The results of a method; accuracies in percent. */
interface Outcome extends Omit<StepCost, "secondsPerStep"> {
  readonly knn: number;
  readonly linear: number;
  readonly knnInitial: number;
  readonly linearInitial: number;
  readonly epochs: number;
  readonly seconds: number;
  readonly rssToSimclr: number;
  /** Why the run ended early, if it did. */
  readonly stopped?: string;
}

const say = (line: string) => process.stderr.write(`${line}\n`);
const here = (name: string) => join(import.meta.dirname, name);

async function child<T>(...args: string[]): Promise<T> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    "--import",
    "tsx",
    here("methods.ts"),
    ...args,
  ]);
  return JSON.parse(stdout) as T;
}

async function probes(encoder: string) {
  const options = { encoder, train: trainDir, test: testDir, limit };
  const knn = (await probe({ ...options, kind: "knn" })).top1;
  return { knn, linear: (await probe({ ...options, kind: "linear" })).top1 };
}

/** Trains through the command line, in a process of its own; resumes a run that was cut off. */
function trained(method: string, run: string, steps: number): Promise<{ code: number; error: string }> {
  const fresh = ["--method", method, "--encoder", "resnet20", "--image-size", "32", "--data", trainDir];
  const size = ["--limit", `${limit}`, "--batch", `${batchOf(method)}`, "--steps", `${steps}`];
  const threads = values.threads === undefined ? [] : ["--threads", values.threads];
  const own = SETTINGS[method]?.options ?? [];
  const args = existsSync(join(run, "config.json")) ? ["--resume"] : [...fresh, ...size, ...threads, ...own];
  const main = here("../../src/cli/main.ts");
  const program = spawn(
    process.execPath,
    ["--import", "tsx", main, "train", "--no-report", "--no-rank", "--out", run, ...args],
    {
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  let error = "";
  program.stderr.on("data", (text: Buffer) => {
    process.stderr.write(text);
    error = `${error}${text}`.slice(-2000);
  });
  return new Promise((resolve) => program.on("close", (code) => resolve({ code: code ?? 1, error })));
}

async function measure(method: string): Promise<Outcome> {
  say(`${method}: the step beside SimCLR's`);
  const batch = `${batchOf(method)}`;
  const { secondsPerStep, ...cost } = await child<StepCost>("compare", method, batch);
  const rss = await child<number>("memory", method, batch);
  const rssToSimclr = rss / (await child<number>("memory", "simclr", batch));
  const run = join(out, method);
  const timer = join(out, `${method}.json`);
  const before = existsSync(timer)
    ? (JSON.parse(await readFile(timer, "utf8")) as { steps: number })
    : undefined;
  const steps = before?.steps ?? Math.max(1, Math.round((minutes * 60) / secondsPerStep));
  await writeFile(timer, JSON.stringify({ steps }));
  const started = performance.now();
  const { code, error } = await trained(method, run, steps);
  const seconds = (performance.now() - started) / 1000;
  if (code > 1) throw new Error(`${method} ended with ${code}: ${error}`);
  const stopped = code === 1 ? error.trim().split("\n").at(-1)! : undefined;
  const done = stopped === undefined ? steps : (await exportEncoder(run)).steps;
  const epochs = (done * batchOf(method)) / limit;
  return {
    ...(await probes(run)),
    ...(await initialProbes()),
    epochs,
    seconds,
    ...cost,
    rssToSimclr,
    ...(stopped !== undefined && { stopped }),
  };
}

/** Of the encoder as initialised, which is the same for every method: it depends on the seed and its names alone. */
async function initialProbes() {
  const run = join(out, "initial");
  const kept = join(out, "initial.json");
  if (!existsSync(kept)) {
    if (!existsSync(join(run, "encoder.onnx"))) {
      await train({ data: trainDir, out: run, encoder: "resnet20", limit, steps: 0 });
    }
    const { knn, linear } = await probes(run);
    await writeFile(kept, JSON.stringify({ knnInitial: knn, linearInitial: linear }));
  }
  return JSON.parse(await readFile(kept, "utf8")) as { knnInitial: number; linearInitial: number };
}

function table(outcomes: Readonly<Record<string, Outcome>>): string {
  const f = (x: number, digits = 1) => x.toFixed(digits);
  const signed = (x: number) => `${x < 0 ? "" : "+"}${f(x)}`;
  const rows = Object.entries(outcomes).map(
    ([name, o]) =>
      `| ${name}${o.stopped ? " (stopped)" : ""} | ${f(o.knn)} (${signed(o.knn - o.knnInitial)}) | ` +
      `${f(o.linear)} (${signed(o.linear - o.linearInitial)}) | ${f(o.epochs)} | ${f(o.seconds, 0)} | ` +
      `${f(o.stepToSimclr, 2)} | ${f(o.rssToSimclr, 2)} |`,
  );
  const machine = `${cpus()[0]?.model.trim()}, ${cpus().length} threads, Node ${process.versions.node}`;
  return `resnet20, 32 px, ${limit} images, ${minutes} minutes a method; top-1 in %, in brackets against the encoder as initialised. ${machine}.

| method | kNN | linear | epochs | seconds | step to SimCLR's | memory to SimCLR's |
|---|---|---|---|---|---|---|
${rows.join("\n")}
`;
}

const known = methods.map(({ name }) => name);
const wanted = values.method ?? known;
for (const name of wanted) {
  if (known.includes(name)) continue;
  console.error(`--method: expected one of ${known.join(", ")}, found ${name}`);
  process.exit(2);
}
await mkdir(out, { recursive: true });
const file = join(out, "accuracy.json");
const outcomes: Record<string, Outcome> = existsSync(file) ? JSON.parse(await readFile(file, "utf8")) : {};
for (const method of wanted) {
  if (outcomes[method]) continue;
  outcomes[method] = await measure(method);
  await writeFile(file, `${JSON.stringify(outcomes, null, 2)}\n`);
  await writeFile(join(out, "accuracy.md"), table(outcomes));
}
console.log(`${table(outcomes)}\n${file}`);
