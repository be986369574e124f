/**
 * Steps of a method on a tiny encoder, fed with values that are made from names alone: scripts/reference/common.py
 * makes the same, so a run of ours and one of PyTorch start alike and see the same.
 */
import { readFileSync } from "node:fs";
import * as ort from "onnxruntime-node";
import { TrainingScope } from "../../src/artifact/scope.ts";
import { nextOf, trainingStep } from "../../src/artifact/step.ts";
import { multiplyDims } from "../../src/graph/dims.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input, type Tensor } from "../../src/graph/tensor.ts";
import { methodNamed } from "../../src/methods/index.ts";
import { batchNorm, conv } from "../../src/nn/layers.ts";
import type { Scope, State } from "../../src/nn/scope.ts";
import { add, mul, sqrt, square } from "../../src/ops/elementwise.ts";
import { globalAveragePool } from "../../src/ops/pool.ts";
import { type JsonObject, VIEW_COLUMNS } from "../../src/spec.ts";
import { openGraph } from "./stepping.ts";

export const STEPS = 12;

/** Xorshift (Marsaglia 2003) of 32 bits, seeded by a name (FNV-1a). */
class Generator {
  private state: number;

  constructor(name: string) {
    let state = 0x811c9dc5;
    for (const byte of new TextEncoder().encode(name)) state = Math.imul(state ^ byte, 0x01000193) >>> 0;
    this.state = state || 1;
    for (let i = 0; i < 8; i++) this.next();
  }

  next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state >>> 16;
  }

  /** A multiple of 2^-15 in [-1, 1): exact in float32. */
  value(): number {
    return this.next() / 32768 - 1;
  }

  shuffled(items: readonly number[]): number[] {
    const out = [...items];
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.next() % (i + 1);
      [out[i], out[j]] = [out[j]!, out[i]!];
    }
    return out;
  }
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

export function values(name: string, shape: readonly number[]): Float32Array {
  const generator = new Generator(name);
  return Float32Array.from({ length: sizeOf(shape) }, () => generator.value());
}

/** Rows of length 1. */
export function unitRows(name: string, [rows, d]: readonly [number, number]): Float32Array {
  const flat = values(name, [rows, d]);
  for (let i = 0; i < rows; i++) {
    const row = flat.subarray(i * d, (i + 1) * d);
    row.set(row.map((v) => v / Math.hypot(...row)));
  }
  return flat;
}

/** The value of a state tensor at the start. */
export function initial(name: string, shape: readonly number[]): Float32Array {
  const last = name.split(".").at(-1)!;
  if (last === "queue" || last === "bank" || name === "prototypes.weight") {
    return unitRows(name, shape as [number, number]);
  }
  if (["queue0", "queue1", "Z", "centre"].includes(last) || /^(momentum|moment1|moment2)\./.test(name)) {
    return new Float32Array(sizeOf(shape));
  }
  const flat = values(name, shape);
  if (shape.length > 1) {
    const fanIn = sizeOf(shape.slice(1));
    return flat.map((v) => v * 2 ** Math.round(Math.log2(6 / fanIn) / 2));
  }
  return flat.map((v) => v / 4 + (last === "weight" || last === "running_var" ? 1 : 0));
}

/** A view [n, 3, size, size] of images: their colour and coarse pattern, and noise of its own. */
export function view(name: string, images: readonly number[], size: number): Float32Array {
  const out = values(name, [images.length, 3, size, size]);
  let at = 0;
  for (const i of images) {
    const colour = values(`colour${i}`, [3]);
    const coarse = values(`pattern${i}`, [3, 4, 4]);
    for (let c = 0; c < 3; c++)
      for (let y = 0; y < size; y++)
        for (let x = 0; x < size; x++, at++) {
          const cell = (c * 4 + Math.floor((4 * y) / size)) * 4 + Math.floor((4 * x) / size);
          out[at] = colour[c]! / 4 + coarse[cell]! / 2 + out[at]! / 4;
        }
  }
  return out;
}

/** The images of a step: each once in an epoch. */
function batchOf(step: number, count: number, images: number): number[] {
  const [epoch, at] = [Math.floor((step * count) / images), (step * count) % images];
  return new Generator(`order${epoch}`).shuffled(range(images)).slice(at, at + count);
}

/** Images outside of the batch, whose rows of a bank are scored. */
function othersOf(step: number, own: readonly number[], count: number, images: number): number[] {
  const free = range(images).filter((i) => !own.includes(i));
  return new Generator(`others${step}`).shuffled(free).slice(0, count);
}

/** Linear from the first step to the last, or 0 until a step and 1 from there. */
export type Course = readonly [first: number, last: number] | number;

const valueAt = (course: Course, step: number): number =>
  typeof course === "number"
    ? Number(step >= course)
    : course[0] + ((course[1] - course[0]) * step) / (STEPS - 1);

export interface Run {
  readonly method: string;
  readonly config: JsonObject;
  /** Height and width of an image's view, pixels. */
  readonly imageSize: number;
  readonly batch: number;
  /** The number of images that there are. */
  readonly images: number;
  readonly scalars: Readonly<Record<string, Course>>;
  /** @default "sgd", with momentum 0.9 */
  readonly optimizer?: "sgd" | "adamw";
  /** Averages start as their parameters; else with values of their own. */
  readonly averagesCopied?: boolean;
}

/** ReLU without its corner: of so many values one lies within rounding of it, where the gradient comes or goes. */
const smooth = (x: Tensor): Tensor => mul(add(x, sqrt(add(square(x), 0.01))), 0.5); // as x

