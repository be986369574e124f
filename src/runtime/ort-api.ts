/**
 * ONNX Runtime's C API, of the library that onnxruntime-node ships, by koffi. It reads and writes memory that we give
 * it, of the host or of a GPU; that package's own binding copies, even into preallocated arrays.
 */
import { createRequire } from "node:module";
import { join } from "node:path";
import { messageOf } from "../errors.ts";
import { once } from "../graph/once.ts";
import type { DType } from "../spec.ts";
import { thisHost } from "./cuda/host.ts";

const require = createRequire(import.meta.url);
export type Koffi = typeof import("koffi")["default"];
export type Pointer = bigint;

/**
 * A function's index in OrtApi, a table that only ever grows at its end, and its type. Those that can fail return a
 * status.
 */
const FUNCTIONS = {
  CreateStatus: [0, "void *(int, const char *)"],
  GetErrorMessage: [2, "const char *(void *)"],
  CreateEnv: [3, "void *(int, const char *, _Out_ void **)"],
  CreateSessionFromArray: [8, "void *(void *, void *, size_t, void *, _Out_ void **)"],
  Run: [9, "void *(void *, void *, const char **, void *, size_t, const char **, size_t, void *)"],
  CreateSessionOptions: [10, "void *(_Out_ void **)"],
  EnableProfiling: [14, "void *(void *, const char *)"],
  DisableMemPattern: [17, "void *(void *)"],
  SetSessionLogSeverityLevel: [22, "void *(void *, int)"],
  SetIntraOpNumThreads: [24, "void *(void *, int)"],
  CreateCustomOpDomain: [26, "void *(const char *, _Out_ void **)"],
  CustomOpDomain_Add: [27, "void *(void *, void *)"],
  AddCustomOpDomain: [28, "void *(void *, void *)"],
  SessionGetInputCount: [30, "void *(void *, _Out_ size_t *)"],
  SessionGetOutputCount: [31, "void *(void *, _Out_ size_t *)"],
  SessionGetInputName: [36, "void *(void *, size_t, void *, _Out_ void **)"],
  SessionGetOutputName: [37, "void *(void *, size_t, void *, _Out_ void **)"],
  CreateTensorWithDataAsOrtValue: [49, "void *(void *, void *, size_t, void *, size_t, int, _Out_ void **)"],
  GetTensorMutableData: [51, "void *(void *, _Out_ void **)"],
  GetTensorElementType: [60, "void *(void *, _Out_ int *)"],
  GetDimensionsCount: [61, "void *(void *, _Out_ size_t *)"],
  GetDimensions: [62, "void *(void *, void *, size_t)"],
  GetTensorTypeAndShape: [65, "void *(void *, _Out_ void **)"],
  CreateMemoryInfo: [68, "void *(const char *, int, int, int, _Out_ void **)"],
  CreateCpuMemoryInfo: [69, "void *(int, int, _Out_ void **)"],
  AllocatorFree: [76, "void *(void *, void *)"],
  GetAllocatorWithDefaultOptions: [78, "void *(_Out_ void **)"],
  KernelContext_GetInput: [90, "void *(void *, size_t, _Out_ void **)"],
  KernelContext_GetOutput: [91, "void *(void *, size_t, void *, size_t, _Out_ void **)"],
  ReleaseStatus: [93, "void (void *)"],
  ReleaseMemoryInfo: [94, "void (void *)"],
  ReleaseSession: [95, "void (void *)"],
  ReleaseValue: [96, "void (void *)"],
  ReleaseTensorTypeAndShapeInfo: [99, "void (void *)"],
  ReleaseSessionOptions: [100, "void (void *)"],
  ReleaseCustomOpDomain: [101, "void (void *)"],
  AddFreeDimensionOverrideByName: [124, "void *(void *, const char *, int64_t)"],
  AddSessionConfigEntry: [130, "void *(void *, const char *, const char *)"],
  KernelContext_GetGPUComputeStream: [193, "void *(void *, _Out_ void **)"],
  SessionOptionsAppendExecutionProvider_CUDA_V2: [204, "void *(void *, void *)"],
  CreateCUDAProviderOptions: [205, "void *(_Out_ void **)"],
  UpdateCUDAProviderOptions: [206, "void *(void *, const char **, const char **, size_t)"],
  ReleaseCUDAProviderOptions: [208, "void (void *)"],
  SetDeterministicCompute: [273, "void *(void *, bool)"],
} as const satisfies Record<string, readonly [number, string]>;
type Name = keyof typeof FUNCTIONS;

