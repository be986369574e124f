/**
 * ONNX Runtime's C API, of the library that onnxruntime-node ships. It writes outputs into memory that we give it;
 * that package's own binding copies them, even into preallocated arrays.
 */
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import * as ort from "onnxruntime-node";
import type { DType } from "../spec.ts";
import { entriesOf, type SessionOptions, threadsOf } from "./session.ts";

const require = createRequire(import.meta.url);
type Koffi = typeof import("koffi")["default"];
type Pointer = bigint;

/**
 * A function's index in OrtApi, a table that only ever grows at its end, and its type. Those that can fail return a
 * status.
 */
const FUNCTIONS = {
  GetErrorMessage: [2, "const char *(void *)"],
  CreateEnv: [3, "void *(int, const char *, _Out_ void **)"],
  CreateSessionFromArray: [8, "void *(void *, void *, size_t, void *, _Out_ void **)"],
  Run: [9, "void *(void *, void *, const char **, void *, size_t, const char **, size_t, void *)"],
  CreateSessionOptions: [10, "void *(_Out_ void **)"],
  EnableProfiling: [14, "void *(void *, const char *)"],
  DisableMemPattern: [17, "void *(void *)"],
  SetSessionLogSeverityLevel: [22, "void *(void *, int)"],
  SetIntraOpNumThreads: [24, "void *(void *, int)"],
  CreateTensorWithDataAsOrtValue: [49, "void *(void *, void *, size_t, void *, size_t, int, _Out_ void **)"],
  GetTensorMutableData: [51, "void *(void *, _Out_ void **)"],
  GetTensorElementType: [60, "void *(void *, _Out_ int *)"],
  GetDimensionsCount: [61, "void *(void *, _Out_ size_t *)"],
  GetDimensions: [62, "void *(void *, void *, size_t)"],
  GetTensorTypeAndShape: [65, "void *(void *, _Out_ void **)"],
  CreateCpuMemoryInfo: [69, "void *(int, int, _Out_ void **)"],
  ReleaseStatus: [93, "void (void *)"],
  ReleaseSession: [95, "void (void *)"],
  ReleaseValue: [96, "void (void *)"],
  ReleaseTensorTypeAndShapeInfo: [99, "void (void *)"],
  ReleaseSessionOptions: [100, "void (void *)"],
  AddSessionConfigEntry: [130, "void *(void *, const char *, const char *)"],
} as const satisfies Record<string, readonly [number, string]>;
type Name = keyof typeof FUNCTIONS;

/** The oldest version of the API that has all of those; a library also gives the versions before its own. */
const VERSION = 17;

/** Codes of ONNXTensorElementDataType, and koffi's names of the types. */
const TYPES: Readonly<Record<DType, readonly [number, string]>> = {
  float32: [1, "float"],
  uint8: [2, "uint8_t"],
  int32: [6, "int32_t"],
  int64: [7, "int64_t"],
  bool: [9, "uint8_t"],
};

/** Bytes. Graphs are parsed recursively, and koffi's own stacks for asynchronous calls have 128 kB. */
const STACK = 8 * 2 ** 20;

/** A tensor of the library that lies in a JavaScript array, which must be kept as long as the value. */
export interface Value {
  readonly pointer: Pointer;
  readonly tensor: ort.Tensor;
}

export interface NativeSession {
  valueOf(tensor: ort.Tensor): Value;
  release(value: Value): void;
  /** Runs the graph on another thread. Outputs that have a value are written into it; the others are returned. */
  run(
    inputs: ReadonlyMap<string, Value>,
    outputs: ReadonlyMap<string, Value | undefined>,
  ): Promise<Record<string, ort.Tensor>>;
  close(): void;
}

/** Opens a session on the CPU. @throws Error of the library if the graph is damaged */
type Open = (graph: Uint8Array, options: Omit<SessionOptions, "provider">) => Promise<NativeSession>;

let loaded: { readonly open: Open | undefined } | undefined;

/** Undefined where the library cannot be called: koffi is not installed, or the platform is not Linux. */
export function nativeRuntime(): Open | undefined {
  if (!loaded) {
    try {
      loaded = { open: process.platform === "linux" ? load() : undefined };
    } catch {
      loaded = { open: undefined };
    }
  }
  return loaded.open;
}

function load(): Open {
  const koffi: Koffi = require("koffi");
  if ((koffi.config().async_stack_size ?? 0) < STACK) koffi.config({ async_stack_size: STACK });
  const api = functionsOf(koffi);
  const env = made((out) => api.call("CreateEnv", FATAL, "ort-pretrain", out));
  const memory = made((out) => api.call("CreateCpuMemoryInfo", DEVICE, DEFAULT_MEMORY, out));

  return async (graph, { profile, ...settings }) => {
    const threads = threadsOf(settings);
    const options = made((out) => api.call("CreateSessionOptions", out));
    try {
      api.call("DisableMemPattern", options); // see `openSession`
      api.call("SetSessionLogSeverityLevel", options, FATAL);
      for (const [key, value] of Object.entries(entriesOf(settings)))
        api.call("AddSessionConfigEntry", options, key, value);
      if (threads !== undefined) api.call("SetIntraOpNumThreads", options, threads);
      if (profile !== undefined) api.call("EnableProfiling", options, profile);
      const out: [Pointer | null] = [null];
      await api.callBeside("CreateSessionFromArray", env, graph, graph.byteLength, options, out);
      return sessionOf(koffi, api, memory, out[0]!);
    } finally {
      api.drop("ReleaseSessionOptions", options);
    }
  };
}

