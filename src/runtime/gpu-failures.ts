/** How a GPU fails, told to people. */
import { expected, messageOf, type UserError } from "../errors.ts";

/** What ONNX Runtime, and the libraries under it, say where memory is short. */
const SHORT = /out of memory|Failed to allocate memory[\w ]*|\w+_STATUS_ALLOC_FAILED/;
/** What they say where the device or a library of it failed: this process can use it no more. */
const FAILED = /\b(CUDA|CUDNN|CUBLAS|CURAND) (failure|error):? [^;]*/;

/** Where the memory of a GPU was short, what to lower; undefined of other errors. */
export function shortage(error: unknown, provider: string): UserError | undefined {
  const found = provider === "cpu" ? null : SHORT.exec(messageOf(error));
  const advice = "lower --batch, --micro-batch or --image-size";
  return found ? expected(provider, "memory enough for a step", found[0], advice) : undefined;
}

/**
 * Where memory was short or the device failed in a run, what to do; undefined of other errors. State that is updated in
 * place may be half written then: what stands is the latest checkpoint.
 */
export function failureOf(error: unknown, provider: string): UserError | undefined {
  const found = provider === "cpu" ? null : FAILED.exec(messageOf(error));
  const advice = "go on from the latest checkpoint with --resume";
  return (
    shortage(error, provider) ??
    (found ? expected(provider, "a device that works", found[0].trim(), advice) : undefined)
  );
}
