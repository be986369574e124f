/** How far two runs of the same steps are apart, and the files that they are kept in. */
import { readFile, writeFile } from "node:fs/promises";
import { decodeSafetensors, encodeSafetensors, type TensorData } from "../../../src/files/safetensors.ts";

/** By a tensor's name. */
export type Values = ReadonlyMap<string, Float32Array>;

/** What some steps of a method gave on one provider. */
export interface Taken {
  /** Of each step. */
  readonly losses: Float32Array;
  /** With respect to the parameters, in the first step. */
  readonly gradients: Values;
  /** Parameters, averages and buffers after the last step. */
  readonly weights: Values;
  /** Parameters after the last step less those before the first. */
  readonly changes: Values;
}

export interface Distance {
  /** The norm of the difference over that of the values, all tensors together. */
  readonly whole: number;
  /** Of the tensor that is farthest off: its greatest difference over its greatest value. */
  readonly worst: number;
  readonly tensor: string;
}

export interface Difference {
  /** The greatest of a step, relative where the loss is above 1. */
  readonly loss: number;
  readonly gradients: Distance;
  readonly weights: Distance;
  readonly changes: Distance;
}

export function difference(a: Taken, b: Taken): Difference {
  const apart = b.losses.map((loss, i) => (a.losses[i]! - loss) / Math.max(1, Math.abs(loss)));
  return {
    loss: a.losses.length === b.losses.length ? greatest(apart) : Number.NaN,
    gradients: distance(a.gradients, b.gradients),
    weights: distance(a.weights, b.weights),
    changes: distance(a.changes, b.changes),
  };
}

/** How far two runs' losses are apart, a step with the other's: their mean, over all steps and over the last quarter. */
export function apart(a: Float32Array, b: Float32Array): { readonly mean: number; readonly last: number } {
  const off = [...b].map((loss, i) => Math.abs(a[i]! - loss));
  const mean = (of: readonly number[]) => of.reduce((sum, x) => sum + x, 0) / of.length;
  return { mean: mean(off), last: mean(off.slice(-Math.ceil(off.length / 4))) };
}

/** NaN where one of the values is. @throws Error if the tensors are not the same ones */
function distance(a: Values, b: Values): Distance {
  if (a.size !== b.size) throw new Error(`expected ${b.size} tensors, found ${a.size}`);
  let [worst, tensor, squares, all] = [0, "", 0, 0];
  for (const [name, values] of b) {
    const others = a.get(name);
    if (others?.length !== values.length) throw new Error(`expected ${name} of ${values.length} values`);
    const apart = values.map((x, i) => others[i]! - x);
    const relative = greatest(apart) === 0 ? 0 : greatest(apart) / greatest(values);
    if (!(relative <= worst) && !Number.isNaN(worst)) [worst, tensor] = [relative, name];
    squares += sumOfSquares(apart);
    all += sumOfSquares(values);
  }
  return { whole: squares === 0 ? 0 : Math.sqrt(squares / all), worst, tensor };
}

/** Of the values without their signs; NaN where one of them is. */
const greatest = (values: Float32Array): number =>
  values.reduce((most, x) => (Math.abs(x) <= most ? most : Math.abs(x)), 0);

const sumOfSquares = (values: Float32Array): number => values.reduce((sum, x) => sum + x * x, 0);

/** Reads what `writeTaken` wrote. */
export async function readTaken(path: string): Promise<Taken> {
  const { tensors } = decodeSafetensors(await readFile(path), path);
  const under = (prefix: string): Values =>
    new Map(
      [...tensors].flatMap(([name, { data }]) =>
        name.startsWith(prefix) ? [[name.slice(prefix.length), data as Float32Array]] : [],
      ),
    );
  return {
    losses: under("losses").get("")!,
    gradients: under("gradient."),
    weights: under("weight."),
    changes: under("change."),
  };
}

/** As .safetensors, without shapes. */
export async function writeTaken(path: string, taken: Taken): Promise<void> {
  const { losses, gradients, weights, changes } = taken;
  const flat = (data: Float32Array): TensorData => ({ dtype: "float32", shape: [data.length], data });
  const under = (prefix: string, values: Values) =>
    [...values].map(([name, data]): [string, TensorData] => [`${prefix}${name}`, flat(data)]);
  const all = [
    ...under("losses", new Map([["", losses]])),
    ...under("gradient.", gradients),
    ...under("weight.", weights),
    ...under("change.", changes),
  ];
  await writeFile(path, encodeSafetensors(new Map(all)));
}
