/** The driver's library, by koffi: kernels that are loaded at run time, and launched. */
import type { Koffi, Pointer } from "../ort-api.ts";
import type { Work } from "./kernel.ts";
import { libraryOf } from "./libraries.ts";

/** Of a kernel, of `entry` in a module: how many threads run it, and their shared memory. */
export type Extent = Pick<Extract<Work, { kind: "cuda" }>, "grid" | "block" | "shared">;

/** Puts a kernel on a stream; it takes pointers alone. */
export type Launch = (pointers: readonly Pointer[], stream: Pointer | null) => void;

export interface Module {
  kernel(entry: string, extent: Extent): Launch;
  unload(): void;
}

export interface Driver {
  /** What a device runs, as NVRTC calls it, such as "sm_90". */
  architecture(device: number): string;
  /** Loads a CUBIN onto the device that is current. */
  load(cubin: Uint8Array): Module;
}

const [MAJOR, MINOR] = [75, 76]; // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...
const SHARED = 8; // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
/** Bytes of dynamic shared memory that a kernel has without asking. */
const SHARED_UNASKED = 48 * 2 ** 10;

/** A device must be current on the thread that calls. @throws Error if the library does not load. */
export function openDriver(koffi: Koffi, path: string): Driver {
  const library = libraryOf(koffi, path);
  const f = {
    init: library.func("int cuInit(uint)"),
    device: library.func("int cuDeviceGet(_Out_ int *, int)"),
    attribute: library.func("int cuDeviceGetAttribute(_Out_ int *, int, int)"),
    load: library.func("int cuModuleLoadData(_Out_ void **, void *)"),
    unload: library.func("int cuModuleUnload(void *)"),
    kernel: library.func("int cuModuleGetFunction(_Out_ void **, void *, const char *)"),
    set: library.func("int cuFuncSetAttribute(void *, int, int)"),
    launch: library.func(
      "int cuLaunchKernel(void *, uint, uint, uint, uint, uint, uint, uint, void *, void *, void *)",
    ),
    text: library.func("int cuGetErrorString(int, _Out_ const char **)"),
  };
  const check = (code: number) => {
    if (code === 0) return;
    const text: [string | null] = [null];
    f.text(code, text);
    throw new Error(`CUDA failure ${code}: ${text[0]}`);
  };
  check(f.init(0));
  // An argument is given by where its value lies, of which the library is told the address alone: kept, not collected.
  let values = new BigUint64Array(new ArrayBuffer(0));
  return {
    architecture(index) {
      const [device, major, minor] = [[0], [0], [0]];
      check(f.device(device, index));
      check(f.attribute(major, MAJOR, device[0]));
      check(f.attribute(minor, MINOR, device[0]));
      return `sm_${major[0]}${minor[0]}`;
    },
    load(cubin) {
      const module: [Pointer | null] = [null];
      check(f.load(module, cubin));
      return {
        kernel(entry, { grid, block, shared }) {
          const found: [Pointer | null] = [null];
          check(f.kernel(found, module[0], entry));
          if (shared > SHARED_UNASKED) check(f.set(found[0], SHARED, shared));
          return (pointers, stream) => {
            if (values.length < pointers.length)
              values = new BigUint64Array(new ArrayBuffer(8 * pointers.length));
            values.set(pointers);
            const first: Pointer = koffi.address(values);
            const places = BigUint64Array.from(pointers, (_, i) => first + BigInt(8 * i));
            check(f.launch(found[0], ...grid, ...block, shared, stream, places, null));
          };
        },
        unload: () => f.unload(module[0]), // a device that failed unloads nothing
      };
    },
  };
}
