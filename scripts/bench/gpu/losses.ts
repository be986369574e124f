/**
 * Losses of a hundred steps of SimCLR, fused, as built, and fused from another seed: rounding may set the first two as far
 * apart as seeds are, and no farther. Prints a JSON line for each pair.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { apart, readTaken } from "./compare.ts";
import { flags, say, script } from "./part.ts";

const { values } = parseArgs({
  options: {
    encoder: { type: "string", default: "resnet18" },
    batch: { type: "string", default: "64" },
    steps: { type: "string", default: "100" },
    provider: { type: "string", default: "cuda" },
    precision: { type: "string", default: "tf32" },
  },
});
const { encoder, batch, steps, provider, precision } = values;

const folder = await mkdtemp(join(tmpdir(), "losses-"));

async function lossesOf(name: string, seed: number, fused: boolean) {
  const out = join(folder, `${name}.safetensors`);
  const asked = { method: "simclr", encoder, batch, steps, provider, precision, seed, out };
  const { file, args } = script("steps", flags(asked));
  const env = { ...process.env, ...(!fused && { ORT_PRETRAIN_FUSED: "0" }) };
  const { stderr } = await promisify(execFile)(file, args, { env, maxBuffer: 2 ** 24 });
  const notes = stderr.split("\n").filter((line) => line.startsWith("warning"));
  return { name, losses: (await readTaken(out)).losses, notes };
}

try {
  const [fused, plain, another] = await Promise.all([
    lossesOf("fused", 0, true),
    lossesOf("as built", 0, false),
    lossesOf("another seed", 1, true),
  ]);
  for (const other of [plain!, another!])
    say({
      kind: "losses",
      precision,
      of: fused!.name,
      beside: other.name,
      steps: fused!.losses.length,
      ...apart(fused!.losses, other.losses),
      notes: [...fused!.notes, ...other.notes],
    });
} finally {
  await rm(folder, { recursive: true, force: true });
}
