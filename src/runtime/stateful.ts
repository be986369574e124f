/** A graph whose state stays between its runs: each run replaces it by its next values. */
import * as ort from "onnxruntime-node";
import type { StateEntry } from "../spec.ts";
import { type NativeSession, nativeRuntime, type Value } from "./c-api.ts";
import { free } from "./free.ts";
import { type Feeds, notRunnable, openSession, type Session, type SessionOptions } from "./session.ts";

export interface StatefulSession {
  /** Takes the inputs that are not state; gives the outputs named, none of which is state. */
  run(feeds: Feeds, outputs: readonly string[]): Promise<Record<string, ort.Tensor>>;
  /** By name, as it is until the next run. */
  readonly state: Feeds;
  close(): Promise<void>;
}

/**
 * State is updated in place where the C API can be called, else it is fed. Takes over the arrays of the initial
 * state. `initial` is called while the runtime plans the graph on another thread: drawing the weights of a large
 * encoder takes as long.
 *
 * @throws UserError if the provider cannot run here or the graph is damaged; `what` names the graph.
 */
export async function openStateful(
  graph: Uint8Array,
  what: string,
  entries: readonly StateEntry[],
  initial: () => Feeds,
  options: SessionOptions = {},
): Promise<StatefulSession> {
  const { provider = "cpu" } = options;
  const open = provider === "cpu" ? nativeRuntime() : undefined;
  if (!open) {
    const state = initial();
    return feeding(await openSession(graph, what, options), entries, state);
  }
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
  const session = await opening.catch((error) => {
    throw notRunnable(what, provider, error);
  });
  return inPlace(session, entries, state);
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
    get state() {
      return state;
    },
    close: () => session.close(),
  };
}

/**
 * State that the runtime updates in place or, where the graph may still read the old value, writes to a second array,
 * the two taking turns. It is in memory once or twice; state that is fed is there three times when a run ends. Takes
 * over the initial arrays.
 */
export function inPlace(
  session: NativeSession,
  entries: readonly StateEntry[],
  initial: Feeds,
): StatefulSession {
  let state = entries.map((entry) => {
    const current = session.valueOf(initial[entry.name]!);
    const coming = entry.inPlace ? current : session.valueOf(blank(initial[entry.name]!));
    return { ...entry, current, coming };
  });
  return {
    async run(feeds, outputs) {
      const given = Object.entries(feeds).map(([name, tensor]) => [name, session.valueOf(tensor)] as const);
      try {
        const results = await session.run(
          new Map([...given, ...state.map(({ name, current }) => [name, current] as const)]),
          new Map<string, Value | undefined>([
            ...state.map(({ next, coming }) => [next, coming] as const),
            ...outputs.map((name) => [name, undefined] as const),
          ]),
        );
        state = state.map((entry) => ({ ...entry, current: entry.coming, coming: entry.current }));
        return results;
      } finally {
        for (const [, value] of given) session.release(value);
      }
    },
    get state() {
      return Object.fromEntries(state.map(({ name, current }) => [name, current.tensor]));
    },
    async close() {
      for (const value of new Set(state.flatMap(({ current, coming }) => [current, coming])))
        session.release(value);
      session.close();
    },
  };
}

const blank = ({ type, dims, data }: ort.Tensor): ort.Tensor => {
  const Data = data.constructor as Float32ArrayConstructor;
  return new ort.Tensor(type as "float32", new Data(data.length), dims);
};
