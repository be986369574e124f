/**
 * A memory bank: a row for each image of the data set, kept outside of the graph, which sees the rows that a step
 * names.
 */
import * as ort from "onnxruntime-node";
import type { TensorData } from "../files/safetensors.ts";

export interface Bank {
  /** Copies of these rows, float32 [indices, ...]. */
  take(indices: readonly number[]): ort.Tensor;
  /** Replaces rows; of an image named twice the last one stays. */
  put(indices: readonly number[], rows: ort.Tensor): void;
  /** The whole, float32 [images, ...]; changes with `put`. */
  readonly tensor: TensorData;
}

/** A bank of the rows of `initial`, which it changes in place: a copy could be of a gigabyte. */
export function openBank(initial: TensorData): Bank {
  const { shape } = initial;
  const row = shape.slice(1);
  const size = row.reduce((a, b) => a * b, 1);
  const bank = initial.data as Float32Array;
  return {
    take(indices) {
      const rows = new Float32Array(indices.length * size);
      indices.forEach((index, i) => {
        rows.set(bank.subarray(index * size, (index + 1) * size), i * size);
      });
      return new ort.Tensor("float32", rows, [indices.length, ...row]);
    },
    put(indices, { data }) {
      indices.forEach((index, i) => {
        bank.set((data as Float32Array).subarray(i * size, (i + 1) * size), index * size);
      });
    },
    tensor: initial,
  };
}
