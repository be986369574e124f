/** Runs small graphs on the CPU provider and gives their outputs as typed arrays. */
import * as ort from "onnxruntime-node";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import type { Tensor, TensorData } from "../../src/graph/tensor.ts";
import { entriesOf } from "../../src/runtime/session.ts";

export interface Value {
  readonly shape: readonly number[];
  readonly data: TensorData;
}
export type Run = (feeds: Readonly<Record<string, Value>>) => Promise<Record<string, Value>>;

export async function compile(outputs: Readonly<Record<string, Tensor>>): Promise<Run> {
  const bytes = encodeModel(buildModel(outputs, { name: "test" }));
  const session = await ort.InferenceSession.create(bytes, {
    intraOpNumThreads: 1,
    logSeverityLevel: 3,
    enableMemPattern: false,
    extra: entriesOf({ asWritten: true }), // as a run opens its step
  });
  return async (feeds) => {
    const tensors = Object.fromEntries(
      session.inputNames.map((name) => {
        const value = feeds[name];
        if (!value) throw new Error(`no value for input ${name}`);
        return [
          name,
          new ort.Tensor(typeOf(value.data), value.data as Float32Array, value.shape as number[]),
        ];
      }),
    );
    const results = await session.run(tensors);
    return Object.fromEntries(
      Object.entries(results).map(([name, t]) => [name, { shape: t.dims, data: t.data as TensorData }]),
    );
  };
}

const typeOf = (data: TensorData) =>
  data instanceof Float32Array
    ? "float32"
    : data instanceof Uint8Array
      ? "uint8"
      : data instanceof Int32Array
        ? "int32"
        : "int64";

export const floats = (values: readonly number[] | Float32Array, shape: readonly number[]): Value => ({
  shape,
  data: Float32Array.from(values),
});
