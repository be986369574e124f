/** cuDNN's convolutions and their gradients, by koffi. */

import { once } from "../../graph/once.ts";
import type { ElementType } from "../../graph/protos.ts";
import type { Precision } from "../../spec.ts";
import type { Koffi, Pointer } from "../ort-api.ts";
import type { Cudart } from "./cudart.ts";
import type { Launch } from "./driver.ts";
import type { Operator, Value, Work } from "./kernel.ts";
import { libraryOf } from "./libraries.ts";

export interface Cudnn {
  /**
   * Inputs and outputs, all of one type and with channels last, are in the function's own order: "forward" takes x and w and
   * gives y, "backward-filter" takes x and the gradient with respect to y and gives that with respect to w, "backward-data"
   * takes w and the gradient with respect to y and gives that with respect to x. An algorithm is chosen, and its workspace
   * allocated, by the first launch, which therefore cannot be captured.
   */
  convolution(operator: Operator): Launch;
  close(): void;
}

export interface CudnnOptions {
  /** Algorithms that give the same bytes each time, chosen by rule instead of being timed. @default false */
  readonly deterministic?: boolean | undefined;
  /** Of products; these are in TF32 unless they are to be in float32. @default "tf32" */
  readonly precision?: Precision | undefined;
  /** Memory of the device that an algorithm may take for itself, bytes. @default 1 GiB */
  readonly workspace?: number | undefined;
}

/** cudnnConvolutionFwdAlgoPerf_t, and those of gradients. */
export interface Found {
  readonly algorithm: number;
  readonly status: number;
  /** Bytes of workspace. */
  readonly memory: number;
  readonly determinism: number;
  readonly mathType: number;
}

type Convolution = Extract<Work, { kind: "cudnn" }>;

const NAMES: Readonly<Record<Convolution["function"], string>> = {
  forward: "Forward",
  "backward-filter": "BackwardFilter",
  "backward-data": "BackwardData",
};
const [NHWC, CROSS_CORRELATION] = [1, 1];
const TYPES: Readonly<Partial<Record<ElementType, number>>> = { float32: 0, float16: 2, bfloat16: 9 };
const FLOAT = 0; // in which all types are summed
const DETERMINISTIC = 1;
/** By the second products of halves are taken by tensor cores, by the third floats are rounded to halves; the last is float32. */
const [DEFAULT_MATH, TENSOR_OP_MATH, CONVERSION, FMA_MATH] = [0, 1, 2, 3];
/** More than there are, by math types. */
const MOST_FOUND = 32;
const WORKSPACE = 2 ** 30;