/** The oldest version of the API that has all of those; a library also gives the versions before its own. */
const VERSION = 17;

/** Codes of ONNXTensorElementDataType, koffi's names of the types, and arrays of them. */
export const TYPES = {
  float32: [1, "float", Float32Array],
  uint8: [2, "uint8_t", Uint8Array],
  int32: [6, "int32_t", Int32Array],
  int64: [7, "int64_t", BigInt64Array],
  bool: [9, "uint8_t", Uint8Array],
} as const satisfies Record<DType, readonly [number, string, unknown]>;

/** Bytes. Graphs are parsed recursively, and koffi's own stacks for asynchronous calls have 128 kB. */
const STACK = 8 * 2 ** 20;

export const FATAL = 4; // OrtLoggingLevel; errors are thrown as well
const FAIL = 1; // OrtErrorCode
/** OrtAllocatorType and OrtMemType of ordinary memory. */
export const [DEVICE_ALLOCATOR, DEFAULT_MEMORY] = [0, 0];

export interface OrtApi {
  readonly koffi: Koffi;
  /** Kept: koffi closes a library that nothing refers to. */
  readonly library: unknown;
  readonly env: Pointer;
  /** The host's memory, as the library calls it: an OrtMemoryInfo. */
  readonly host: Pointer;
  /** @throws Error of the library */
  call(name: Name, ...args: unknown[]): void;
  /** The same on another thread. */
  callBeside(name: Name, ...args: unknown[]): Promise<void>;
  drop(name: Name & `Release${string}`, pointer: Pointer): void;
  /** A status for the library, of a function of ours that it called and that failed. */
  failed(message: string): Pointer;
}

/** The library, or why it cannot be called. */
type Loaded =
  | { readonly api: OrtApi; readonly fault?: never }
  | { readonly api?: never; readonly fault: string };
const loaded = new Map<string, Loaded>();

/**
 * Undefined where the library cannot be called: koffi is not installed, or the platform is not Linux.
 *
 * @param folder that of libonnxruntime.so.1, onnxruntime-node's by default.
 */
export const ortApi = (folder?: string): OrtApi | undefined => loadedFrom(folder).api;

/** Why the library cannot be called. */
export const ortApiFault = (folder?: string): string | undefined => loadedFrom(folder).fault;

const loadedFrom = (folder = thisHost().runtime): Loaded =>
  once(loaded, folder, () => {
    if (process.platform !== "linux") return { fault: "that takes Linux" };
    try {
      return { api: load(folder) };
    } catch (error) {
      const missing = (error as { code?: unknown }).code === "MODULE_NOT_FOUND";
      return { fault: missing ? "that takes package koffi" : messageOf(error) };
    }
  });

/** What a function returns through its last argument. */
export function made(call: (out: [Pointer | null]) => void): Pointer {
  const out: [Pointer | null] = [null];
  call(out);
  return out[0]!;
}

function load(folder: string): OrtApi {
  const koffi: Koffi = require("koffi");
  if ((koffi.config().async_stack_size ?? 0) < STACK) koffi.config({ async_stack_size: STACK });
  const library = koffi.load(join(folder, "libonnxruntime.so.1"));
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
  const call: OrtApi["call"] = (name, ...args) => check(functions[name](...args));
  return {
    koffi,
    library,
    env: made((out) => call("CreateEnv", FATAL, "ort-pretrain", out)),
    host: made((out) => call("CreateCpuMemoryInfo", DEVICE_ALLOCATOR, DEFAULT_MEMORY, out)),
    call,
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
    failed: (message) => functions.CreateStatus(FAIL, message),
  };
}
