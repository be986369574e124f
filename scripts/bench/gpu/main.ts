/**
 * All that is measured and checked on one NVIDIA GPU, in one call of six minutes: see ../README.md. Each part is a
 * process of its own with a time limit; one that fails leaves the others alone. Writes results.jsonl, report.md and a
 * log for each part into --out.
 */
import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { methods } from "../../../src/methods/index.ts";
import { type Command, endParts, flags, type Line, runPart, script, textOf } from "./part.ts";
import { type Outcome, reportOf } from "./report.ts";

const { values } = parseArgs({
  options: {
    provider: { type: "string", default: "cuda" },
    out: { type: "string", default: "runs/gpu" },
    seconds: { type: "string", default: "345" }, // of all parts together
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
const measured = tiny ? 0.5 : 3; // seconds of each row, once it is warm

/** Those that differ most come first, for the time may not reach for all. */
const FIRST = ["simclr", "moco", "byol", "swav", "dino", "instance-discrimination", "jigsaw", "vicreg"];
const inOrder = [...FIRST, ...methods.map(({ name }) => name).filter((name) => !FIRST.includes(name))];
const steps = tiny ? { encoder: "resnet20", batch: 8, steps: 3 } : { beside: 4 };
const compared = (tiny ? FIRST.slice(0, 3) : inOrder).flatMap((name) => ["--method", name]);

const parts: readonly Part[] = [
  { name: "versions", limit: 30, ...script("versions", flags({ python })) },
  ...rows.map((row) => ({
    name: `speed: ${row.method} ${row.encoder}`,
    limit: row.size > 64 ? 30 : 20,
    ...script("speed", flags({ ...row, provider, seconds: measured })),
  })),
  { name: "torch", limit: 80, ...torch() },
  {
    name: "resume",
    limit: 40,
    ...script("resume", flags({ provider, ...(tiny && { encoder: "resnet20", batch: 8, steps: 12 }) })),
  },
  {
    name: "parity",
    limit: Number.POSITIVE_INFINITY,
    ...script("parity", [
      ...flags({ provider, against, tf32: provider === "cuda", fed: "simclr", ...steps }),
      ...compared,
    ]),
  },
];
/** Only when asked for. */
const others: readonly Part[] = [
  { name: "compiled torch", limit: 300, ...torch("--compiled") },
  { name: "bf16 torch", limit: 80, ...torch("--autocast", "bf16") },
];

function torch(...more: readonly string[]): Command {
  const list = JSON.stringify(rows);
  const file = join(import.meta.dirname, "torch_steps.py");
  return { file: python, args: [file, list, ...flags({ seconds: measured }), ...more] };
}

function chosen(): readonly Part[] {
  const { minutes, data, part } = values;
  if (minutes !== undefined) {
    const limit = 60 * Number(minutes) + 60;
    const sizes = tiny && { encoder: "resnet20", batch: 8, images: 32 };
    return [
      { name: "whole program", limit, ...script("whole", flags({ data, out, provider, minutes, ...sizes })) },
    ];
  }
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
    outcomes.push({ name, limit: 0, seconds: 0, outcome: "not run: no time was left" });
    continue;
  }
  const log = join(out, `${name.replace(/\W+/g, "-")}.log`);
  const ended = await runPart(command, { limit, log, line: take(name) });
  outcomes.push({ name, limit, ...ended });
  console.error(`${elapsed().toFixed(0).padStart(4)} s  ${name}: ${ended.outcome}`);
  write();
}
write();
console.log(reportOf(lines, outcomes));
