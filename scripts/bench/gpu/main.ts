/**
 * All that is measured and checked on one NVIDIA GPU, in one call of eight minutes: see ../README.md. Each part is a
 * process of its own with a time limit; one that fails leaves the others alone. Writes results.jsonl, report.md and a
 * log for each part into --out.
 */
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { methods } from "../../../src/methods/index.ts";
import { type Command, endParts, flags, type Line, runPart, script, textOf } from "./part.ts";
import { type Outcome, reportOf } from "./report.ts";

const { values } = parseArgs({
  options: {
    provider: { type: "string", default: "cuda" },
    out: { type: "string", default: "runs/gpu" },
    seconds: { type: "string", default: "470" }, // of all parts together
    part: { type: "string", multiple: true }, // by the beginning of its name
    against: { type: "string", default: "cpu" }, // what CUDA's steps are compared with, see parity.ts
    python: { type: "string", default: "python3" }, // one with PyTorch
    minutes: { type: "string" }, // the whole program for so long, and nothing else
    data: { type: "string" }, // for that: labelled folders train/ and test/
    tiny: { type: "boolean", default: false }, // small sizes, to try the script without a GPU
  },
});
const { provider, against, out, python, tiny } = values;

/** A part may take so many seconds, or what is left. */
interface Part extends Command {
  readonly name: string;
  readonly limit: number;
}

interface Row {
  readonly method: string;
  readonly encoder: string;
  readonly size: number;
  readonly batch: number;
  readonly optimizer: "sgd" | "adamw";
  /** Of ours, for what the peer has. */
  readonly config?: string;
}

const small = { encoder: "resnet18", size: 32, batch: 256 } as const;
const SPEED: readonly Row[] = [
  { method: "simclr", ...small, optimizer: "sgd" },
  { method: "simclr", encoder: "resnet50", size: 224, batch: 64, optimizer: "sgd" },
  { method: "simclr", encoder: "vit-small", size: 224, batch: 64, optimizer: "adamw" },
  { method: "moco", ...small, optimizer: "sgd" },
  { method: "swav", ...small, optimizer: "adamw", config: '{"smallCrops":4}' },
  { method: "byol", ...small, optimizer: "sgd" },
  { method: "dino", ...small, optimizer: "sgd", config: '{"layers":3}' },
];
const rows = tiny ? SPEED.map((row) => ({ ...row, encoder: "resnet20", size: 32, batch: 8 })) : SPEED;
const measured = tiny ? 0.5 : 2; // seconds of each row, once it is warm
/** What bfloat16 is measured with. */
const halves = rows.filter((_, i) => i < 3);
/** Kernels are kept there: a first start compiles them, for --out that is new. */
const env = { ORT_PRETRAIN_CACHE: resolve(out, "cache") };

/** Those that differ most come first, for the time may not reach for all. */
const FIRST = ["simclr", "moco", "byol", "swav", "dino", "instance-discrimination", "jigsaw", "vicreg"];
const ofImages = methods.filter(({ audio }) => !audio).map(({ name }) => name);
const inOrder = [...FIRST, ...ofImages.filter((name) => !FIRST.includes(name))];
const steps = tiny ? { encoder: "resnet20", batch: 8, steps: 3 } : { beside: 4 };
const compared = (tiny ? FIRST.slice(0, 3) : inOrder).flatMap((name) => ["--method", name]);

