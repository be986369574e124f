/** What an encoded model takes and gives. */
import type { ValueInfoProto } from "onnx-buf";
import type { Dim, DType, Shape } from "../spec.ts";
import { evaluateDim } from "./dims.ts";
import { DATA_TYPES, decodeModel, shapeFrom } from "./protos.ts";

export interface Declared {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: Shape;
}

export interface Signature {
  readonly inputs: readonly Declared[];
  readonly outputs: readonly Declared[];
}

/** @throws Error on bytes that are no model, and on inputs and outputs that ours do not have */
export function signatureOf(bytes: Uint8Array): Signature {
  const { graph } = decodeModel(bytes);
  if (!graph) throw new Error("the model has no graph");
  return { inputs: graph.input.map(declared), outputs: graph.output.map(declared) };
}

function declared(info: ValueInfoProto): Declared {
  const code = info.type?.value.case === "tensorType" ? info.type.value.value.elemType : undefined;
  const dtype = Object.entries(DATA_TYPES).find(([, known]) => known === code)?.[0] as DType | undefined;
  const shape = shapeFrom(info);
  if (!dtype || !shape) throw new Error(`${info.name} has no type or shape that is known`);
  return { name: info.name, dtype, shape };
}

export interface Sizes {
  /** As inputs state them, such as "2*n". */
  readonly stated: Readonly<Record<string, number>>;
  /** Of which those are multiples, such as "n". */
  readonly symbols: Readonly<Record<string, number>>;
  /** @throws Error if a symbol of the shape is in no input that is fed */
  of(shape: Shape): number[];
}

/** The sizes that symbolic ones have where inputs of these shapes are fed: each is a symbol, or a multiple of one. */
export function sizesOf(inputs: readonly Declared[], fed: ReadonlyMap<string, readonly number[]>): Sizes {
  const pairs = inputs.flatMap(({ name, shape }): [Dim, number][] => {
    const dims = fed.get(name);
    return dims ? shape.map((dim, axis) => [dim, dims[axis]!]) : [];
  });
  const stated = pairs.filter((pair): pair is [string, number] => typeof pair[0] === "string");
  const symbols = Object.fromEntries(
    stated.map(([dim, size]) => {
      const symbol = dim.split("*").at(-1)!;
      return [symbol, size / evaluateDim(dim, { [symbol]: 1 })];
    }),
  );
  return {
    stated: Object.fromEntries(stated),
    symbols,
    of: (shape) => shape.map((dim) => evaluateDim(dim, symbols)),
  };
}
