/** State that lies in the GPU's buffers between runs, where the browser can read it. */
import type * as ort from "onnxruntime-node";
import type { Place } from "../../runtime/feeding.ts";

const release = (values: readonly ort.Tensor[]): void => {
  for (const tensor of values) if (tensor.location === "gpu-buffer") tensor.dispose();
};

/** What has been read lies on the host from then on, and the next run takes it from there. */
export const GPU: Place = {
  async read(state) {
    for (const tensor of Object.values(state)) await tensor.getData(true);
    return state;
  },
  release,
  close: async (state) => release(Object.values(state)),
};
