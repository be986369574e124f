/** CUDA's own library, by koffi: memory of one device, and copies to it and from it. */
import { readFileSync } from "node:fs";
import type { Koffi, Pointer } from "../ort-api.ts";

export interface Cudart {
  /** @throws Error of the library, such as "CUDA failure 2: out of memory" */
  allocate(bytes: number): Pointer;
  /** Never throws: a device that failed cannot free either. */
  free(at: Pointer): void;
  toDevice(at: Pointer, data: ArrayBufferView): void;
  /** Returns when the data has arrived. */
  toHost(data: ArrayBufferView, at: Pointer): void;
  /** From one place of the device to another. */
  within(to: Pointer, from: Pointer, bytes: number): void;
  /** Writes zeros. */
  clear(at: Pointer, bytes: number): void;
  /** Returns when all of that is done: the runtime's stream does not wait for it by itself. */
  synchronize(): void;
}

const [TO_DEVICE, TO_HOST, WITHIN] = [1, 2, 3]; // cudaMemcpyKind

/**
 * To be called once a session with the CUDA provider is open, and by the thread that copies: a device is chosen for
 * each thread.
 *
 * @throws Error if the library is not there or refuses the device.
 */
export function openCudart(koffi: Koffi, device: number): Cudart {
  const library = koffi.load(loadedCudart(readFileSync("/proc/self/maps", "utf8")));
  const f = {
    setDevice: library.func("int cudaSetDevice(int)"),
    malloc: library.func("int cudaMalloc(_Out_ void **, size_t)"),
    free: library.func("int cudaFree(void *)"),
    memcpy: library.func("int cudaMemcpy(void *, void *, size_t, int)"),
    memset: library.func("int cudaMemset(void *, int, size_t)"),
    synchronize: library.func("int cudaDeviceSynchronize()"),
    text: library.func("const char *cudaGetErrorString(int)"),
  };
  const check = (code: number) => {
    if (code !== 0) throw new Error(`CUDA failure ${code}: ${f.text(code)}`); // as ONNX Runtime has it
  };
  check(f.setDevice(device));
  return {
    allocate(bytes) {
      const out: [Pointer | null] = [null];
      check(f.malloc(out, bytes));
      return out[0]!;
    },
    free: (at) => f.free(at),
    toDevice: (at, data) => check(f.memcpy(at, data, data.byteLength, TO_DEVICE)),
    toHost: (data, at) => check(f.memcpy(data, at, data.byteLength, TO_HOST)),
    within: (to, from, bytes) => check(f.memcpy(to, from, bytes, WITHIN)),
    clear: (at, bytes) => check(f.memset(at, 0, bytes)),
    synchronize: () => check(f.synchronize()),
  };
}

/** The one that the provider has loaded, wherever it found it: of its version, and on no path of ours. */
export function loadedCudart(maps: string): string {
  const [path] = maps.match(/\/.*\/libcudart\.so\S*$/m) ?? [];
  if (path === undefined) throw new Error("the CUDA provider has loaded no libcudart.so");
  return path;
}
