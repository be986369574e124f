/** Training steps: images a second, and peak memory. */
import type { JsonObject } from "../../../src/spec.ts";
import { median } from "../measure.ts";
import { comparePeaks, compareRates, inMegabytes, summarise } from "./compare.ts";
import type { Command, Program } from "./program.ts";
import { flags, ours, peer, type Row, type Surroundings } from "./row.ts";

interface Step {
  readonly method: string;
  readonly encoder: string;
  readonly size: number;
  readonly batch: number;
  readonly optimizer?: "sgd" | "adamw";
  readonly config?: JsonObject;
}

export const STEPS: readonly Step[] = [
  { method: "simclr", encoder: "resnet18", size: 32, batch: 64 },
  { method: "simclr", encoder: "resnet18", size: 32, batch: 256 },
  { method: "simclr", encoder: "resnet20", size: 32, batch: 256 },
  { method: "simclr", encoder: "vit-tiny", size: 32, batch: 64, optimizer: "adamw" },
  { method: "simclr", encoder: "vit-tiny", size: 224, batch: 16, optimizer: "adamw" },
  { method: "simclr", encoder: "resnet50", size: 224, batch: 16 },
  { method: "moco", encoder: "resnet18", size: 32, batch: 64 },
  // Two large crops and four small ones.
  { method: "swav", encoder: "resnet18", size: 32, batch: 64, optimizer: "adamw", config: { smallCrops: 4 } },
  { method: "byol", encoder: "resnet18", size: 32, batch: 64 },
  // One view of each image; SGD with Nesterov's momentum.
  { method: "finetune", encoder: "resnet18", size: 224, batch: 64, config: { classes: 10 } },
];

const nameOf = ({ method, encoder, size, batch }: Step) =>
  `${method} step, ${encoder}, ${size} px, ${batch} images`;

function stepCommands(s: Surroundings, { config = {}, optimizer = "sgd", ...step }: Step) {
  const peers: Record<string, Command> = {};
  for (const variant of s.compiled ? ["eager", "compiled"] : ["eager"])
    peers[variant] = peer(s, "step", ...flags({ ...step, optimizer, variant }));
  return { own: ours("step", ...flags({ ...step, optimizer, config: JSON.stringify(config) })), peers };
}

async function sameParameters(own: Program, other: Program): Promise<void> {
  const [a, b] = [
    await own.ask<{ count: number }>("parameters"),
    await other.ask<{ count: number }>("parameters"),
  ];
  if (a.count !== b.count) {
    throw new Error(
      `expected encoders of the same size, found ${a.count} parameters in ours, ${b.count} in the peer's`,
    );
  }
}

export const stepRow = (step: Step): Row => ({
  what: nameOf(step),
  aim: ">= 1",
  measure: async (s) => {
    const { own, peers } = stepCommands(s, step);
    const bare: number[] = [];
    let perImage = Number.NaN;
    const { rounds, failed } = await compareRates(own, peers, s.rounds, sameParameters, async (program) => {
      if (bare.length === 0) ({ perImage } = await program.ask<{ perImage: number }>("flops"));
      bare.push((await program.ask<{ gflops: number }>("matmul")).gflops);
    });
    const result = summarise(rounds, "images/s", "greatest", failed);
    const gflops = (result.ours * perImage) / 1e9;
    const share = median(rounds.map((r, i) => (r.ours * perImage) / 1e9 / bare[i]!));
    return {
      ...result,
      note: `ours: ${gflops.toFixed(0)} GFLOP/s, ${share.toFixed(2)} of a bare MatMul's; views included, the peer's made beforehand`,
    };
  },
});

export const peakRow = (step: Step): Row => ({
  what: `peak memory, ${nameOf(step)}`,
  aim: "<= 0.7",
  measure: async (s) => {
    // Compiling takes memory of its own, which training does not need again.
    const { own, peers } = stepCommands({ ...s, compiled: false }, step);
    // It hardly varies.
    const { rounds, failed } = await comparePeaks(own, peers, Math.min(s.rounds, 2));
    return summarise(inMegabytes(rounds), "MB", "least", failed);
  },
});
