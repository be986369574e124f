/** What can be had back of an encoder.onnx: the tensors that were frozen into it. */

import { expected } from "../errors.ts";
import type { TensorData } from "../files/safetensors.ts";
import { decodeModel } from "../graph/protos.ts";
import { floatsOf, sizesOf } from "./constants.ts";
import { readEncoderMetadata } from "./metadata.ts";

/**
 * Its float32 initializers by name. State tensors keep theirs; a BatchNorm that was folded is in the weights before it.
 * `where` names the file in errors.
 * @throws UserError if it is no encoder of ours.
 */
export function encoderWeights(model: Uint8Array, where: string): Map<string, TensorData> {
  readEncoderMetadata(model, where); // tells what is no encoder of ours
  const initializers = (() => {
    try {
      return decodeModel(model).graph?.initializer ?? [];
    } catch {
      throw expected(where, "an encoder written by ort-pretrain", "a damaged one");
    }
  })();
  return new Map(
    initializers.flatMap((tensor) => {
      const data = floatsOf(tensor);
      return data ? [[tensor.name, { dtype: "float32", shape: sizesOf(tensor), data }] as const] : [];
    }),
  );
}
