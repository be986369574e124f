/** Where sessions keep tensors between their runs: the host's memory here, a GPU's in `cuda/`. */
import * as ort from "onnxruntime-node";
import type { DType } from "../spec.ts";
import { made, type OrtApi, type Pointer, TYPES } from "./ort-api.ts";
import type { Feeds } from "./session.ts";

/** A tensor of the library, for sessions to read or write. */
export interface Value {
  readonly pointer: Pointer;
  release(): void;
}

/** One that is kept between runs. */
export interface Kept extends Value {
  /** What it holds. On the host this is its own array, which a later run may write over. */
  read(): ort.Tensor;
}

export interface Memory {
  /** Keeps what a tensor holds. On the host it takes over the array. */
  keep(tensor: ort.Tensor): Kept;
  /** Keeps a tensor of that type and shape, to be written before it is read. */
  blank(form: Form): Kept;
  /** Writes tensors, or others that it keeps, into kept ones of the same type and shape; returns when they are there. */
  write(pairs: Iterable<readonly [to: Kept, from: ort.Tensor | Kept]>): void;
  /** Writes zeros. */
  clear(values: Iterable<Kept>): void;
}

export const isKept = (from: ort.Tensor | Kept): from is Kept => "read" in from;

/** A session that reads and writes what a memory keeps. */
export interface KeepingSession {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly memory: Memory;
  /** Reads the feeds and kept tensors, writes outputs into others, and returns those that are named, on the host. */
  run(feeds: Feeds, kept: KeptValues, outputs: readonly string[]): Promise<Record<string, ort.Tensor>>;
  close(): void | Promise<void>;
}

/** Of a session's memory, by the names of inputs and outputs. */
export interface KeptValues {
  readonly read: ReadonlyMap<string, Value>;
  readonly written?: ReadonlyMap<string, Value>;
}

export type Form = Pick<ort.Tensor, "type" | "dims">;

export function hostMemory(api: OrtApi): Memory {
  const keep = (tensor: ort.Tensor): Kept => ({ ...hostValue(api, tensor), read: () => tensor });
  return { keep, blank: (form) => keep(zeros(form)), ...inArrays };
}

/** Of kept tensors that are arrays of JavaScript. */
export const inArrays: Pick<Memory, "write" | "clear"> = {
  write(pairs) {
    for (const [to, from] of pairs) {
      const { data } = isKept(from) ? from.read() : from;
      (to.read().data as Float32Array).set(data as Float32Array);
    }
  },
  clear(values) {
    for (const value of values) (value.read().data as Float32Array).fill(0);
  },
};

/** A value that lies in the tensor's array, which must be kept as long. */
export const hostValue = (api: OrtApi, tensor: ort.Tensor): Value =>
  valueAt(api, api.host, tensor, tensor.data as Float32Array);

/** A value that lies at `data` in `memory`, an OrtMemoryInfo. */
export function valueAt(api: OrtApi, memory: Pointer, form: Form, data: Pointer | Float32Array): Value {
  const { type, dims } = form;
  const [code] = TYPES[type as DType];
  const [bytes, sizes] = [bytesOf(form), BigInt64Array.from(dims, BigInt)];
  const pointer = made((out) =>
    api.call("CreateTensorWithDataAsOrtValue", memory, data, bytes, sizes, dims.length, code, out),
  );
  return { pointer, release: () => api.drop("ReleaseValue", pointer) };
}

/** The type and the shape of a value. */
export function formOf(api: OrtApi, value: Pointer): Form {
  const { code, dims } = describe(api, value);
  const [type] = Object.entries(TYPES).find(([, [known]]) => known === code)!;
  return { type: type as DType, dims };
}

/** A tensor's element type, as the library counts them, and its shape. */
export function describe(api: OrtApi, value: Pointer): { readonly code: number; readonly dims: number[] } {
  const info = made((out) => api.call("GetTensorTypeAndShape", value, out));
  try {
    const [code, rank] = [[0], [0]];
    api.call("GetTensorElementType", info, code);
    api.call("GetDimensionsCount", info, rank);
    const sizes = new BigInt64Array(rank[0]!);
    api.call("GetDimensions", info, sizes, sizes.length);
    return { code: code[0]!, dims: Array.from(sizes, Number) };
  } finally {
    api.drop("ReleaseTensorTypeAndShapeInfo", info);
  }
}

export function zeros({ type, dims }: Form): ort.Tensor {
  const [, , Data] = TYPES[type as DType];
  return new ort.Tensor(type as "float32", new Data(sizeOf(dims)) as Float32Array, dims);
}

export const bytesOf = ({ type, dims }: Form): number =>
  sizeOf(dims) * TYPES[type as DType][2].BYTES_PER_ELEMENT;

const sizeOf = (dims: readonly number[]) => dims.reduce((a, b) => a * b, 1);
