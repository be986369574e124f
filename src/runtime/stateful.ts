/** A graph whose state stays between its runs: each run replaces it by its next values. */
import type * as ort from "onnxruntime-node";
import { messageOf } from "../errors.ts";
import type { StateEntry } from "../spec.ts";
import { type NativeSession, nativeRuntime } from "./c-api.ts";
import { free } from "./free.ts";
import type { Kept, Memory } from "./memory.ts";
import { type Feeds, notRunnable, openSession, type Session, type SessionOptions } from "./session.ts";

export interface StatefulSession {
  /** Takes the inputs that are not state; gives the outputs named, none of which is state. */
  run(feeds: Feeds, outputs: readonly string[]): Promise<Record<string, ort.Tensor>>;
  /** The state by name: copied from a GPU; on the host the next run may write over these arrays. */
  read(): Promise<Feeds>;
  /** Opens a graph that reads the state of the moment where it lies; to be run between two runs of the session. */
  openReader(graph: Uint8Array, what: string, options?: SessionOptions): Promise<Reader>;
  close(): Promise<void>;
}

export interface Reader {
  /** Takes the inputs that are not state; gives the outputs named. */
  run(feeds: Feeds, outputs: readonly string[]): Promise<Record<string, ort.Tensor>>;
  close(): Promise<void>;
}

export interface StatefulOptions extends SessionOptions {
  /** Told, as a line, why state is copied to a GPU and back at each run, if it has to be. @default nobody */
  readonly note?: ((line: string) => void) | undefined;
}

/**
 * State is kept where the provider computes, the host or a CUDA device, and updated in place; it is fed at each run
 * where the C API cannot be called, and to other providers. Takes over the arrays of the initial state. `initial` is
 * called while the runtime plans the graph on another thread: drawing the weights of a large encoder takes as long.
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
  const fed = async (state: Feeds, reason?: unknown) => {
    const session = feeding(await openSession(graph, what, options), entries, state);
    if (provider === "cuda")
      note(
        `warning: state is copied to the GPU and back at each step, for it could not stay there: ${messageOf(reason)}`,
      );
    return session;
  };
  const open = provider === "webgpu" ? undefined : nativeRuntime();
  if (!open) return fed(initial(), "that takes package koffi, and Linux");
  const opening = open(graph, options);
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
    if (provider === "cpu") throw notRunnable(what, provider, error);
    return fed(state, error); // or, where CUDA itself is not to be had, what it needs
  }
}

/** State that is fed to a session and replaced by its outputs. */
export function feeding(
  session: Pick<Session, "run" | "close">,
  entries: readonly StateEntry[],
  initial: Feeds,
): StatefulSession {
  let state = initial;
  return {
    async run(feeds, outputs) {
      const results = await session.run({ ...feeds, ...state }, [
        ...entries.map(({ next }) => next),
        ...outputs,
      ]);
      // Not the initial arrays, which may share their memory with others.
      if (state !== initial) free(Object.values(state).map(({ data }) => data as Float32Array));
      state = Object.fromEntries(entries.map(({ name, next }) => [name, results[next]!]));
      return results;
    },
    read: async () => state,
    async openReader(graph, what, options) {
      const reader = await openSession(graph, what, options);
      return {
        run(feeds, outputs) {
          const read = Object.entries(state).filter(([name]) => reader.inputs.includes(name));
          return reader.run({ ...feeds, ...Object.fromEntries(read) }, outputs);
        },
        close: reader.close,
      };
    },
    close: () => session.close(),
  };
}

/**
 * State that the runtime updates in place or, where the graph may still read the old value, writes to a second tensor,
 * the two taking turns. It is in memory once or twice; state that is fed is there three times when a run ends. Lies in
 * the session's memory: on the host in the initial arrays, which are taken over, on a GPU it is copied there.
 *
 * @throws Error of the library if there is no room for it; the session is closed then.
 */
export function inPlace(
  session: NativeSession,
  entries: readonly StateEntry[],
  initial: Feeds,
): StatefulSession {
  let state: readonly KeptEntry[];
  try {
    state = keptIn(session.memory, entries, initial);
  } catch (error) {
    session.close();
    throw error;
  }
  return {
    async run(feeds, outputs) {
      const read = new Map(state.map(({ name, current }) => [name, current]));
      const written = new Map(state.map(({ next, coming }) => [next, coming]));
      const results = await session.run(feeds, { read, written }, outputs);
      state = state.map((entry) => ({ ...entry, current: entry.coming, coming: entry.current }));
      return results;
    },
    read: async () => Object.fromEntries(state.map(({ name, current }) => [name, current.read()])),
    async openReader(graph, what, options = {}) {
      const reader = await nativeRuntime()!(graph, options).catch((error) => {
        throw notRunnable(what, options.provider ?? "cpu", error);
      });
      return {
        run(feeds, outputs) {
          const read = state.filter(({ name }) => reader.inputs.includes(name));
          return reader.run(
            feeds,
            { read: new Map(read.map(({ name, current }) => [name, current])) },
            outputs,
          );
        },
        close: async () => reader.close(),
      };
    },
    async close() {
      releaseAll(state.flatMap(({ current, coming }) => [current, coming]));
      session.close();
    },
  };
}

interface KeptEntry extends StateEntry {
  readonly current: Kept;
  /** What its next value is written to: itself, where that may be. */
  readonly coming: Kept;
}

// A function of its own: closures beside it would keep the initial arrays, which a GPU has copied, alive for good.
function keptIn(memory: Memory, entries: readonly StateEntry[], initial: Feeds): KeptEntry[] {
  const all: Kept[] = [];
  const kept = (value: Kept): Kept => {
    all.push(value);
    return value;
  };
  try {
    return entries.map((entry) => {
      const first = initial[entry.name]!;
      const current = kept(memory.keep(first));
      return { ...entry, current, coming: entry.inPlace ? current : kept(memory.blank(first)) };
    });
  } catch (error) {
    releaseAll(all);
    throw error;
  }
}

function releaseAll(values: readonly Kept[]): void {
  for (const value of new Set(values)) value.release();
}
