/** An encoder's tensors by themselves: what can be had back of an encoder.onnx, and a file that timm loads. */

import { expected } from "../errors.ts";
import { encodeSafetensors, type TensorData } from "../files/safetensors.ts";
import { decodeModel } from "../graph/protos.ts";
import { floatsOf, sizesOf } from "./constants.ts";
import { type EncoderMetadata, metadataTexts, readEncoderMetadata } from "./metadata.ts";

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

/**
 * A .safetensors file with the tensors of the encoder that `encode` reads, averages where it reads those, by timm's names
 * and with PyTorch's counters of batches, so that nothing is missing there.
 *
 * @param encode the artifact's encode.onnx
 */
export function timmWeights(
  encode: Uint8Array,
  state: ReadonlyMap<string, TensorData>,
  metadata: EncoderMetadata,
): Uint8Array<ArrayBuffer> {
  const tensors = new Map<string, TensorData>();
  const steps = { dtype: "int64", shape: [], data: BigInt64Array.of(BigInt(metadata.steps)) } as const;
  for (const { name } of decodeModel(encode).graph?.input ?? []) {
    const [, timms] = /^(?:average\.)?encoder\.(.+)$/.exec(name) ?? [];
    const tensor = state.get(name);
    if (timms === undefined || !tensor) continue;
    tensors.set(timms, tensor);
    if (timms.endsWith(".running_var")) tensors.set(timms.replace(/[^.]+$/, "num_batches_tracked"), steps);
  }
  return encodeSafetensors(tensors, { ...metadataTexts(metadata), format: "pt" });
}