/** A device must be current on the thread that calls. @throws Error if the library does not load or refuses the device. */
export function openCudnn(koffi: Koffi, path: string, cudart: Cudart, options: CudnnOptions): Cudnn {
  const library = libraryOf(koffi, path);
  const text = library.func("const char *cudnnGetErrorString(int)");
  const known = new Map<string, (...args: unknown[]) => number>();
  const unchecked = (name: string, type: string) =>
    once(known, name, () => library.func(`int ${name}(${type})`));
  const f =
    (name: string, type: string) =>
    (...args: unknown[]): void => {
      const code = unchecked(name, type)(...args);
      if (code !== 0) throw new Error(`CUDNN failure ${code}: ${text(code)}`); // as ONNX Runtime has it
    };
  const closing: (() => void)[] = [];
  const made = (kind: string) => {
    const out: [Pointer | null] = [null];
    f(`cudnnCreate${kind}`, "_Out_ void **")(out);
    closing.push(() => unchecked(`cudnnDestroy${kind}`, "void *")(out[0])); // whether the device has failed or not
    return out[0]!;
  };
  const setStream = f("cudnnSetStream", "void *, void *");
  const setTensor = f("cudnnSetTensor4dDescriptor", "void *, int, int, int, int, int, int");
  const setFilter = f("cudnnSetFilter4dDescriptor", "void *, int, int, int, int, int, int");
  const setConvolution = f(
    "cudnnSetConvolution2dDescriptor",
    "void *, int, int, int, int, int, int, int, int",
  );
  const setMathType = f("cudnnSetConvolutionMathType", "void *, int");
  const Perf = koffi.struct({
    algorithm: "int",
    status: "int",
    time: "float",
    memory: "size_t",
    determinism: "int",
    mathType: "int",
    reserved: koffi.array("int", 3),
  });

  const { workspace: most = WORKSPACE } = options;
  const handle = made("");
  const chosen = new Map<string, Found>();
  // Launches follow each other on one stream and share it.
  let held: { readonly at: Pointer; readonly bytes: number } | undefined;
  const spaceOf = (bytes: number): Pointer | null => {
    if (bytes > (held?.bytes ?? 0)) {
      if (held) cudart.free(held.at); // waits for what is being computed in it
      held = undefined;
      held = { at: cudart.allocate(bytes), bytes };
    }
    return held?.at ?? null;
  };

  /** Sizes [n, c, h, w] of a value [n, h, w, c]. */
  const sizesOf = ({ shape: [n, height, width, c] }: Value) => [n, c, height, width];
  const tensor = (value: Value): Pointer => {
    const at = made("TensorDescriptor");
    setTensor(at, NHWC, TYPES[value.dtype], ...sizesOf(value));
    return at;
  };
  const filter = (value: Value): Pointer => {
    const at = made("FilterDescriptor");
    setFilter(at, TYPES[value.dtype], NHWC, ...sizesOf(value));
    return at;
  };

  return {
    convolution({ inputs: [first, second], outputs: [output], work }) {
      const { function: of, pads, strides, dilations } = work as Convolution;
      const name = NAMES[of];
      const from = of === "backward-data" ? filter(first!) : tensor(first!);
      const by = of === "forward" ? filter(second!) : tensor(second!);
      const to = of === "backward-filter" ? filter(output!) : tensor(output!);
      const { precision } = options;
      const ofFloats = precision === "fp32" ? FMA_MATH : DEFAULT_MATH;
      const math = first!.dtype === "float32" ? ofFloats : TENSOR_OP_MATH;
      const convolution = made("ConvolutionDescriptor");
      setConvolution(convolution, ...pads, ...strides, ...dilations, CROSS_CORRELATION, FLOAT);
      setMathType(convolution, math);
      const find = f(
        `cudnnFindConvolution${name}AlgorithmEx`,
        "void *, void *, void *, void *, void *, void *, void *, void *, int, _Out_ int *, void *, void *, size_t",
      );
      const rank = f(
        `cudnnGetConvolution${name}Algorithm_v7`,
        "void *, void *, void *, void *, void *, int, _Out_ int *, void *",
      );
      const run = f(
        `cudnnConvolution${name}`,
        "void *, void *, void *, void *, void *, void *, void *, int, void *, size_t, void *, void *, void *",
      );
      const [one, zero] = [Float32Array.of(1), Float32Array.of(0)];

      /** The fastest first, by cuDNN's rules or as timed on the tensors, of which the last is written. */
      const found = ([x, g, result]: readonly Pointer[]): readonly Found[] => {
        const [perf, count] = [Buffer.alloc(MOST_FOUND * koffi.sizeof(Perf)), [0]];
        if (options.deterministic) rank(handle, from, by, convolution, to, MOST_FOUND, count, perf);
        else {
          const space = cudart.allocate(most);
          try {
            find(handle, from, x, by, g, convolution, to, result, MOST_FOUND, count, perf, space, most);
          } finally {
            cudart.free(space);
          }
        }
        return koffi.decode(perf, Perf, count[0]!);
      };
      const key = JSON.stringify([work, first, second, output]);
      return (pointers, stream) => {
        setStream(handle, stream);
        const best = chosen.get(key) ?? algorithmOf(found(pointers), options);
        chosen.set(key, best);
        setMathType(convolution, best.mathType);
        const space = spaceOf(best.memory);
        const [x, g, result] = pointers;
        run(handle, one, from, x, by, g, convolution, best.algorithm, space, best.memory, zero, to, result);
      };
    },
    close() {
      for (const drop of closing.toReversed()) drop();
      if (held) cudart.free(held.at);
    },
  };
}

/** The first that may be taken. @throws Error if there is none */
export function algorithmOf(
  found: readonly Found[],
  { deterministic = false, precision, workspace = WORKSPACE }: CudnnOptions,
): Found {
  const best = found.find(
    ({ status, memory, determinism, mathType }) =>
      status === 0 &&
      memory <= workspace &&
      (!deterministic || determinism === DETERMINISTIC) &&
      (precision === "fp32" ? mathType === FMA_MATH : mathType !== CONVERSION),
  );
  if (!best) throw new Error(`cuDNN has no algorithm for a convolution, of ${found.length}`);
  return best;
}
