/** A SimCLR-like loss through an encoder, with its gradient with respect to every parameter. */
import { encoderNamed } from "../../src/encoders/index.ts";
import { input } from "../../src/graph/tensor.ts";
import { ntXent } from "../../src/nn/losses.ts";
import { Scope } from "../../src/nn/scope.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { concat, split } from "../../src/ops/movement.ts";
import { randomFor } from "../../src/random.ts";
import type { StateEntry } from "../../src/spec.ts";
import { compile, floats, type Run, type Value } from "../support/run.ts";

export interface EncoderLoss {
  /** Parameters by name; their values may be changed in place. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  loss(): Promise<number>;
  gradient(): Promise<ReadonlyMap<string, Float32Array>>;
}

/** The entries of a scope whose graph is not part of an artifact. */
export const entriesOf = (s: Scope): StateEntry[] =>
  s.all.map(({ name, role, dtype, shape, init }) => ({
    name,
    role,
    dtype,
    shape,
    init,
    next: `${name}.next`,
  }));

export const normals = (shape: readonly number[], ...key: readonly (string | number)[]): Value => {
  const random = randomFor("encoders", ...key);
  return floats(
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()),
    shape,
  );
};

/** Weights spread as their initialisers say. Uniform whatever the shape, for millions of normal draws take seconds. */
export function weightsOf(s: Scope): Record<string, Value> {
  let word = 1;
  const centred = () => {
    word = (Math.imul(word, 1664525) + 1013904223) | 0; // Numerical Recipes' generator
    return word / 2 ** 31;
  };
  return Object.fromEntries(
    s.all.map(({ name, shape, init }) => {
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
      if (init.kind === "constant") data.fill(init.value);
      else {
        const bound = "bound" in init ? init.bound : "std" in init ? init.std * Math.sqrt(3) : 0;
        for (let i = 0; i < data.length; i++) data[i] = bound * centred();
      }
      return [name, { shape, data }];
    }),
  );
}

/** A grid [from, from, width] at [to, to, width], value by value as PyTorch's bicubic interpolation takes them. */
export function bicubic(grid: readonly number[], from: number, to: number, width: number): number[] {
  const near = (x: number) => (1.25 * x - 2.25) * x * x + 1;
  const far = (x: number) => ((-0.75 * x + 3.75) * x - 6) * x + 3;
  /** The four places that a value is read from, each with its weight. */
  const taps = (i: number): [place: number, weight: number][] => {
    const at = (from / to) * (i + 0.5) - 0.5;
    const place = Math.floor(at);
    const t = at - place;
    const weights = [far(t + 1), near(t), near(1 - t), far(2 - t)];
    return weights.map((weight, k) => [Math.max(0, Math.min(place - 1 + k, from - 1)), weight]);
  };
  return Array.from({ length: to * to * width }, (_, at) => {
    const [row, column, c] = [Math.floor(at / width / to), Math.floor(at / width) % to, at % width];
    let sum = 0;
    for (const [y, down] of taps(row))
      for (const [x, across] of taps(column)) sum += down * across * grid[(y * from + x) * width + c]!;
    return sum;
  });
}

/**
 * NT-Xent, temperature 0.5, between two views of `n` images of random smooth colours with noise, by the encoder's form for
 * `imageSize` pixels.
 */
export async function encoderLoss(
  name: string,
  size: number,
  n: number,
  imageSize = size,
): Promise<EncoderLoss> {
  const s = new Scope("training");
  const views = ["a", "b"].map((label) => input(label, "float32", ["n", 3, size, size]));
  const features = encoderNamed(name).build(s, concat(views, 0), imageSize); // [2n, features]
  const [p, q] = split(features, 0, views);
  const { loss } = ntXent(p!, q!, input("temperature", "float32", []));
  const grads = gradients(
    loss,
    s.params.map(({ tensor }) => tensor),
  );
  // Made when asked for: some tests want only the gradient.
  let forward: Promise<Run> | undefined;
  const backward = await compile(
    Object.fromEntries(s.params.map((param, i) => [`by ${param.name}`, grads[i]!])),
  );

  const state = weightsOf(s);
  const feeds = {
    ...state,
    a: images(n, size, 0),
    b: images(n, size, 1),
    temperature: floats([0.5], []),
  };
  return {
    weights: new Map(s.params.map((param) => [param.name, state[param.name]!.data as Float32Array])),
    loss: async () => {
      forward ??= compile({ loss });
      return Number((await (await forward)(feeds)).loss!.data[0]);
    },
    gradient: async () => {
      const found = await backward(feeds);
      return new Map(s.params.map((param) => [param.name, found[`by ${param.name}`]!.data as Float32Array]));
    },
  };
}

/** Each image has waves of its own; the views share them and differ in their noise. */
function images(n: number, size: number, view: number): Value {
  const noise = normals([n, 3, size, size], "noise", view);
  const data = noise.data as Float32Array;
  for (let i = 0; i < n * 3; i++) {
    const random = randomFor("waves", i);
    const [level, down, across] = [random.normal(), random.uniform(0, 0.5), random.uniform(0, 0.5)];
    for (let row = 0; row < size; row++)
      for (let column = 0; column < size; column++) {
        const at = (i * size + row) * size + column;
        data[at] = 0.5 * data[at]! + level + Math.sin(down * row + across * column);
      }
  }
  return noise;
}
