/** A device for machines without one: memory that JavaScript does not see, copied to and from by libc. */
import koffi from "koffi";
import type { Cudart } from "../../../src/runtime/cuda/cudart.ts";
import type { Pointer } from "../../../src/runtime/ort-api.ts";

export interface TestDevice extends Cudart {
  /** Tensors that are allocated. */
  readonly count: number;
  /** Bytes copied from it. */
  readonly copied: number;
}

/** @param room bytes that can be allocated. */
export function openTestDevice(room = Number.POSITIVE_INFINITY): TestDevice {
  const libc = koffi.load("libc.so.6");
  const malloc = libc.func("void *malloc(size_t)");
  const free = libc.func("void free(void *)");
  const memset = libc.func("void *memset(void *, int, size_t)");
  const memcpy = libc.func("void *memcpy(void *, void *, size_t)");
  let [left, count, copied] = [room, 0, 0];
  return {
    allocate(bytes) {
      left -= bytes;
      if (left < 0) throw new Error("CUDA failure 2: out of memory");
      count++;
      const at: Pointer = malloc(bytes);
      memset(at, 0xff, bytes); // NaN: what is read before it is written shows
      return at;
    },
    free(at) {
      count--;
      free(at);
    },
    toDevice: (at, data) => memcpy(at, data, data.byteLength),
    within: (to, from, bytes) => memcpy(to, from, bytes),
    clear: (at, bytes) => memset(at, 0, bytes),
    synchronize() {},
    toHost(data, at) {
      copied += data.byteLength;
      memcpy(data, at, data.byteLength);
    },
    get count() {
      return count;
    },
    get copied() {
      return copied;
    },
  };
}
