/** Tensors that stay in a GPU's memory between runs. */
import { bytesOf, type Form, isKept, type Kept, type Memory, valueAt, zeros } from "../memory.ts";
import type { OrtApi, Pointer } from "../ort-api.ts";
import type { Cudart } from "./cudart.ts";

/** @param place the device's memory, as the library calls it: an OrtMemoryInfo. */
export function deviceMemory(api: OrtApi, place: Pointer, cudart: Cudart): Memory {
  const places = new WeakMap<Kept, { readonly at: Pointer; readonly bytes: number }>();
  const keep = ({ type, dims }: Form, data?: ArrayBufferView): Kept => {
    const form = { type, dims }; // not the tensor, whose array would be held in memory with it
    const bytes = bytesOf(form);
    const at = cudart.allocate(bytes);
    if (data) {
      cudart.toDevice(at, data);
      cudart.synchronize();
    }
    const { pointer, release } = valueAt(api, place, form, at);
    const kept: Kept = {
      pointer,
      read() {
        const tensor = zeros(form);
        cudart.toHost(tensor.data as Float32Array, at);
        return tensor;
      },
      release() {
        release();
        cudart.free(at);
      },
    };
    places.set(kept, { at, bytes });
    return kept;
  };
  return {
    keep: (tensor) => keep(tensor, tensor.data as Float32Array),
    blank: (form) => keep(form),
    write(pairs) {
      for (const [to, from] of pairs) {
        const { at, bytes } = places.get(to)!;
        if (isKept(from)) cudart.within(at, places.get(from)!.at, bytes);
        else cudart.toDevice(at, from.data as Float32Array);
      }
      cudart.synchronize();
    },
    clear(values) {
      for (const value of values) {
        const { at, bytes } = places.get(value)!;
        cudart.clear(at, bytes);
      }
      cudart.synchronize();
    },
  };
}
