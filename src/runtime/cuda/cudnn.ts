/** cuDNN's gradients of convolutions, by koffi. */
import { once } from "../../graph/once.ts";
import type { Koffi, Pointer } from "../ort-api.ts";
import type { Cudart } from "./cudart.ts";
import type { Launch } from "./driver.ts";
import type { Operator, Value, Work } from "./kernel.ts";
import { libraryOf } from "./libraries.ts";

export interface Cudnn {
  /**
   * Inputs and outputs, float32 and NCHW, are in the function's own order: "backward-filter" takes x and the gradient with
   * respect to y and gives that with respect to w, "backward-data" takes w and the gradient with respect to y and gives
   * that with respect to x. An algorithm is chosen, and its workspace allocated, by the first launch, which therefore
   * cannot be captured.
   */
  gradient(operator: Operator): Launch;
  close(): void;
}

export interface CudnnOptions {
  /** Algorithms that give the same bytes each time, chosen by rule instead of being timed. @default false */
  readonly deterministic?: boolean | undefined;
  /** Whether products are in TF32. @default true */
  readonly tf32?: boolean | undefined;
  /** Memory of the device that an algorithm may take for itself, bytes. @default 1 GiB */
  readonly workspace?: number | undefined;
}

/** cudnnConvolutionBwdFilterAlgoPerf_t, and that of data. */
export interface Found {
  readonly algorithm: number;
  readonly status: number;
  /** Bytes of workspace. */
  readonly memory: number;
  readonly determinism: number;
  readonly mathType: number;
}

type Gradient = Extract<Work, { kind: "cudnn" }>;

const NAMES: Readonly<Record<Gradient["function"], string>> = {
  "backward-filter": "Filter",
  "backward-data": "Data",
};
const [NCHW, FLOAT, CROSS_CORRELATION] = [0, 0, 1];
const DETERMINISTIC = 1;
/** By the second products may be rounded to half precision; by the last they are in float32. */
const [DEFAULT_MATH, CONVERSION, FMA_MATH] = [0, 2, 3];
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
  const setGroups = f("cudnnSetConvolutionGroupCount", "void *, int");
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

  const tensor = ({ shape }: Value): Pointer => {
    const at = made("TensorDescriptor");
    setTensor(at, NCHW, FLOAT, ...shape);
    return at;
  };
  const filter = ({ shape }: Value): Pointer => {
    const at = made("FilterDescriptor");
    setFilter(at, FLOAT, NCHW, ...shape);
    return at;
  };

  return {
    gradient({ inputs: [source, dy], outputs: [gradient], work }) {
      const { function: of, pads, strides, dilations, groups } = work as Gradient;
      const name = NAMES[of];
      const [from, by, to] =
        of === "backward-filter"
          ? [tensor(source!), tensor(dy!), filter(gradient!)]
          : [filter(source!), tensor(dy!), tensor(gradient!)];
      const convolution = made("ConvolutionDescriptor");
      setConvolution(convolution, ...pads, ...strides, ...dilations, CROSS_CORRELATION, FLOAT);
      setMathType(convolution, options.tf32 === false ? FMA_MATH : DEFAULT_MATH);
      setGroups(convolution, groups);
      const find = f(
        `cudnnFindConvolutionBackward${name}AlgorithmEx`,
        "void *, void *, void *, void *, void *, void *, void *, void *, int, _Out_ int *, void *, void *, size_t",
      );
      const rank = f(
        `cudnnGetConvolutionBackward${name}Algorithm_v7`,
        "void *, void *, void *, void *, void *, int, _Out_ int *, void *",
      );
      const run = f(
        `cudnnConvolutionBackward${name}`,
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
      const key = JSON.stringify([work, source, dy, gradient]);
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
  { deterministic = false, tf32 = true, workspace = WORKSPACE }: CudnnOptions,
): Found {
  const best = found.find(
    ({ status, memory, determinism, mathType }) =>
      status === 0 &&
      memory <= workspace &&
      (!deterministic || determinism === DETERMINISTIC) &&
      (tf32 ? mathType !== CONVERSION : mathType === FMA_MATH),
  );
  if (!best) throw new Error(`cuDNN has no algorithm for a gradient, of ${found.length}`);
  return best;
}
