/** How a GPU fails, told to people. */
import { expected, messageOf, type UserError } from "../errors.ts";

/** What ONNX Runtime, and the libraries under it, say where memory is short. */
const SHORT = [
  /out of memory/,
  /Failed to allocate memory[\w ]*/,
  /\w+_STATUS_ALLOC_FAILED/,
  // WebGPU: of a buffer that could not be allocated, once it is used; and of one tensor, which may be too large for a
  // buffer, for the bindings that it is spread over, or for a kernel.
  /\[Invalid Buffer[^\]]*\] is invalid due to a previous error/,
  /Buffer size \(\d+\) exceeds the max buffer size limit \(\d+\)/,
  /Too many storage buffers in shader\. Current: \d+, Max is \d+/,
  /The dispatch group size exceeds WebGPU maximum/,
];
/** What they say where the device or a library of it failed: this process can use it no more. */
const FAILED = [/\b(CUDA|CUDNN|CUBLAS|CURAND) (failure|error):? [^;]*/, /\[Device[^\]]*\] is lost/];

function saidIn(error: unknown, provider: string, words: readonly RegExp[]): string | undefined {
  if (provider === "cpu") return undefined;
  const message = messageOf(error);
  return words.map((w) => w.exec(message)?.[0].trim()).find((found) => found !== undefined);
}

/** Where the memory of a GPU was short, what to lower; undefined of other errors. */
export function shortage(error: unknown, provider: string): UserError | undefined {
  const found = saidIn(error, provider, SHORT);
  const advice = "lower --batch, --micro-batch or --image-size";
  return found === undefined ? undefined : expected(provider, "memory enough for a step", found, advice);
}

/**
 * Where memory was short or the device failed in a run, what to do; undefined of other errors. State that is updated in
 * place may be half written then, and that on a lost device is lost: what stands is the latest checkpoint.
 */
export function failureOf(error: unknown, provider: string): UserError | undefined {
  const found = saidIn(error, provider, FAILED);
  const advice = "go on from the latest checkpoint with --resume";
  return (
    shortage(error, provider) ??
    (found === undefined ? undefined : expected(provider, "a device that works", found, advice))
  );
}