/** 3x3 convolutions to 8 and 16 channels, each with batch normalisation: [n, 3, s, s] -> [n, 16]. */
export function encode(s: Scope, x: Tensor): Tensor {
  const first = smooth(batchNorm(s, "bn1", conv(s, "conv1", x, { out: 8, kernel: 3, pad: 1 }))); // [n, 8, s, s]
  const second = conv(s, "conv2", first, { out: 16, kernel: 3, stride: 2, pad: 1 }); // [n, 16, s / 2, s / 2]
  return globalAveragePool(smooth(batchNorm(s, "bn2", second))); // [n, 16]
}

/** Builds the step of a run over views as they are, without augmentation. */
function buildStep({ method: name, config: given, imageSize, optimizer = "sgd" }: Run) {
  const method = methodNamed(name);
  const config = method.config(imageSize).parse(given);
  const n = multiplyDims(method.batchMultiple ? config[method.batchMultiple] : 1, "n");
  const recipes = method.views(config, imageSize);
  const views = recipes.map(({ size }, i) => input(`view${i}`, "float32", [n, 3, size, size]));
  const params = recipes.map((_, i) => input(`params${i}`, "float32", [n, VIEW_COLUMNS.length]));
  const scope = new TrainingScope({ views, params, encode });
  // Rates are fed, whatever their schedules.
  const choice = { name: optimizer, lr: 1, weightDecay: 1, warmupEpochs: 0 };
  const { outputs } = trainingStep(scope, method, config, choice);
  const model = encodeModel(buildModel(outputs, { name: `${name}-parity` }));
  return { scope, sizes: recipes.map(({ size }) => size), model };
}

export interface Result {
  readonly losses: readonly number[];
  readonly state: ReadonlyMap<string, Float32Array>;
  /** The state before the first step. */
  readonly start: ReadonlyMap<string, Float32Array>;
}

const float = (data: Float32Array, shape: readonly number[]) => new ort.Tensor("float32", data, [...shape]);

/** The losses of the steps, and the state after them. */
export async function train(run: Run): Promise<Result> {
  const { scope, sizes, model } = buildStep(run);
  const session = await openGraph(model);
  const state = new Map<string, Float32Array>();
  for (const { name, shape, init, rows } of scope.all) {
    const from = run.averagesCopied && init.kind === "copy" ? init.of : name;
    state.set(name, initial(from, rows ? [run.images, ...shape] : shape));
  }
  const start = new Map(state);
  const losses: number[] = [];
  for (let step = 0; step < STEPS; step++) {
    const images = batchOf(step, run.batch, run.images);
    const feeds: Record<string, ort.Tensor> = {};
    sizes.forEach((size, i) => {
      feeds[`view${i}`] = float(view(`view${i}.${step}`, images, size), [run.batch, 3, size, size]);
    });
    for (const { name } of scope.scalars) {
      const counted: Record<string, number> = { step: step + 1, instances: run.images };
      const value = counted[name] ?? valueAt(run.scalars[name]!, step);
      feeds[name] = float(new Float32Array([value]), []);
    }
    for (const name of scope.permutations.keys()) {
      const order = new Generator(`${name}.${step}`).shuffled(range(run.batch));
      feeds[name] = new ort.Tensor("int64", BigInt64Array.from(order, BigInt), [run.batch]);
    }
    for (const s of scope.all) Object.assign(feeds, stateFeeds(s, state.get(s.name)!, images, run, step));
    const outputs = await session.run(feeds);
    losses.push(Number(outputs.loss!.data[0]));
    for (const { name, rows } of scope.all) {
      const next = outputs[nextOf(name)]!.data as Float32Array;
      state.set(name, rows ? withRows(state.get(name)!, images, next) : next);
    }
  }
  return { losses, state, start };
}

/** A state tensor, or of a bank the rows of the batch and of other images. */
function stateFeeds(
  { name, shape, rows }: State,
  value: Float32Array,
  images: readonly number[],
  run: Run,
  step: number,
): Record<string, ort.Tensor> {
  if (!rows) return { [name]: float(value, shape) };
  const others = othersOf(step, images, rows.count, run.images);
  const size = sizeOf(shape);
  const pick = (at: readonly number[]) =>
    float(Float32Array.from(at.flatMap((i) => [...value.subarray(i * size, (i + 1) * size)])), [
      at.length,
      ...shape,
    ]);
  return { [name]: pick(images), [rows.others]: pick(others) };
}

function withRows(bank: Float32Array, at: readonly number[], rows: Float32Array): Float32Array {
  const next = bank.slice();
  const size = rows.length / at.length;
  at.forEach((image, i) => {
    next.set(rows.subarray(i * size, (i + 1) * size), image * size);
  });
  return next;
}

export interface Fixture {
  readonly losses: readonly number[];
  /** At learning rate 0. */
  readonly withoutLearning: readonly number[];
  /** By name, as `unpacked` reads it. */
  readonly state: Readonly<Record<string, string>>;
}

/** What scripts/reference wrote. */
export const fixture = <T>(name: string): T =>
  JSON.parse(readFileSync(new URL(`../fixtures/${name}.json`, import.meta.url), "utf8")) as T;

/** Values float32, little-endian, in base64. */
export const unpacked = (text: string): number[] => {
  const bytes = Buffer.from(text, "base64");
  return range(bytes.length / 4).map((i) => bytes.readFloatLE(4 * i));
};
