/** Tensors that stay in a GPU's memory between runs. */
import { bytesOf, type Form, type Kept, type Memory, valueAt, zeros } from "../memory.ts";
import type { OrtApi, Pointer } from "../ort-api.ts";
import type { Cudart } from "./cudart.ts";

/** @param place the device's memory, as the library calls it: an OrtMemoryInfo. */
export function deviceMemory(api: OrtApi, place: Pointer, cudart: Cudart): Memory {
  const keep = ({ type, dims }: Form, data?: ArrayBufferView): Kept => {
    const form = { type, dims }; // not the tensor, whose array would be held in memory with it
    const at = cudart.allocate(bytesOf(form));
    if (data) cudart.toDevice(at, data);
    const { pointer, release } = valueAt(api, place, form, at);
    return {
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
  };
  return {
    keep: (tensor) => keep(tensor, tensor.data as Float32Array),
    blank: (form) => keep(form),
  };
}
