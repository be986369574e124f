/** Sessions through ONNX Runtime's C API, whose inputs and outputs lie where we want them. */
import * as ort from "onnxruntime-node";
import type { DType } from "../spec.ts";
import { openCudart } from "./cuda/cudart.ts";
import { type CustomOperators, openOperators, type Run } from "./cuda/custom-operators.ts";
import type { Operator } from "./cuda/kernel.ts";
import { openKernels } from "./cuda/kernels.ts";
import { loadCudaLibraries } from "./cuda/libraries.ts";
import { deviceMemory } from "./cuda/memory.ts";
import { appendCuda, loadCuda, placeOf } from "./cuda/provider.ts";
import {
  formOf,
  hostMemory,
  hostValue,
  type KeepingSession,
  type KeptValues,
  type Memory,
  type Value,
} from "./memory.ts";
import { FATAL, made, type OrtApi, ortApi, type Pointer, TYPES } from "./ort-api.ts";
import { entriesOf, type SessionOptions, threadsOf } from "./session.ts";

/**
 * Runs on another thread, which leaves this one to the images that are decoded meanwhile; on CUDA the runtime keeps a
 * context for each such thread, 0.3 GB in all.
 */
export interface NativeSession extends KeepingSession {
  /**
   * Reads and writes values of `memory` alone, and blocks this thread: a CUDA graph is captured and run by one thread. The
   * first of these runs of a session with `capture` computes the step several times.
   */
  runHere(kept: Required<KeptValues>): void;
  close(): void;
}

/** What sessions of the package onnxruntime-node cannot be told. */
export interface NativeOptions extends SessionOptions {
  /** Sizes by their symbols in the shapes of inputs, such as "2*n": the graph is planned for these. @default any sizes */
  readonly sizes?: Readonly<Record<string, number>> | undefined;
  /** Custom operators of the graph. On CUDA what they run is compiled and loaded. @default none */
  readonly operators?: readonly Operator[] | undefined;
  /** Runs custom operators in CUDA's place, for tests. */
  readonly runOperator?: Run | undefined;
  /** Whether `runHere` captures a CUDA graph. All nodes have to be on the GPU. @default false */
  readonly capture?: boolean | undefined;
}

export interface NativeRuntime {
  /** Opens a session on the CPU or on CUDA. @throws Error of the library if the graph is damaged or CUDA is not there */
  open(graph: Uint8Array, options: NativeOptions): Promise<NativeSession>;
  /** Where sessions with these options keep what stays. @throws Error if CUDA is not there */
  memory(options: SessionOptions): Memory;
}

/** Undefined where the library cannot be called: koffi is not installed, or the platform is not Linux. */
export function nativeRuntime(api = ortApi()): NativeRuntime | undefined {
  return (
    api && {
      open: (graph, options) => open(api, graph, options),
      memory(options) {
        if (options.provider === "cuda") {
          loadCudaLibraries(options.cudaLibraries);
          loadCuda(api);
        }
        return memoryOf(api, options);
      },
    }
  );
}

/** CUDA is to be loaded before. */
const memoryOf = (api: OrtApi, { provider, device = 0 }: SessionOptions): Memory =>
  provider === "cuda"
    ? deviceMemory(api, placeOf(api, device), openCudart(api.koffi, device))
    : hostMemory(api);

