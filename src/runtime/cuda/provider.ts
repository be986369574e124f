/** What a session on CUDA is told, and how the library calls the memory of its device. */
import { DEFAULT_MEMORY, DEVICE_ALLOCATOR, made, type OrtApi, type Pointer } from "../ort-api.ts";

/** Adds the provider to a session's options. @throws Error if its library or CUDA is not there */
export function appendCuda(api: OrtApi, options: Pointer, device: number): void {
  const settings = { device_id: `${device}` };
  const provider = made((out) => api.call("CreateCUDAProviderOptions", out));
  try {
    const [keys, values] = [Object.keys(settings), Object.values(settings)];
    api.call("UpdateCUDAProviderOptions", provider, keys, values, keys.length);
    api.call("SessionOptionsAppendExecutionProvider_CUDA_V2", options, provider);
  } finally {
    api.drop("ReleaseCUDAProviderOptions", provider);
  }
}

/** The OrtMemoryInfo of a device. */
export const placeOf = (api: OrtApi, device: number): Pointer =>
  made((out) => api.call("CreateMemoryInfo", "Cuda", DEVICE_ALLOCATOR, device, DEFAULT_MEMORY, out));
