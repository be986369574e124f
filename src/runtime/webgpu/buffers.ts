/** State that lies in a GPU's buffers between runs of the WebGPU provider, which leaves outputs there and reads them as inputs. */
import * as ort from "onnxruntime-node";
import { buildModel } from "../../graph/model.ts";
import { encodeModel } from "../../graph/protos.ts";
import { input } from "../../graph/tensor.ts";
import type { Place } from "../feeding.ts";
import { openSession, type Session } from "../session.ts";

/** The buffers of the GPU; values that are still on the host, as initial ones are, stay as they are. */
export function gpuBuffers(): Place {
  let copier: Session | undefined;
  const release = (values: readonly ort.Tensor[]) => {
    for (const tensor of values) if (tensor.location === "gpu-buffer") tensor.dispose();
  };
  return {
    async read(state) {
      copier ??= await openSession(copying(), "a graph that copies state", { provider: "webgpu" });
      const found: Record<string, ort.Tensor> = {};
      for (const [name, tensor] of Object.entries(state)) found[name] = await onHost(copier, tensor);
      return found;
    },
    release,
    async close(state) {
      release(Object.values(state)); // once its session is gone, freeing it ends the process
      await copier?.close();
    },
  };
}

/** A graph that puts out the float32 values that it is given. */
const copying = (): Uint8Array =>
  encodeModel(buildModel({ y: input("x", "float32", ["n"]) }, { name: "copy" }));

/**
 * A copy that the provider makes: `getData` of such a tensor ends the process. Tensors are copied one by one, as
 * vectors, which takes one graph for all and no more of the GPU's memory than the largest of them.
 */
async function onHost(copier: Session, tensor: ort.Tensor): Promise<ort.Tensor> {
  if (tensor.location === "cpu") return tensor;
  const { gpuBuffer, size, dims } = tensor;
  const x = ort.Tensor.fromGpuBuffer(gpuBuffer, { dataType: "float32", dims: [size] });
  const { y } = await copier.run({ x });
  return new ort.Tensor("float32", y!.data as Float32Array, dims);
}
