/** The exported encoder against the same weights in PyTorch. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { resolveSpec } from "../../../src/artifact/artifact-spec.ts";
import { compile } from "../../../src/artifact/compile.ts";
import { writeEncoder } from "../../../src/export/encoder.ts";
import { encodeSafetensors } from "../../../src/files/safetensors.ts";
import { initialState } from "../../../src/runtime/state.ts";
import { randomImages } from "../measure.ts";
import { compareRates, summarise } from "./compare.ts";
import type { Command, Program } from "./program.ts";
import { flags, ours, peer, type Row } from "./row.ts";

const ENCODER = { method: "simclr", encoder: "resnet18", imageSize: 32 } as const;

/** An encoder as initialised: frozen, and its weights by themselves under timm's names. */
async function exported(out: string): Promise<{ onnx: string; weights: string }> {
  const dir = join(out, "encoder");
  await mkdir(dir, { recursive: true });
  const { manifest, graphs } = compile(ENCODER);
  const state = initialState(manifest, { seed: 0, images: 1 });
  const [onnx, weights] = [join(dir, "encoder.onnx"), join(dir, "weights.safetensors")];
  const { encoder, imageSize } = ENCODER;
  const { side, features } = resolveSpec(ENCODER).encoder;
  await writeEncoder(onnx, {
    encode: graphs.encode,
    state,
    metadata: { method: ENCODER.method, encoder, imageSize, side, features, steps: 0, images: 1, seed: 0 },
    images: { data: randomImages(8, imageSize), shape: [8, imageSize, imageSize, 3] },
  });
  const prefix = "encoder.";
  const own = manifest.state.filter(({ name, role }) => name.startsWith(prefix) && role !== "optimizer");
  const tensors = new Map(own.map(({ name }) => [name.slice(prefix.length), state.get(name)!]));
  await writeFile(weights, encodeSafetensors(tensors));
  return { onnx, weights };
}

/** Greatest distance of features from the peer's, over their length. */
const TOLERANCE = 1e-4;

async function sameFeatures(own: Program, other: Program): Promise<void> {
  const [a, b] = await Promise.all(
    [own, other].map(async (p) => (await p.ask<{ features: number[] }>("features")).features),
  );
  const length = Math.hypot(...b!);
  const distance = Math.hypot(...a!.map((x, i) => x - b![i]!)) / length;
  if (!(distance < TOLERANCE)) throw new Error(`expected the same features, found a distance of ${distance}`);
}

export const encodeRow = (batch: number): Row => ({
  what: `exported encoder, resnet18, 32 px, batch ${batch}`,
  aim: ">= 1.3",
  measure: async (s) => {
    const { onnx, weights } = await exported(s.out);
    const { encoder, imageSize: size } = ENCODER;
    const peers: Record<string, Command> = {};
    for (const variant of s.compiled ? ["eager", "compiled", "frozen"] : ["eager"])
      peers[variant] = peer(s, "encode", ...flags({ encoder, weights, size, batch, variant }));
    const own = ours("encode", ...flags({ onnx, size, batch }));
    const { rounds, failed } = await compareRates(own, peers, s.rounds, sameFeatures);
    return {
      ...summarise(rounds, "images/s", "greatest", failed),
      note: "ours normalises bytes, the peer's are normalised",
    };
  },
});
