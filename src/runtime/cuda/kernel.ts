/** Kernels that ONNX Runtime does not have, run as custom operators of the domain `ort.pretrain`. */
import type { DType } from "../../spec.ts";

export interface Value {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** What an operator runs: a kernel in CUDA C, or a function of cuDNN. */
export type Work =
  | {
      readonly kind: "cuda";
      /** CUDA C with one `extern "C" __global__` function named `entry`; its arguments are pointers to the inputs, then to the outputs. */
      readonly source: string;
      readonly entry: string;
      readonly grid: readonly [number, number, number];
      readonly block: readonly [number, number, number];
      /** Bytes of dynamic shared memory. */
      readonly shared: number;
    }
  | {
      readonly kind: "cudnn";
      readonly function: "backward-filter" | "backward-data";
      readonly pads: readonly [number, number];
      readonly strides: readonly [number, number];
      readonly dilations: readonly [number, number];
      readonly groups: number;
    };

/** A custom operator with one use: its type is its name. */
export interface Operator {
  /** Node type in the model, unique in it. */
  readonly type: string;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly work: Work;
}

/** A step whose passes over memory are fused. */
export interface Fused {
  readonly model: Uint8Array;
  readonly operators: readonly Operator[];
}
