/** Operators that ONNX Runtime does not have: it calls functions of JavaScript, by koffi, to run them. */
import { messageOf } from "../../errors.ts";
import { DATA_TYPES } from "../../graph/protos.ts";
import { describe } from "../memory.ts";
import { made, type OrtApi, type Pointer } from "../ort-api.ts";
import type { Operator, Value } from "./kernel.ts";

export const DOMAIN = "ort.pretrain";

/** Gets where inputs and outputs lie in the provider's memory, and CUDA's stream, which is null elsewhere. */
export type Run = (
  operator: Operator,
  inputs: readonly Pointer[],
  outputs: readonly Pointer[],
  stream: Pointer | null,
) => void;

export interface CustomOperators {
  /** An OrtCustomOpDomain, for a session's options. */
  readonly domain: Pointer;
  /** To be called when the session is closed. */
  close(): void;
}

/** The oldest version of OrtCustomOp in which a kernel can fail. */
const VERSION = 16;

/** The functions of an OrtCustomOp, in their order. */
const SLOTS = [
  "CreateKernel",
  "GetName",
  "GetExecutionProviderType",
  "GetInputType",
  "GetInputTypeCount",
  "GetOutputType",
  "GetOutputTypeCount",
  "KernelCompute",
  "KernelDestroy",
  "GetInputCharacteristic",
  "GetOutputCharacteristic",
  "GetInputMemoryType",
  "GetVariadicInputMinArity",
  "GetVariadicInputHomogeneity",
  "GetVariadicOutputMinArity",
  "GetVariadicOutputHomogeneity",
  "CreateKernelV2",
  "KernelComputeV2",
] as const;

/**
 * Makes operators whose kernels are calls of `run`. koffi has a limited number of functions that C can call, so all
 * operators share theirs, told apart by their structs.
 *
 * @param provider that runs them, by the library's name of it.
 */
export function openOperators(
  api: OrtApi,
  operators: readonly Operator[],
  provider: "CPUExecutionProvider" | "CUDAExecutionProvider",
  run: Run,
): CustomOperators {
  const { koffi } = api;
  const layout = koffi.struct({
    version: "uint32_t",
    ...Object.fromEntries(SLOTS.map((slot) => [slot, "void *"])),
  });
  const allocated: Pointer[] = [];
  const allocate = (type: Parameters<typeof koffi.alloc>[0], length: number): Pointer => {
    const at: Pointer = koffi.alloc(type, length);
    allocated.push(at);
    return at;
  };
  const text = (value: string): Pointer => {
    const length = Buffer.byteLength(value) + 1;
    const at = allocate("char", length);
    koffi.encode(at, "char", value, length);
    return at;
  };
  const providerName = text(provider);
  const structs = allocate(layout, operators.length);
  const known = new Map(
    operators.map((operator, i) => [
      structs + BigInt(i * koffi.sizeof(layout)),
      { operator, name: text(operator.type) },
    ]),
  );
  const operatorAt = (at: Pointer) => known.get(at)!.operator;

  const compute = (kernel: Pointer, context: Pointer): Pointer | null => {
    const operator = operatorAt(kernel);
    try {
      const { inputs, outputs } = operator;
      const dataOf = (value: Pointer) => made((out) => api.call("GetTensorMutableData", value, out));
      const stream =
        provider === "CUDAExecutionProvider"
          ? made((out) => api.call("KernelContext_GetGPUComputeStream", context, out))
          : null;
      run(
        operator,
        inputs.map((input, i) => {
          const value = made((out) => api.call("KernelContext_GetInput", context, i, out));
          checkShape(input, describe(api, value).dims, i);
          return dataOf(value);
        }),
        outputs.map(({ shape }, i) => {
          const dims = BigInt64Array.from(shape, BigInt);
          return dataOf(
            made((out) => api.call("KernelContext_GetOutput", context, i, dims, dims.length, out)),
          );
        }),
        stream,
      );
      return null;
    } catch (error) {
      return api.failed(messageOf(error)); // an exception would not reach the library
    }
  };
  const codeOf = ({ dtype }: Value): number => DATA_TYPES[dtype]; // the library's codes are ONNX's
  const zero = ["int (void *, size_t)", () => 0] as const; // required; in the provider's memory
  const functions: Partial<Record<(typeof SLOTS)[number], readonly [type: string, body: Body]>> = {
    CreateKernel: ["void *(void *, void *, void *)", (operator) => operator], // stands for its kernel
    GetName: ["void *(void *)", (at) => known.get(at)!.name],
    GetExecutionProviderType: ["void *(void *)", () => providerName],
    GetInputType: ["int (void *, size_t)", (at, i) => codeOf(operatorAt(at).inputs[i]!)],
    GetInputTypeCount: ["size_t (void *)", (at) => operatorAt(at).inputs.length],
    GetOutputType: ["int (void *, size_t)", (at, i) => codeOf(operatorAt(at).outputs[i]!)],
    GetOutputTypeCount: ["size_t (void *)", (at) => operatorAt(at).outputs.length],
    KernelDestroy: ["void (void *)", () => {}],
    GetInputCharacteristic: zero,
    GetOutputCharacteristic: zero,
    GetInputMemoryType: zero,
    KernelComputeV2: ["void *(void *, void *)", compute],
  };
  const registered: Pointer[] = [];
  const table = Object.fromEntries(
    SLOTS.map((slot) => {
      const defined = functions[slot];
      if (!defined) return [slot, 0n];
      const [type, body] = defined;
      const pointer = koffi.register(body, koffi.pointer(koffi.proto(type)));
      registered.push(pointer);
      return [slot, pointer];
    }),
  );
  const domain = made((out) => api.call("CreateCustomOpDomain", DOMAIN, out));
  for (const at of known.keys()) {
    koffi.encode(at, layout, { version: VERSION, ...table });
    api.call("CustomOpDomain_Add", domain, at);
  }
  return {
    domain,
    close() {
      api.drop("ReleaseCustomOpDomain", domain);
      for (const pointer of registered) koffi.unregister(pointer);
      for (const pointer of allocated) koffi.free(pointer);
    },
  };
}

// biome-ignore lint/suspicious/noExplicitAny: arguments are as each type says
type Body = (...args: any[]) => unknown;

/** Sizes are written into kernels: another would have them read and write beyond their tensors. */
function checkShape({ shape }: Value, found: readonly number[], input: number): void {
  if (found.join() === shape.join()) return;
  throw new Error(`input ${input}: expected shape [${shape.join(", ")}], found [${found.join(", ")}]`);
}
