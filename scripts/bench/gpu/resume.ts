/**
 * A run that is killed and resumed ends with the bytes of one that was left alone. On CUDA with --deterministic: sums
 * are in a different order from run to run otherwise. Prints a JSON line.
 */
import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs, promisify } from "node:util";
import { latestCheckpoint } from "../../../src/train/checkpoint.ts";
import { runFiles } from "../../../src/train/run-folder.ts";
import { noiseFolder } from "../peers/images.ts";
import { flags, program, say } from "./part.ts";

const { values } = parseArgs({
  options: {
    provider: { type: "string", default: "cuda" },
    method: { type: "string", default: "moco" },
    encoder: { type: "string", default: "resnet18" },
    batch: { type: "string", default: "64" },
    steps: { type: "string", default: "60" },
  },
});
const { provider, method, encoder, batch } = values;
const steps = Number(values.steps);

const run = async (...args: readonly string[]) => {
  const { file, args: all } = program(...args);
  return (await promisify(execFile)(file, all, { maxBuffer: 2 ** 24 })).stdout;
};

async function check(folder: string): Promise<object> {
  const isThere = (await run("train", "--help")).includes("--deterministic");
  if (provider === "cuda" && !isThere) return { skipped: "this version has no --deterministic" };
  const data = await noiseFolder(folder, { name: "images", count: 8 * Number(batch), sizes: [[32, 32]] });
  const every = Math.floor(steps / 4);
  const size = { encoder, batch, steps, "image-size": 32, "checkpoint-every": every };
  const begin = (out: string) => [
    "train",
    ...flags({ data, out, provider, method, ...size, deterministic: provider === "cuda", "no-report": true }),
  ];
  const [whole, killed] = [join(folder, "whole"), join(folder, "killed")];
  await run(...begin(whole));
  const killedAt = await killedAfter(begin(killed), killed, 2 * every + 1);
  if (killedAt >= steps) return { error: "the run had ended before it was killed" };
  await run("train", "--resume", "--out", killed, "--no-report");
  const same = (await hashOf(whole)) === (await hashOf(killed));
  return { same, killedAt, steps, ...(!same && { error: "other bytes" }) };
}

/** Kills a run once it has done so many steps; gives those that it did. */
async function killedAfter(begin: readonly string[], out: string, count: number): Promise<number> {
  const { file, args } = program(...begin);
  const child = spawn(file, args, { stdio: ["ignore", "ignore", "inherit"] });
  const ended = new Promise((resolve) => child.once("close", resolve));
  while ((await doneBy(out)) < count && child.exitCode === null) await sleep(2);
  child.kill("SIGKILL");
  await ended;
  return doneBy(out);
}

async function doneBy(out: string): Promise<number> {
  const { metrics } = runFiles(out);
  return existsSync(metrics) ? (await readFile(metrics, "utf8")).split("\n").length - 1 : 0;
}

/** Of its encoder and its last checkpoint. */
async function hashOf(out: string): Promise<string> {
  const { encoder, checkpoints } = runFiles(out);
  const hash = createHash("sha256");
  for (const path of [encoder, (await latestCheckpoint(checkpoints))!]) hash.update(await readFile(path));
  return hash.digest("hex");
}

const folder = await mkdtemp(join(tmpdir(), "resume-"));
try {
  const result = await check(folder);
  say({ kind: "resume", provider, method, encoder, ...result });
} finally {
  await rm(folder, { recursive: true, force: true });
}
