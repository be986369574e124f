/**
 * How the cost of a step grows: `npm run bench -- --growth`, with --only PATTERN for some of the tables. Each point
 * runs in a process of its own, for its peak memory. Writes growth.json and growth.md into runs/bench.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { writeFileAtomic } from "../../src/files/atomic.ts";
import type { StepPoint } from "./growth-point.ts";
import { growthTable, type Point } from "./growth-table.ts";

interface Growth {
  readonly what: string;
  /** Of the first column. */
  readonly unit: string;
  readonly values: readonly number[];
  readonly at: (value: number) => StepPoint;
  /** Why it grows so. */
  readonly why: string;
}

const small = { encoder: "resnet20", imageSize: 32 } as const;

const GROWTHS: readonly Growth[] = [
  {
    what: "batch of SimCLR, resnet20, 32 px",
    unit: "images a step",
    values: [16, 32, 64, 128, 256, 512, 1024],
    at: (batch) => ({ spec: { method: "simclr", ...small }, batch }),
    why: "Time and memory are the encoder's, so they grow with the images; small batches share the update among fewer. The loss compares each view with each other, 4 n^2 dot products of 128 values: a thousandth of the step even at 1024.",
  },
  {
    what: "batch of SimCLR in micro-batches of 64 (--micro-batch 64), resnet20, 32 px",
    unit: "images a step",
    values: [64, 128, 256, 512, 1024],
    at: (batch) => ({ spec: { method: "simclr", ...small }, batch, microBatch: 64 }),
    why: "Memory stays that of 64 images: of the others only the embeddings and their gradients are held. Each image goes through the encoder twice: a forward pass for the embeddings, then forward and backward.",
  },
  {
    what: "queue of MoCo, resnet20, 32 px, 128 images",
    unit: "keys",
    values: [1024, 4096, 16384, 65536],
    at: (queue) => ({ spec: { method: "moco", ...small, config: { queue } }, batch: 128 }),
    why: "A key costs 2 * 128 * 128 operations and a logit for each query; the queue is also rewritten in each step, 512 bytes a key, and is in memory twice.",
  },
  {
    what: "memory bank of instance discrimination, resnet20, 32 px, 128 images",
    unit: "rows",
    values: [10_000, 100_000, 1_300_000],
    at: (dataset) => ({ spec: { method: "instance-discrimination", ...small }, batch: 128, dataset }),
    why: "The bank is kept outside of the graph, which sees the rows of the batch and of the negatives: a step costs the same, memory grows by the bank's 512 bytes a row.",
  },
  {
    what: "prototypes of SwAV (2 crops), resnet20, 32 px, 128 images",
    unit: "prototypes",
    values: [300, 1000, 3000],
    at: (prototypes) => ({ spec: { method: "swav", ...small, config: { prototypes } }, batch: 128 }),
    why: "A prototype costs a dot product with each view, forward and backward, and three rounds of Sinkhorn over its scores: little beside the encoder.",
  },
  {
    what: "image size, SimCLR, resnet18, 16 images",
    unit: "pixels a side",
    values: [32, 64, 128, 224],
    at: (imageSize) => ({ spec: { method: "simclr", encoder: "resnet18", imageSize }, batch: 16 }),
    why: "Cost grows with the square of the side from 32 to 64 and from 128 to 224. Above 64 px the stem has a stride of 4, so 128 px costs about what 32 px does; Winograd convolution gains less on larger feature maps.",
  },
];

const { values } = parseArgs({
  options: { growth: { type: "boolean" }, only: { type: "string" }, steps: { type: "string", default: "3" } },
});
const pattern = new RegExp(values.only ?? "", "i");
const chosen = GROWTHS.filter(({ what }) => pattern.test(what));
if (chosen.length === 0) {
  console.error(
    `--only ${values.only}: expected part of a table's name:\n${GROWTHS.map((g) => g.what).join("\n")}`,
  );
  process.exit(2);
}

const OUT = "runs/bench";
const [json, markdown] = [join(OUT, "growth.json"), join(OUT, "growth.md")];
await mkdir(OUT, { recursive: true });
const measured: Record<string, Point[]> =
  values.only && existsSync(json) ? JSON.parse(await readFile(json, "utf8")) : {};
for (const { what, unit, values: at, at: pointOf } of chosen) {
  const points: Point[] = [];
  for (const value of at) {
    process.stderr.write(`${what}: ${value} ${unit} ...\n`);
    const point = JSON.stringify({ ...pointOf(value), steps: Number(values.steps) });
    const { stdout } = await promisify(execFile)(process.execPath, [
      "--import",
      "tsx",
      join(import.meta.dirname, "growth-point.ts"),
      point,
    ]);
    points.push({ value, ...JSON.parse(stdout.trim().split("\n").at(-1)!) });
    measured[what] = points;
    await writeFileAtomic(json, `${JSON.stringify(measured, null, 2)}\n`);
  }
}
const tables = GROWTHS.flatMap(({ what, unit, why }) =>
  measured[what] ? [growthTable(what, unit, measured[what], why)] : [],
);
const text = `${cpus()[0]!.model}, ${availableParallelism()} cores. Slope is the exponent p where cost grows as value^p, from the row above.

${tables.join("\n\n")}
`;
await writeFileAtomic(markdown, text);
console.log(text);
