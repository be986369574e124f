/** State tensors: their initial values, and conversion between our arrays and the runtime's tensors. */
import * as ort from "onnxruntime-node";
import { expected, UserError } from "../errors.ts";
import type { TensorData } from "../files/safetensors.ts";
import { type Random, randomFor } from "../random.ts";
import type { Manifest, StateEntry } from "../spec.ts";

export type StateMap = ReadonlyMap<string, TensorData>;

/** The whole shape of a state tensor in a run with that many images. */
export const shapeIn = ({ shape, rows }: StateEntry, images: number): readonly number[] =>
  rows ? [images, ...shape] : shape;

/**
 * Each tensor as its initialiser says, drawn from the seed and its own name: the same whatever stands beside it. What is
 * `given` stands in place of a draw, and of copies of it too.
 */
export function initialState(
  manifest: Pick<Manifest, "state">,
  { seed, images }: { readonly seed: number; readonly images: number },
  given: StateMap = new Map(),
): Map<string, TensorData> {
  const state = new Map(given);
  for (const entry of manifest.state) {
    if (entry.init.kind !== "copy" && !given.has(entry.name))
      state.set(entry.name, drawn(entry, shapeIn(entry, images), seed));
  }
  for (const { name, init } of manifest.state) {
    if (init.kind !== "copy" || given.has(name)) continue;
    const source = state.get(init.of)!;
    state.set(name, { ...source, data: source.data.slice() });
  }
  // In the manifest's order, copies too: the checkpoint's bytes follow it.
  return new Map(manifest.state.map(({ name }) => [name, state.get(name)!]));
}

function drawn({ name, dtype, init }: StateEntry, shape: readonly number[], seed: number): TensorData {
  if (dtype !== "float32") throw expected(`state ${name}`, "float32", dtype, "rebuild the artifact");
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  const random = randomFor(seed, "init", name);
  switch (init.kind) {
    case "constant":
      data.fill(init.value);
      break;
    case "normal":
      for (let i = 0; i < data.length; i++) data[i] = init.std * random.normal();
      break;
    case "truncated-normal":
      for (let i = 0; i < data.length; i++) data[i] = init.std * withinTwo(random);
      break;
    case "uniform":
      for (let i = 0; i < data.length; i++) data[i] = random.uniform(-init.bound, init.bound);
      break;
    case "directions":
      for (let i = 0; i < data.length; i++) data[i] = random.normal();
      normalizeRows(data, shape.at(-1) ?? 1);
      break;
  }
  return { dtype, shape, data };
}

function normalizeRows(data: Float32Array, d: number): void {
  for (let at = 0; at < data.length; at += d) {
    let squares = 0;
    for (let j = at; j < at + d; j++) squares += data[j]! ** 2;
    for (let j = at; j < at + d; j++) data[j]! /= Math.sqrt(squares);
  }
}

function withinTwo(random: Random): number {
  for (;;) {
    const x = random.normal();
    if (Math.abs(x) <= 2) return x;
  }
}

/** @throws UserError if the state does not have exactly the manifest's tensors. */
export function checkState(manifest: Manifest, state: StateMap, images: number, where: string): void {
  for (const entry of manifest.state) {
    const { name, dtype } = entry;
    const shape = shapeIn(entry, images);
    const found = state.get(name);
    if (!found)
      throw new UserError(
        `${where}: tensor ${name} of ${manifest.name} is missing; was it made by another method?`,
      );
    if (found.dtype !== dtype || found.shape.join() !== shape.join()) {
      throw expected(`${where}: ${name}`, `${dtype} [${shape}]`, `${found.dtype} [${found.shape}]`);
    }
  }
  if (state.size !== manifest.state.length) {
    const extra = [...state.keys()].find((name) => !manifest.state.some((s) => s.name === name));
    throw new UserError(`${where}: ${manifest.name} has no tensor ${extra}`);
  }
}

export const toRuntime = ({ dtype, shape, data }: TensorData): ort.Tensor =>
  new ort.Tensor(dtype, data as never, [...shape]);

export const fromRuntime = (tensor: ort.Tensor): TensorData => ({
  dtype: tensor.type as TensorData["dtype"],
  shape: tensor.dims,
  data: tensor.data as TensorData["data"],
});