const FATAL = 4; // OrtLoggingLevel; errors are thrown as well
const [DEVICE, DEFAULT_MEMORY] = [0, 0]; // OrtAllocatorType, OrtMemType

function sessionOf(koffi: Koffi, api: Api, memory: Pointer, session: Pointer): NativeSession {
  const pointers = (values: Iterable<Value | undefined>) =>
    BigUint64Array.from(values, (value) => value?.pointer ?? 0n);
  return {
    valueOf(tensor) {
      const { type, dims } = tensor;
      const data = tensor.data as Float32Array;
      const [code] = TYPES[type as DType];
      const sizes = BigInt64Array.from(dims, BigInt);
      const pointer = made((out) =>
        api.call(
          "CreateTensorWithDataAsOrtValue",
          memory,
          data,
          data.byteLength,
          sizes,
          dims.length,
          code,
          out,
        ),
      );
      return { pointer, tensor };
    },
    release: ({ pointer }) => api.drop("ReleaseValue", pointer),
    async run(inputs, outputs) {
      const [read, written] = [[...inputs.keys()], [...outputs.keys()]];
      const [values, results] = [pointers(inputs.values()), pointers(outputs.values())];
      await api.callBeside("Run", session, null, read, values, read.length, written, written.length, results);
      const found: Record<string, ort.Tensor> = {};
      written.forEach((name, i) => {
        if (outputs.get(name)) return;
        try {
          found[name] = copied(koffi, api, results[i]!);
        } finally {
          api.drop("ReleaseValue", results[i]!);
        }
      });
      return found;
    },
    close: () => api.drop("ReleaseSession", session),
  };
}

function copied(koffi: Koffi, api: Api, value: Pointer): ort.Tensor {
  const info = made((out) => api.call("GetTensorTypeAndShape", value, out));
  try {
    const [code, rank] = [[0], [0]];
    api.call("GetTensorElementType", info, code);
    api.call("GetDimensionsCount", info, rank);
    const sizes = new BigInt64Array(rank[0]!);
    api.call("GetDimensions", info, sizes, sizes.length);
    const dims = Array.from(sizes, Number);
    const [type, [, named]] = Object.entries(TYPES).find(([, [c]]) => c === code[0])!;
    const data = made((out) => api.call("GetTensorMutableData", value, out));
    const count = dims.reduce((a, b) => a * b, 1);
    return new ort.Tensor(type as "float32", koffi.decode(data, named, count) as Float32Array, dims);
  } finally {
    api.drop("ReleaseTensorTypeAndShapeInfo", info);
  }
}

/** What a function returns through its last argument. */
function made(call: (out: [Pointer | null]) => void): Pointer {
  const out: [Pointer | null] = [null];
  call(out);
  return out[0]!;
}

interface Api {
  /** Kept: koffi closes a library that nothing refers to. */
  readonly library: unknown;
  /** @throws Error of the library */
  call(name: Name, ...args: unknown[]): void;
  /** The same on another thread. */
  callBeside(name: Name, ...args: unknown[]): Promise<void>;
  drop(name: Name & `Release${string}`, pointer: Pointer): void;
}

function functionsOf(koffi: Koffi): Api {
  const package_ = dirname(require.resolve("onnxruntime-node/package.json"));
  const { platform, arch } = process;
  const library = koffi.load(join(package_, "bin/napi-v6", platform, arch, "libonnxruntime.so.1"));
  const base = library.func("void *OrtGetApiBase()")() as Pointer;
  const [getApi] = koffi.decode(base, "void *", 1) as [Pointer];
  const table = koffi.call(getApi, koffi.proto("void *(uint32_t)"), VERSION) as Pointer;
  const size = 1 + Math.max(...Object.values(FUNCTIONS).map(([place]) => place));
  const places = koffi.decode(table, "void *", size) as Pointer[];
  const functions = Object.fromEntries(
    Object.entries(FUNCTIONS).map(([name, [place, type]]) => [
      name,
      koffi.decode(places[place]!, koffi.proto(type)),
    ]),
  );
  const check = (status: Pointer | null) => {
    if (!status) return;
    const message: string = functions.GetErrorMessage(status);
    functions.ReleaseStatus(status);
    throw new Error(message);
  };
  return {
    library,
    call: (name, ...args) => check(functions[name](...args)),
    callBeside: (name, ...args) =>
      new Promise<void>((resolve, reject) => {
        functions[name].async(...args, (error: Error | null, status: Pointer | null) => {
          try {
            if (error) throw error;
            resolve(check(status));
          } catch (failure) {
            reject(failure);
          }
        });
      }),
    drop: (name, pointer) => functions[name](pointer),
  };
}