async function open(api: OrtApi, graph: Uint8Array, given: NativeOptions): Promise<NativeSession> {
  const { provider, device = 0, profile, sizes = {} } = given;
  const threads = threadsOf(given);
  const options = made((out) => api.call("CreateSessionOptions", out));
  const out: [Pointer | null] = [null];
  let custom: CustomOperators | undefined;
  try {
    api.call("DisableMemPattern", options); // see `openSession`
    api.call("SetSessionLogSeverityLevel", options, FATAL);
    for (const [key, value] of Object.entries(entriesOf(given)))
      api.call("AddSessionConfigEntry", options, key, value);
    if (threads !== undefined) api.call("SetIntraOpNumThreads", options, threads);
    for (const [symbol, size] of Object.entries(sizes))
      api.call("AddFreeDimensionOverrideByName", options, symbol, size);
    if (profile !== undefined) api.call("EnableProfiling", options, profile);
    if (provider === "cuda") {
      loadCudaLibraries(given.cudaLibraries);
      appendCuda(api, options, { ...given, device });
      if (given.deterministic) api.call("SetDeterministicCompute", options, true);
    }
    if (given.operators?.length) {
      custom = await customOperators(api, given.operators, given);
      api.call("AddCustomOpDomain", options, custom.domain);
    }
    await api.callBeside("CreateSessionFromArray", api.env, graph, graph.byteLength, options, out);
  } catch (error) {
    custom?.close();
    throw error;
  } finally {
    api.drop("ReleaseSessionOptions", options);
  }
  const session = out[0]!;
  const close = () => {
    api.drop("ReleaseSession", session);
    custom?.close();
  };
  try {
    return sessionOf(api, session, memoryOf(api, given), close);
  } catch (error) {
    close();
    throw error;
  }
}

async function customOperators(
  api: OrtApi,
  operators: readonly Operator[],
  { provider, runOperator, ...options }: NativeOptions,
): Promise<CustomOperators> {
  const on = provider === "cuda" ? "CUDAExecutionProvider" : "CPUExecutionProvider";
  if (runOperator) return openOperators(api, operators, on, runOperator);
  const kernels = await openKernels(api.koffi, operators, options);
  const opened = openOperators(api, operators, on, kernels.run);
  return {
    domain: opened.domain,
    close() {
      opened.close();
      kernels.close();
    },
  };
}

function sessionOf(api: OrtApi, session: Pointer, memory: Memory, close: () => void): NativeSession {
  const pointers = (values: readonly (Value | undefined)[]) =>
    BigUint64Array.from(values, (value) => value?.pointer ?? 0n);
  return {
    inputs: namesOf(api, session, "Input"),
    outputs: namesOf(api, session, "Output"),
    memory,
    async run(feeds, { read, written = new Map<string, Value>() }, outputs) {
      const fed: Value[] = [];
      try {
        for (const tensor of Object.values(feeds)) fed.push(hostValue(api, tensor));
        const [from, to] = [
          [...Object.keys(feeds), ...read.keys()],
          [...written.keys(), ...outputs],
        ];
        const values = pointers([...fed, ...read.values()]);
        // Those left at 0 are made by the runtime, on the host.
        const results = pointers([...written.values(), ...outputs.map(() => undefined)]);
        await api.callBeside("Run", session, null, from, values, from.length, to, to.length, results);
        const found = [...results.subarray(written.size)];
        try {
          return Object.fromEntries(outputs.map((name, i) => [name, copied(api, found[i]!)]));
        } finally {
          for (const pointer of found) api.drop("ReleaseValue", pointer);
        }
      } finally {
        for (const value of fed) value.release();
      }
    },
    runHere({ read, written }) {
      const [from, to] = [[...read.keys()], [...written.keys()]];
      const [values, results] = [pointers([...read.values()]), pointers([...written.values()])];
      api.call("Run", session, null, from, values, from.length, to, to.length, results);
    },
    close,
  };
}

/** The names of a session's inputs, or of its outputs. */
function namesOf(api: OrtApi, session: Pointer, of: "Input" | "Output"): readonly string[] {
  const count = [0];
  api.call(`SessionGet${of}Count`, session, count);
  const allocator = made((out) => api.call("GetAllocatorWithDefaultOptions", out));
  return Array.from({ length: Number(count[0]) }, (_, i) => {
    const name = made((out) => api.call(`SessionGet${of}Name`, session, i, allocator, out));
    try {
      return api.koffi.decode(name, "char", -1) as string;
    } finally {
      api.call("AllocatorFree", allocator, name);
    }
  });
}

/** What a value of the host holds, in an array of its own. */
function copied(api: OrtApi, value: Pointer): ort.Tensor {
  const { type, dims } = formOf(api, value);
  const [, named] = TYPES[type as DType];
  const data = made((out) => api.call("GetTensorMutableData", value, out));
  const count = dims.reduce((a, b) => a * b, 1);
  return new ort.Tensor(type as "float32", api.koffi.decode(data, named, count) as Float32Array, dims);
}
