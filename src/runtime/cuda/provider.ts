/** What a session on CUDA is told, and how the library calls the memory of its device. */
import { DEFAULT_MEMORY, DEVICE_ALLOCATOR, made, type OrtApi, type Pointer } from "../ort-api.ts";

export interface CudaSettings {
  readonly device: number;
  /** Whether runs are captured as a CUDA graph. @default false */
  readonly capture?: boolean;
}

/** Adds the provider to a session's options. @throws Error if its library or CUDA is not there */
export function appendCuda(api: OrtApi, options: Pointer, { device, capture = false }: CudaSettings): void {
  const settings = { device_id: `${device}`, enable_cuda_graph: capture ? "1" : "0" };
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
    appendCuda(api, options, { device: 0 });
  } finally {
    api.drop("ReleaseSessionOptions", options);
  }
}

/** The OrtMemoryInfo of a device. */
export const placeOf = (api: OrtApi, device: number): Pointer =>
  made((out) => api.call("CreateMemoryInfo", "Cuda", DEVICE_ALLOCATOR, device, DEFAULT_MEMORY, out));
