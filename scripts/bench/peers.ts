/**
 * Our figures and those of PyTorch with lightly, measured alternately in one run: `npm run bench -- --peers`. Writes
 * peers.json and peers.md into runs/bench. With --only PATTERN, rows whose name matches the pattern are measured
 * again and replace those in the files.
 */
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import * as ort from "onnxruntime-node";
import sharp from "sharp";
import { writeFileAtomic } from "../../src/files/atomic.ts";
import type { Result } from "./peers/compare.ts";
import { buildOurs, type Row } from "./peers/row.ts";
import { rows } from "./peers/rows.ts";
import { type AboutPeers, aboutPeers } from "./peers/whole.ts";

interface Measured extends Result {
  readonly what: string;
  readonly aim: Row["aim"];
}

const { values } = parseArgs({
  options: {
    peers: { type: "boolean" },
    only: { type: "string" },
    rounds: { type: "string", default: "5" },
    data: { type: "string" },
    "no-compile": { type: "boolean", default: false },
  },
});
const OUT = "runs/bench";
const venv = join(import.meta.dirname, "peers/venv/bin/python");
const python = process.env.PEERS_PYTHON ?? venv;
if (!existsSync(python)) {
  console.error(`${relative("", python)}: no virtual environment; make it with  npm run bench:peers-setup`);
  process.exit(2);
}

const rounds = Number(values.rounds);
if (!Number.isInteger(rounds) || rounds < 1) {
  console.error(`--rounds ${values.rounds}: expected a whole number from 1`);
  process.exit(2);
}
const say = (line: string) => process.stderr.write(`${line}\n`);
const pattern = new RegExp(values.only ?? "", "i");
const chosen = rows.filter(({ what }) => pattern.test(what));
if (chosen.length === 0) {
  console.error(
    `--only ${values.only}: expected part of a row's name:\n${rows.map((r) => r.what).join("\n")}`,
  );
  process.exit(2);
}

await mkdir(OUT, { recursive: true });
await buildOurs();
const [json, markdown] = [join(OUT, "peers.json"), join(OUT, "peers.md")];
const about = await aboutPeers({ python });
const load = loadavg()[0]!;
const before =
  values.only && existsSync(json) ? (JSON.parse(await readFile(json, "utf8")) as Measured[]) : [];
const measured = new Map(before.map((row) => [row.what, row]));
for (const { what, aim, measure } of chosen) {
  say(`${what} ...`);
  try {
    const surroundings = {
      python,
      rounds,
      compiled: !values["no-compile"],
      data: values.data,
      out: OUT,
    };
    const { ours, peer, ratio, low, high, ...rest } = await measure(surroundings);
    measured.set(what, { what, ours, peer, ratio, low, high, aim, ...rest });
    say(`  ${lineOf(measured.get(what)!)}`);
    await write();
  } catch (error) {
    say(`  failed: ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
say(`${json}, ${markdown}`);
if (existsSync(markdown)) console.log(await readFile(markdown, "utf8"));

/** In the order of `rows`. */
async function write(): Promise<void> {
  const sorted = rows.flatMap(({ what }) => measured.get(what) ?? []);
  await writeFileAtomic(json, `${JSON.stringify(sorted, null, 2)}\n`);
  await writeFileAtomic(markdown, tableOf(sorted, about));
}

function figure(x: number): string {
  return x >= 100 ? x.toFixed(0) : x.toPrecision(3);
}

function lineOf({ ours, peer, unit, ratio, low, high, aim }: Measured): string {
  return `${figure(ours)} ${unit}, the peer ${figure(peer)}: ${ratio.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)}), aim ${aim}`;
}

function reached({ ratio, aim }: Measured): boolean {
  const [sign, bound] = aim.split(" ") as [string, string];
  return sign === ">=" ? ratio >= Number(bound) : ratio <= Number(bound);
}

function tableOf(measuredRows: readonly Measured[], peers: AboutPeers): string {
  const lines = measuredRows.map((row) => {
    const { what, ours, peer, unit, ratio, low, high, aim, ways, note } = row;
    const all = Object.entries(ways).map(([way, x]) => `${way} ${typeof x === "number" ? figure(x) : x}`);
    return (
      `| ${what} | ${figure(ours)} ${unit} | ${figure(peer)} ${unit} | ${ratio.toFixed(2)} (${low.toFixed(2)} to ` +
      `${high.toFixed(2)}) | ${aim} | ${reached(row) ? "yes" : "no"} | ${all.join(", ")}${note ? `; ${note}` : ""} |`
    );
  });
  const { python: version, torch, torchvision, lightly, timm, pillow } = peers;
  return `${cpus()[0]!.model}, ${availableParallelism()} cores, ${(totalmem() / 2 ** 30).toFixed(0)} GiB; load before the run ${load.toFixed(1)}.
Ours: Node ${process.versions.node}, onnxruntime-node ${ort.env.versions.node}, sharp ${sharp.versions.sharp}.
Peer: Python ${version}, torch ${torch}, torchvision ${torchvision}, lightly ${lightly}, timm ${timm}, Pillow ${pillow}.
Ratios are ours over the peer's: median of ${rounds} alternating rounds (least to greatest). Of several ways of running the peer the best counts.

| what | ours | peer | ratio | aim | reached | the peer's ways, and notes |
|---|---|---|---|---|---|---|
${lines.join("\n")}
`;
}