const parts: readonly Part[] = [
  { name: "versions", limit: 30, ...script("versions", flags({ python })) },
  ...rows.map((row) => ours(row)),
  { name: "torch", limit: 75, ...torch(rows) },
  ...halves.map((row) => ours(row, { precision: "bf16" })),
  { name: "bf16 torch", limit: 45, ...torch(halves, "--autocast", "bf16") },
  ours(rows[0]!, { way: "second start" }),
  ours(rows[0]!, { way: "unfused" }, { ORT_PRETRAIN_FUSED: "0" }),
  {
    name: "resume",
    limit: 40,
    ...script("resume", flags({ provider, ...(tiny && { encoder: "resnet20", batch: 8, steps: 12 }) })),
  },
  {
    name: "views",
    limit: 25,
    ...script("views", flags({ provider, seconds: measured, ...(tiny && { size: 64, batch: 8 }) })),
  },
  {
    name: "hundred steps",
    limit: 60,
    ...script("losses", flags({ provider, ...(tiny && { encoder: "resnet20", batch: 8, steps: 10 }) })),
  },
  wholeProgram("1"),
  {
    name: "parity",
    limit: Number.POSITIVE_INFINITY,
    ...script("parity", [
      ...flags({ provider, against, tf32: provider === "cuda", fed: "simclr", ...steps }),
      ...(provider === "cuda" ? flags({ halves: "simclr" }) : []),
      ...compared,
    ]),
  },
];
/** Only when asked for. */
const others: readonly Part[] = [{ name: "compiled torch", limit: 300, ...torch(rows, "--compiled") }];

function ours(row: Row, more: { precision?: string; way?: string } = {}, set: Command["env"] = {}): Part {
  const { file, args } = script("speed", flags({ ...row, ...more, provider, seconds: measured }));
  const name = ["speed:", row.method, row.encoder, ...Object.values(more)].join(" ");
  return { name, limit: row.size > 64 ? 30 : 20, file, args, env: set };
}

function torch(of: readonly Row[], ...more: readonly string[]): Command {
  const file = join(import.meta.dirname, "torch_steps.py");
  return { file: python, args: [file, JSON.stringify(of), ...flags({ seconds: measured }), ...more] };
}

/** As long as it is told, and what its start, its images and its end take. */
function wholeProgram(minutes: string): Part {
  const sizes = tiny && { encoder: "resnet20", batch: 8, images: 32 };
  const args = flags({ data: values.data, out, provider, minutes: tiny ? 0.3 : minutes, ...sizes });
  return { name: "whole program", limit: 60 * Number(minutes) + 30, ...script("whole", args) };
}

function chosen(): readonly Part[] {
  const { minutes, part } = values;
  if (minutes !== undefined) return [wholeProgram(minutes)];
  if (part === undefined) return parts;
  const found = [...parts, ...others].filter(({ name }) => part.some((asked) => name.startsWith(asked)));
  if (found.length > 0) return found;
  console.error(
    `--part: expected the beginning of one of\n${[...parts, ...others].map(({ name }) => name).join("\n")}`,
  );
  process.exit(2);
}

const started = performance.now();
const elapsed = () => (performance.now() - started) / 1000;
const whole = values.minutes === undefined ? Number(values.seconds) : Number.POSITIVE_INFINITY;
const lines: Line[] = [];
const outcomes: Outcome[] = [];
const write = () => writeFileSync(join(out, "report.md"), reportOf(lines, outcomes));
const take = (part: string) => (line: Line) => {
  lines.push(line);
  appendFileSync(join(out, "results.jsonl"), `${textOf({ part, ...line })}\n`);
  write();
};

const toRun = chosen();
mkdirSync(out, { recursive: true });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.once(signal, () => {
    endParts();
    console.log(reportOf(lines, outcomes));
    process.exit(1);
  });
for (const { name, limit: most, ...command } of toRun) {
  const limit = Math.min(most, whole - elapsed());
  if (limit < 1) {
    outcomes.push({ name, limit: 0, seconds: 0, notes: [], outcome: "not run: no time was left" });
    continue;
  }
  const log = join(out, `${name.replace(/\W+/g, "-")}.log`);
  const ended = await runPart(
    { ...command, env: { ...env, ...command.env } },
    { limit, log, line: take(name) },
  );
  outcomes.push({ name, limit, ...ended });
  console.error(`${elapsed().toFixed(0).padStart(4)} s  ${name}: ${ended.outcome}`);
  write();
}
write();
console.log(reportOf(lines, outcomes));
