/** Runs the step graph of an artifact by hand, with fixed views, straight on ONNX Runtime. */
import * as ort from "onnxruntime-node";
import type { CompiledArtifact } from "../../src/artifact/compile.ts";
import { randomFor } from "../../src/random.ts";
import { entriesOf } from "../../src/runtime/session.ts";
import { initialState, type StateMap } from "../../src/runtime/state.ts";
import { type Manifest, VIEW_COLUMNS } from "../../src/spec.ts";
import { drawStep } from "../../src/train/draws.ts";

/** Rows of a memory bank besides those of the batch. */
const OTHERS = 24;

export type State = ReadonlyMap<string, ort.Tensor>;
export type Scalars = Readonly<Record<string, number>>;
export interface StepResult {
  readonly outputs: Readonly<Record<string, ort.Tensor>>;
  readonly metrics: Readonly<Record<string, number>>;
  /** The state that the next step begins with. */
  readonly next: State;
}
export interface Batch {
  readonly images: ort.Tensor;
  /** Parameters of views, permutations and other rows of memory banks, by name. */
  readonly views: Readonly<Record<string, ort.Tensor>>;
}
export interface Stepper {
  readonly session: ort.InferenceSession;
  /** Of a memory bank, the rows of `images` images. */
  state(seed: number, images?: number): State;
  /** The scalars and the state as a step is fed them. */
  feeds(state: State, scalars: Scalars): Readonly<Record<string, ort.Tensor>>;
  step(state: State, batch: Batch, scalars: Scalars): Promise<StepResult>;
}

/** As a run opens its step: without the optimizers of the runtime that are not for training steps. */
export const openGraph = (bytes: Uint8Array): Promise<ort.InferenceSession> =>
  ort.InferenceSession.create(bytes, {
    intraOpNumThreads: 1,
    logSeverityLevel: 3,
    enableMemPattern: false,
    extra: entriesOf({ asWritten: true }),
  });

let latest: { readonly key: string; readonly state: StateMap } | undefined;

/** The initial state, kept for who asks for the same again: to draw that of a large encoder takes a second. */
function drawnOnce({ state }: Pick<Manifest, "state">, seed: number, images: number): StateMap {
  const key = JSON.stringify([
    seed,
    images,
    state.map(({ name, shape, init, rows }) => [name, shape, init, rows]),
  ]);
  if (latest?.key !== key) latest = { key, state: initialState({ state }, { seed, images }) };
  return latest.state;
}

export async function stepperOf({ manifest, graphs }: CompiledArtifact): Promise<Stepper> {
  const session = await openGraph(graphs.step);
  const feeds = (state: State, scalars: Scalars) => {
    const fed = manifest.scalars.map(({ name }) => {
      if (scalars[name] === undefined) throw new Error(`no value for scalar ${name}`);
      return [name, new ort.Tensor("float32", new Float32Array([scalars[name]]), [])] as const;
    });
    return Object.fromEntries([...fed, ...state]);
  };
  return {
    session,
    feeds,
    state: (seed, images = 16) =>
      new Map(
        [...drawnOnce(manifest, seed, images)].map(([name, { data, shape }]) => [
          name,
          new ort.Tensor("float32", (data as Float32Array).slice(), [...shape]),
        ]),
      ),
    step: async (state, { images, views }, scalars) => {
      const outputs = await session.run({ images, ...views, ...feeds(state, scalars) });
      return {
        outputs,
        metrics: Object.fromEntries(manifest.metrics.map((name) => [name, Number(outputs[name]!.data[0])])),
        next: new Map(manifest.state.map(({ name, next }) => [name, outputs[next]!])),
      };
    },
  };
}

/** Images of random colour and texture, and parameters of their views, drawn once. */
export function batchOf({ manifest }: CompiledArtifact, n: number, size: number, seed = 1): Batch {
  const pixels = new Uint8Array(n * size * size * 3);
  for (let i = 0; i < n; i++) {
    const random = randomFor(seed, "image", i);
    const [colour, wave] = [
      [0, 0, 0],
      [0, 0],
    ].map((part) => part.map(() => random.uniform()));
    for (let at = 0; at < size * size; at++) {
      const phase = wave![0]! * Math.floor(at / size) + wave![1]! * (at % size);
      for (let c = 0; c < 3; c++) {
        const value = 0.6 * colour![c]! + 0.2 * (1 + Math.sin(phase)) + 0.1 * random.uniform();
        pixels[(i * size * size + at) * 3 + c] = Math.round(255 * Math.min(value, 1));
      }
    }
  }
  const indices = Array.from({ length: n }, (_, i) => i);
  const sizes = indices.map(() => ({ height: size, width: size }));
  const whole = manifest as Manifest;
  const audio = indices.map((i) => tone(i, whole.audio?.samples ?? 0));
  const seen = { indices, sizes, audio, epoch: 0, step: seed };
  const drawn = drawStep({ ...whole, detection: undefined }, seed, seen, n);
  const feeds: Record<string, ort.Tensor> = {};
  whole.views.forEach(({ input }, i) => {
    feeds[input] = new ort.Tensor("float32", drawn.views[i]!, [n, VIEW_COLUMNS.length]);
  });
  if (whole.audio) {
    const { input, samples } = whole.audio;
    feeds[input] = new ort.Tensor("float32", drawn.audio!, [n, samples]);
  }
  whole.permutations.forEach((name, i) => {
    feeds[name] = new ort.Tensor("int64", drawn.permutations[i]!, [n]);
  });
  Object.assign(feeds, labelsOf(whole, n), objectsOf(whole, n, seed));
  for (const { name, shape, init, rows } of whole.state) {
    if (!rows) continue;
    const others = {
      name: rows.others,
      role: "buffer",
      dtype: "float32",
      shape: [OTHERS, ...shape],
      init,
    } as const;
    const value = initialState({ state: [{ ...others, next: name }] }, { seed, images: 1 }).get(rows.others)!;
    feeds[rows.others] = new ort.Tensor("float32", value.data as Float32Array, [...value.shape]);
  }
  return { images: new ort.Tensor("uint8", pixels, [n, size, size, 3]), views: feeds };
}

/** Of a step that learns from classes: one after the other. */
function labelsOf({ labels, method }: Manifest, n: number): Batch["views"] {
  if (labels === undefined) return {};
  const classes = BigInt64Array.from({ length: n }, (_, i) => BigInt(i % (method.config.classes as number)));
  return { [labels]: new ort.Tensor("int64", classes, [n]) };
}

/** Of a step that learns of objects: one at every tenth place or so, of any size and class. */
function objectsOf({ detection, method }: Manifest, n: number, seed: number): Batch["views"] {
  if (!detection) return {};
  const random = randomFor(seed, "objects");
  const places = detection.levels.reduce((sum, { side }) => sum + side ** 2, 0);
  const classes = BigInt64Array.from({ length: n * places }, () =>
    random.chance(0.1) ? BigInt(random.integer(method.config.classes as number)) : -1n,
  );
  const distances = Float32Array.from({ length: n * places * 4 }, (_, i) =>
    classes[Math.floor(i / 4)]! < 0n ? 0 : random.uniform(0.25, 6),
  );
  return {
    [detection.classes]: new ort.Tensor("int64", classes, [n, places]),
    [detection.distances]: new ort.Tensor("float32", distances, [n, places, 4]),
  };
}

/** A tone of its own for each clip, at 16 kHz. */
const tone = (clip: number, samples: number): Float32Array =>
  Float32Array.from(
    { length: samples },
    (_, t) => 0.5 * Math.sin((2 * Math.PI * 200 * (1 + clip) * t) / 16_000),
  );
