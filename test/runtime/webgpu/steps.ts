/** Steps of methods on WebGPU and on the CPU, with the same feeds: `steps COUNT METHOD...`. */
import { type ArtifactSpec, type CompiledArtifact, compile } from "../../../src/artifact/compile.ts";
import type { Artifact } from "../../../src/artifact/files.ts";
import { buildModel, encodeModel } from "../../../src/graph/model.ts";
import { input } from "../../../src/graph/tensor.ts";
import { openSession, type Provider } from "../../../src/runtime/session.ts";
import { initialState } from "../../../src/runtime/state.ts";
import { openTrainer } from "../../../src/runtime/trainer.ts";
import type { Manifest } from "../../../src/spec.ts";
import { drawStep } from "../../../src/train/draws.ts";
import { scheduleValue } from "../../../src/train/schedules.ts";
import { batchOf } from "../../methods/stepping.ts";
import type { Script } from "./runner.ts";

/** How far WebGPU is from the CPU. */
export interface Compared {
  readonly method: string;
  /** Of the loss of each step, as a share of it. */
  readonly losses: readonly number[];
  /** Of features after the steps: see `apart`. */
  readonly features: number;
  /** Of the state tensor that differs most, and its name. */
  readonly state: number;
  readonly worst: string;
}

const [BATCH, IMAGES, SEED] = [8, 24, 1];
/** Patches of smaller images have too few pixels. */
const LARGER = ["cpc", "jigsaw", "pirl", "relative-position"];
/** Queues and draws that fit the images. */
const SMALL: Readonly<Record<string, ArtifactSpec["config"]>> = {
  "instance-discrimination": { negatives: 16 },
  moco: { queue: 32 },
  pirl: { negatives: 16 },
  swav: { queue: 16, queueStart: 0 },
};

/** Losses, features and state after some steps. */
async function trained(compiled: CompiledArtifact, provider: Provider, steps: number) {
  const manifest = { ...compiled.manifest, files: { step: {}, encode: {} } } as unknown as Manifest;
  const graph = async (which: string) => compiled.graphs[which as "step" | "encode"];
  const { imageSize, side } = manifest.encoder;
  const images = batchOf(compiled, BATCH, imageSize).images.data as Uint8Array;
  const indices = Array.from({ length: BATCH }, (_, i) => i);
  const sizes = indices.map(() => ({ height: imageSize, width: imageSize }));
  const artifact: Artifact = { manifest, graph, dir: manifest.name };
  const trainer = await openTrainer(artifact, () => initialState(manifest, { seed: SEED, images: IMAGES }), {
    provider,
    where: "test",
    images: IMAGES,
    batch: BATCH,
    threads: 1,
  });
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    // In the middle of a run, where no schedule is at 0; weights of AdamW move by the whole rate.
    const at = { step: 100 + step, steps: 200, stepsPerEpoch: 10, images: IMAGES };
    const scalars = manifest.scalars.map(({ name, schedule }) => [name, scheduleValue(schedule, at)]);
    const { metrics } = await trainer.step({
      images,
      height: imageSize,
      width: imageSize,
      indices,
      ...drawStep(manifest, SEED, { indices, sizes, epoch: step, step }, IMAGES),
      scalars: Object.fromEntries(scalars),
    });
    losses.push(metrics.loss!);
  }
  const seen = Uint8Array.from({ length: 2 * side * side * 3 }, (_, i) => (i * 97) % 256);
  const features = await trainer.encode(seen, [2, side, side, 3]);
  const state = [...(await trainer.readState())].map(
    ([name, { data }]) => [name, (data as Float32Array).slice()] as const,
  );
  await trainer.close();
  return { losses, features, state };
}

/** The root mean square of the difference over that of `b`, or over `least` if that is more. */
function apart(a: Float32Array, b: Float32Array, least = 1e-2): number {
  const mean = (values: Float32Array) =>
    Math.sqrt(values.reduce((sum, v) => sum + v ** 2, 0) / values.length);
  return mean(a.map((v, i) => v - b[i]!)) / Math.max(mean(b), least);
}

async function compared(method: string, steps: number): Promise<Compared> {
  const [imageSize, config] = [LARGER.includes(method) ? 32 : 16, SMALL[method]];
  const compiled = compile({ method, encoder: "resnet20", imageSize, ...(config && { config }) });
  const cpu = await trained(compiled, "cpu", steps);
  const gpu = await trained(compiled, "webgpu", steps);
  const states = cpu.state.map(([name, data], i) => [name, apart(gpu.state[i]![1], data)] as const);
  const [worst, state] = states.reduce((a, b) => (b[1] > a[1] ? b : a));
  return {
    method,
    losses: cpu.losses.map((loss, i) => Math.abs(gpu.losses[i]! - loss) / Math.abs(loss)),
    features: apart(gpu.features, cpu.features),
    state,
    worst,
  };
}

export const steps: Script = async function* ([count, ...names]) {
  // While one session is open the runtime keeps its compiled shaders, which methods share.
  const idle = encodeModel(buildModel({ y: input("x", "float32", ["n"]) }, { name: "idle" }));
  const open = await openSession(idle, "idle", { provider: "webgpu" });
  for (const name of names) yield await compared(name, Number(count));
  await open.close();
};
