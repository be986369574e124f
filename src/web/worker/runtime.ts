/** ONNX Runtime in this worker: WebGPU where it works, else WebAssembly, on as many threads as the page may have. */
import * as ort from "onnxruntime-node";
import { expected, messageOf } from "../../errors.ts";
import { disabledOn } from "../../runtime/graph-optimizers.ts";
import type { Session, SessionOptions } from "../../runtime/session.ts";
import type { Backend } from "../messages.ts";

export interface Runtime {
  readonly backend: Backend;
  readonly threads: number;
  /** One line for people where it is not the fastest way. */
  readonly note: string | undefined;
  /** @throws UserError if the backend cannot run the graph; `what` names it */
  open(
    graph: Uint8Array,
    what: string,
    options?: Pick<SessionOptions, "asWritten" | "onGpu">,
  ): Promise<Session>;
}

export interface RuntimeOptions {
  /** Where the runtime's own files lie. */
  readonly base: string;
  /** @default WebGPU where it works on a GPU */
  readonly backend?: Backend | undefined;
  /** Of WebAssembly. @default one for each core, where the page is isolated */
  readonly threads?: number | undefined;
  /** Tries a backend, which loads what it needs of `base`. */
  readonly trial: (open: Runtime["open"]) => Promise<unknown>;
}

/** To be called once: WebAssembly's threads cannot be changed later. */
export async function openRuntime({
  base,
  backend,
  threads: given,
  trial,
}: RuntimeOptions): Promise<Runtime> {
  const cores = navigator.hardwareConcurrency || 1;
  const threads = crossOriginIsolated ? (given ?? cores) : 1;
  ort.env.logLevel = "fatal"; // errors are thrown as well
  ort.env.wasm.wasmPaths = base;
  ort.env.wasm.numThreads = threads;
  const alone =
    !crossOriginIsolated && cores > 1
      ? `one thread of ${cores}: for more, serve the page with the headers ${HEADERS}`
      : undefined;
  const onWasm = async (why?: string): Promise<Runtime> => {
    const open = opener("wasm");
    await trial(open);
    return { backend: "wasm", threads, note: [why, alone].filter(Boolean).join("; ") || undefined, open };
  };
  if (backend === "wasm") return onWasm();
  const lacking = await withoutWebgpu(backend === "webgpu");
  if (lacking !== undefined) return onWasm(lacking);
  try {
    const open = opener("webgpu");
    await trial(open);
    return { backend: "webgpu", threads, note: undefined, open };
  } catch (error) {
    return onWasm(`WebGPU failed (${messageOf(error).slice(0, MOST_SAID)}): training is slower without it`);
  }
}

const HEADERS = '"Cross-Origin-Opener-Policy: same-origin" and "Cross-Origin-Embedder-Policy: require-corp"';
const MOST_SAID = 200;

/** Why WebGPU is left out, if it is. A software adapter is slower than WebAssembly: `asked` takes it all the same. */
async function withoutWebgpu(asked: boolean): Promise<string | undefined> {
  if (!("gpu" in navigator)) return "this browser has no WebGPU: training is slower without it";
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  if (!adapter) return "no GPU for WebGPU was found: training is slower without it";
  const { isFallbackAdapter } = adapter.info as { isFallbackAdapter?: boolean };
  return isFallbackAdapter && !asked
    ? "WebGPU has no GPU here, only software: WebAssembly is faster"
    : undefined;
}

const opener =
  (backend: Backend): Runtime["open"] =>
  async (graph, what, { asWritten = false, onGpu = [] } = {}) => {
    const provider = backend === "wasm" ? "cpu" : backend;
    const disabled = disabledOn(provider, asWritten, true).join(";");
    let session: ort.InferenceSession;
    try {
      session = await ort.InferenceSession.create(graph, {
        executionProviders: [backend],
        enableMemPattern: false,
        logSeverityLevel: 4, // of a run too
        extra: { "optimization.disable_specified_optimizers": disabled },
        preferredOutputLocation: Object.fromEntries(onGpu.map((name) => [name, "gpu-buffer"])),
      });
    } catch (error) {
      throw expected(what, `a graph that runs on ${backend}`, messageOf(error).slice(0, MOST_SAID));
    }
    return {
      inputs: session.inputNames,
      outputs: session.outputNames,
      run: (feeds, outputs) => session.run(feeds, outputs ?? session.outputNames),
      close: () => session.release(),
    };
  };
