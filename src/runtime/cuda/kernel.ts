/** Kernels that ONNX Runtime does not have, run as custom operators of the domain `ort.pretrain`. */
import type { ElementType } from "../../graph/protos.ts";

export interface Value {
  readonly dtype: ElementType;
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
      /** Of x and w, of w and dy, or of x and dy; maps [n, h, w, c] and kernels [out, kh, kw, c]. */
      readonly function: "forward" | "backward-data" | "backward-filter";
      readonly pads: readonly [number, number];
      readonly strides: readonly [number, number];
      readonly dilations: readonly [number, number];
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
