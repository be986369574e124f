/** Steps of methods on WebGPU and on the CPU, with the same feeds: `steps COUNT METHOD...`. */
import type { ArtifactSpec } from "../../../src/artifact/artifact-spec.ts";
import { type CompiledArtifact, compile } from "../../../src/artifact/compile.ts";
import type { Artifact } from "../../../src/artifact/files.ts";
import { buildModel } from "../../../src/graph/model.ts";
import { encodeModel } from "../../../src/graph/protos.ts";
import { input } from "../../../src/graph/tensor.ts";
import { randomFor } from "../../../src/random.ts";
import { openSession, type Provider } from "../../../src/runtime/session.ts";
import { initialState } from "../../../src/runtime/state.ts";
import { openTrainer } from "../../../src/runtime/trainer.ts";
import type { Manifest } from "../../../src/spec.ts";
import { drawStep } from "../../../src/train/draws.ts";
import { scheduleValue } from "../../../src/train/schedules.ts";
import type { Script } from "./runner.ts";

/** How far a run is from the CPU's. */
export interface Distance {
  /** Of the loss of each step, as a share of it; the greatest. */
  readonly losses: number;
  /** Of features after the steps: see `apart`. */
  readonly features: number;
  /** Of the state tensor that differs most. */
  readonly state: number;
}

export interface Compared {
  readonly method: string;
  readonly webgpu: Distance;
  /** Of the CPU itself, from initial weights that differ by about their rounding: a ReLU may turn on what rounds. */
  readonly rounding: Distance;
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

/** Relative errors of initial weights: about 1, 3 and 10 times their rounding. */
const ERRORS = [1e-7, 3e-7, 1e-6];

/** Losses, features and state after some steps from weights with relative errors. */
async function trained(compiled: CompiledArtifact, provider: Provider, steps: number, error = 0) {
  const manifest = { ...compiled.manifest, files: { step: {}, encode: {} } } as unknown as Manifest;
  const graph = async (which: string) => compiled.graphs[which as "step" | "encode"];
  const { imageSize, side } = manifest.encoder;
  const random = randomFor("steps", compiled.manifest.name);
  // Noise: of smooth images patches have hardly a variance to be divided by.
  const images = Uint8Array.from({ length: BATCH * imageSize ** 2 * 3 }, () => random.integer(256));
  const indices = Array.from({ length: BATCH }, (_, i) => i);
  const sizes = indices.map(() => ({ height: imageSize, width: imageSize }));
  const artifact: Artifact = { manifest, graph, dir: manifest.name };
  const initial = () => {
    const state = initialState(manifest, { seed: SEED, images: IMAGES });
    for (const { data } of state.values())
      for (let i = 0; i < data.length; i++) data[i] = Number(data[i]) * (1 + error * random.normal());
    return state;
  };
  const options = { provider, where: "test", images: IMAGES, batch: BATCH, threads: 1 };
  const trainer = await openTrainer(artifact, initial, options);
  const lr = manifest.optimizer.name === "adamw" ? 1e-4 : 1e-2;
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    // In the middle of a run, where no schedule is at 0.
    const at = { step: 100 + step, steps: 200, stepsPerEpoch: 10, images: IMAGES };
    const scalars = manifest.scalars.map(({ name, schedule }) => [name, scheduleValue(schedule, at)]);
    const { metrics } = await trainer.step({
      images,
      height: imageSize,
      width: imageSize,
      indices,
      ...drawStep(manifest, SEED, { indices, sizes, epoch: step, step }, IMAGES),
      scalars: { ...Object.fromEntries(scalars), lr },
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

type Run = Awaited<ReturnType<typeof trained>>;

function distance(a: Run, b: Run): Distance {
  return {
    losses: Math.max(...b.losses.map((loss, i) => Math.abs(a.losses[i]! - loss) / Math.abs(loss))),
    features: apart(a.features, b.features),
    state: Math.max(...b.state.map(([, data], i) => apart(a.state[i]![1], data))),
  };
}

async function compared(method: string, steps: number): Promise<Compared> {
  const [imageSize, config] = [LARGER.includes(method) ? 32 : 16, SMALL[method]];
  const compiled = compile({ method, encoder: "resnet20", imageSize, ...(config && { config }) });
  const cpu = await trained(compiled, "cpu", steps);
  const others: Distance[] = [];
  for (const error of ERRORS) others.push(distance(await trained(compiled, "cpu", steps, error), cpu));
  const most = (part: keyof Distance) => Math.max(...others.map((other) => other[part]));
  return {
    method,
    webgpu: distance(await trained(compiled, "webgpu", steps), cpu),
    rounding: { losses: most("losses"), features: most("features"), state: most("state") },
  };
}

export const steps: Script = async function* ([count, ...names]) {
  // While one session is open the runtime keeps its compiled shaders, which methods share.
  const idle = encodeModel(buildModel({ y: input("x", "float32", ["n"]) }, { name: "idle" }));
  const open = await openSession(idle, "idle", { provider: "webgpu" });
  for (const name of names) yield await compared(name, Number(count));
  await open.close();
};
