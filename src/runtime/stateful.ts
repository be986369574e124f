/** A graph whose state stays between its runs: each run replaces it by its next values. */
import { messageOf } from "../errors.ts";
import type { StateEntry } from "../spec.ts";
import { nativeRuntime } from "./c-api.ts";
import { capturing, type Step } from "./cuda/captured.ts";
import { fedMemory, openFed } from "./fed.ts";
import { feeding, type StatefulSession } from "./feeding.ts";
import { type KeptState, keptState } from "./kept-state.ts";
import type { KeepingSession, Memory } from "./memory.ts";
import { ortApiFault } from "./ort-api.ts";
import { type Feeds, notRunnable, openSession, type SessionOptions } from "./session.ts";
import { gpuBuffers } from "./webgpu/buffers.ts";

export type { Step } from "./cuda/captured.ts";
export type { Reader, StatefulSession } from "./feeding.ts";

export interface StatefulOptions extends SessionOptions {
  /** Told, as a line, why state is copied to a GPU and back at each run, if it has to be. @default nobody */
  readonly note?: ((line: string) => void) | undefined;
}

/**
 * State is kept where the provider computes, the host or a GPU. On the CPU and on CUDA it is updated in place through
 * the C API; where that cannot be called, and for WebGPU, it is fed at each run and replaced by outputs. Takes over the
 * arrays of the initial state. `initial` is called while the runtime plans the graph on another thread, through the C
 * API: drawing the weights of a large encoder takes as long.
 *
 * @throws UserError if the provider cannot run here or the graph is damaged; `what` names the graph.
 */
export async function openStateful(
  graph: Uint8Array,
  what: string,
  entries: readonly StateEntry[],
  initial: () => Feeds,
  { note = () => {}, ...options }: StatefulOptions = {},
): Promise<StatefulSession> {
  const { provider = "cpu" } = options;
  if (provider === "webgpu") {
    const state = initial();
    const onGpu = entries.map(({ next }) => next);
    const session = await openSession(graph, what, { ...options, onGpu });
    return feeding(session, entries, state, { open: openSession, place: gpuBuffers() });
  }
  const fed = async (state: Feeds, reason: unknown) => {
    const session = feeding(await openSession(graph, what, options), entries, state, { open: openSession });
    if (provider === "cuda") note(copiedFor(reason));
    return session;
  };
  const runtime = nativeRuntime();
  if (!runtime) return fed(initial(), ortApiFault());
  if (provider === "cuda") {
    const state = initial();
    try {
      const memory = runtime.memory(options);
      const kept = keptState(memory, entries, state, { still: true });
      const step = capturing(runtime, graph, what, { memory, state: kept }, { ...options, note });
      return keeping(kept, step, openNative);
    } catch (error) {
      return fed(state, error); // or, where CUDA itself is not to be had, what it needs
    }
  }
  const opening = runtime.open(graph, options);
  let state: Feeds;
  try {
    state = initial();
  } catch (error) {
    opening.then(
      (session) => session.close(),
      () => {},
    );
    throw error;
  }
  try {
    return inPlace(await opening, entries, state);
  } catch (error) {
    throw notRunnable(what, provider, error);
  }
}

const copiedFor = (reason: unknown) =>
  `warning: state is copied to the GPU and back at each step, for it could not stay there: ${messageOf(reason)}`;

/** Where state is kept, and how graphs that read it and write it there are opened. */
export interface Keeper {
  readonly memory: Memory;
  /** @throws UserError; `what` names the graph */
  readonly open: (graph: Uint8Array, what: string, options: SessionOptions) => Promise<KeepingSession>;
}

/** The memory that a provider computes in, by the C API, or the host's arrays, which are fed. */
export function keeperFor({ note = () => {}, ...options }: StatefulOptions): Keeper {
  const { provider = "cpu" } = options;
  const fed = (reason: unknown) => {
    if (provider === "cuda") note(copiedFor(reason));
    return { memory: fedMemory, open: openFed };
  };
  const runtime = provider === "webgpu" ? undefined : nativeRuntime();
  if (!runtime) return fed(ortApiFault());
  try {
    return { memory: runtime.memory(options), open: openNative };
  } catch (error) {
    return fed(error); // or, where CUDA itself is not to be had, what it needs: told when a graph is opened
  }
}

const openNative: Keeper["open"] = (graph, what, options) =>
  nativeRuntime()!
    .open(graph, options)
    .catch((error) => {
      throw notRunnable(what, options.provider ?? "cpu", error);
    });

/**
 * State that the runtime updates in place, see `keptState`; state that is fed is in memory three times when a run ends.
 * Lies in the session's memory: on the host in the initial arrays, which are taken over, on a GPU it is copied there.
 *
 * @throws Error of the library if there is no room for it; the session is closed then.
 */
export function inPlace(
  session: KeepingSession,
  entries: readonly StateEntry[],
  initial: Feeds,
): StatefulSession {
  let state: KeptState;
  try {
    state = keptState(session.memory, entries, initial);
  } catch (error) {
    session.close();
    throw error;
  }
  const step: Step = {
    run: (feeds, outputs) => session.run(feeds, state.values, outputs),
    close: () => session.close(),
  };
  return keeping(state, step, openNative);
}

/** A step that reads and writes kept state, and all that goes with it. */
export function keeping(
  state: Pick<KeptState, "values" | "advance" | "read" | "release">,
  step: Step,
  open: Keeper["open"],
): StatefulSession {
  let failed = false;
  return {
    async run(feeds, outputs) {
      const results = await step.run(feeds, outputs).catch((error) => {
        failed = true;
        throw error;
      });
      state.advance();
      return results;
    },
    async read() {
      if (failed) throw new Error("a run that failed may have left the state half written");
      return state.read();
    },
    async openReader(graph, what, options = {}) {
      const reader = await open(graph, what, options);
      return {
        run(feeds, outputs) {
          const read = [...state.values.read].filter(([name]) => reader.inputs.includes(name));
          return reader.run(feeds, { read: new Map(read) }, outputs);
        },
        close: async () => reader.close(),
      };
    },
    async close() {
      await step.close();
      state.release();
    },
  };
}
