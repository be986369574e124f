/** An ONNX Runtime session on the provider asked for. */
import * as ort from "onnxruntime-node";
import { expected, messageOf, UserError } from "../errors.ts";
import { coreLimit } from "../machine.ts";
import type { Precision } from "../spec.ts";
import { loadCudaLibraries } from "./cuda/libraries.ts";
import { shortage } from "./gpu-failures.ts";
import { disabledOn } from "./graph-optimizers.ts";

ort.env.logLevel = "fatal"; // errors are thrown as well

export const PROVIDERS = ["cpu", "webgpu", "cuda"] as const;
export type Provider = (typeof PROVIDERS)[number];

export interface SessionOptions {
  /** @default "cpu" */
  readonly provider?: Provider | undefined;
  /** Which of several GPUs, of the CUDA provider. @default 0 */
  readonly device?: number | undefined;
  /** A folder to look for CUDA's libraries in first. @default ORT_PRETRAIN_CUDA_LIBRARIES of the environment */
  readonly cudaLibraries?: string | undefined;
  /** Asks CUDA for kernels that give the same bytes each time; the CPU always does. Needs the C API. @default false */
  readonly deterministic?: boolean | undefined;
  /** Of products on CUDA. Another than TF32 needs the C API. @default "tf32" */
  readonly precision?: Precision | undefined;
  /** Threads of the CPU provider. @default one for each core */
  readonly threads?: number | undefined;
  /** Disables graph optimizers that do not suit training steps, see `graph-optimizers.ts`. @default false */
  readonly asWritten?: boolean | undefined;
  /** Whether what depends on constants alone is computed once and held, rather than in each run. @default true */
  readonly folded?: boolean | undefined;
  /**
   * Where the runtime's own profile is written when the session is closed: a path to which it appends the time and
   * ".json".
   */
  readonly profile?: string | undefined;
  /** Outputs that are left in the GPU's buffers, of the WebGPU provider. @default none */
  readonly onGpu?: readonly string[] | undefined;
}

export type Feeds = Readonly<Record<string, ort.Tensor>>;

export interface Session {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Runs the graph for the outputs named, all by default. */
  run(feeds: Feeds, outputs?: readonly string[]): Promise<Record<string, ort.Tensor>>;
  close(): Promise<void>;
}

/**
 * A session's settings by the runtime's own keys. By default threads that wait for work spin for a second or more, on
 * cores that decoding could use; the nodes of a graph follow each other much sooner.
 */
export const entriesOf = ({
  provider = "cpu",
  asWritten = false,
  folded = true,
}: SessionOptions): Record<string, string> => ({
  "session.intra_op.spin_duration_us": "100",
  "optimization.disable_specified_optimizers": disabledOn(provider, asWritten, folded).join(";"),
});

/** As asked for, or as a container allows; undefined for one a core, which the runtime counts itself. */
export const threadsOf = ({ threads }: SessionOptions): number | undefined => threads ?? coreLimit();

/** @throws UserError if the provider cannot run here or the graph is damaged; `what` names the graph. */
export async function openSession(
  graph: Uint8Array,
  what: string,
  options: SessionOptions = {},
): Promise<Session> {
  const { provider = "cpu", device = 0, precision = "tf32", profile, onGpu = [] } = options;
  const threads = threadsOf(options);
  if (provider === "cuda") loadCudaLibraries(options.cudaLibraries);
  const first = provider === "cuda" ? { name: provider, deviceId: device } : provider;
  let session: ort.InferenceSession;
  try {
    session = await ort.InferenceSession.create(graph, {
      executionProviders: provider === "cpu" ? ["cpu"] : [first, "cpu"],
      // Measured: the memory pattern holds every buffer at once, a third more memory at the same speed.
      enableMemPattern: false,
      logSeverityLevel: 4, // of a run too
      extra: entriesOf(options),
      ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
      ...(profile === undefined ? {} : { enableProfiling: true, profileFilePrefix: profile }),
      preferredOutputLocation: Object.fromEntries(onGpu.map((name) => [name, "gpu-buffer"])),
    });
  } catch (error) {
    throw notRunnable(what, provider, error);
  }
  if (provider === "cuda" && (options.deterministic || precision !== "tf32")) {
    await session.release();
    throw expected(
      `${what} with ${options.deterministic ? "--deterministic" : `--precision ${precision}`}`,
      "state that stays on the GPU",
      "state that is copied there",
      "install package koffi, or leave it out",
    );
  }
  return {
    inputs: session.inputNames,
    outputs: session.outputNames,
    run: (feeds, outputs) => session.run(feeds, outputs ?? session.outputNames),
    async close() {
      if (profile !== undefined) session.endProfiling();
      await session.release();
    },
  };
}

export function notRunnable(what: string, provider: Provider, error: unknown): UserError {
  const advice = provider === "cpu" ? "" : `; "ort-pretrain doctor" tells what provider ${provider} needs`;
  const found = messageOf(error);
  return (
    shortage(error, provider) ??
    new UserError(`${what}: expected a graph that runs on ${provider}, found: ${found}${advice}`)
  );
}
