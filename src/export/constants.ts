/** Float initializers as arrays. */
import { type TensorProto, TensorProto_DataLocation, TensorProto_DataType } from "onnx-buf";

/** The values in row-major order, or undefined unless they are float32 and stand in the model itself. */
export function floatsOf(tensor: TensorProto | undefined): Float32Array | undefined {
  if (tensor?.dataType !== TensorProto_DataType.FLOAT) return undefined;
  if (tensor.dataLocation === TensorProto_DataLocation.EXTERNAL) return undefined;
  const values =
    tensor.floatData.length > 0
      ? Float32Array.from(tensor.floatData)
      : tensor.rawData.length % 4 === 0 && new Float32Array(new Uint8Array(tensor.rawData).buffer); // copied: aligned
  const size = sizesOf(tensor).reduce((a, b) => a * b, 1);
  return values && values.length === size ? values : undefined;
}

export const sizesOf = (tensor: TensorProto): number[] => tensor.dims.map(Number);
