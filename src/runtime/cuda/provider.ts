/** What a session on CUDA is told, and how the library calls the memory of its device. */
import type { Precision } from "../../spec.ts";
import { DEFAULT_MEMORY, DEVICE_ALLOCATOR, made, type OrtApi, type Pointer } from "../ort-api.ts";

export interface CudaOptions {
  /** @default 0 */
  readonly device?: number | undefined;
  /** Whether runs are captured as a CUDA graph. @default false */
  readonly capture?: boolean | undefined;
  /** @default false */
  readonly deterministic?: boolean | undefined;
  /** @default "tf32" */
  readonly precision?: Precision | undefined;
}

/** The provider's settings by its own keys. */
export const settingsOf = ({
  device = 0,
  capture,
  deterministic,
  precision,
}: CudaOptions): Readonly<Record<string, string>> => ({
  device_id: `${device}`,
  ...(capture && { enable_cuda_graph: "1" }),
  // Engines of convolutions by rule alone, whatever was measured.
  ...(deterministic && { cudnn_conv_algo_search: "HEURISTIC" }),
  ...(precision === "fp32" && { use_tf32: "0" }),
});

/** Adds the provider to a session's options. @throws Error if its library or CUDA is not there */
export function appendCuda(api: OrtApi, options: Pointer, given: CudaOptions = {}): void {
  const settings = settingsOf(given);
  const provider = made((out) => api.call("CreateCUDAProviderOptions", out));
  try {
    const [keys, values] = [Object.keys(settings), Object.values(settings)];
    api.call("UpdateCUDAProviderOptions", provider, keys, values, keys.length);
    api.call("SessionOptionsAppendExecutionProvider_CUDA_V2", options, provider);
  } finally {
    api.drop("ReleaseCUDAProviderOptions", provider);
  }
}

/** Has the library load the provider, and CUDA with it, as a session would. */
export function loadCuda(api: OrtApi): void {
  const options = made((out) => api.call("CreateSessionOptions", out));
  try {
    appendCuda(api, options);
  } finally {
    api.drop("ReleaseSessionOptions", options);
  }
}

/** The OrtMemoryInfo of a device. */
export const placeOf = (api: OrtApi, device: number): Pointer =>
  made((out) => api.call("CreateMemoryInfo", "Cuda", DEVICE_ALLOCATOR, device, DEFAULT_MEMORY, out));
