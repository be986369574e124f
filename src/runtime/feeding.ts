/** State that a session is fed at each run, and that its outputs replace: it needs nothing of a session but to run. */
import type * as ort from "onnxruntime-node";
import type { StateEntry } from "../spec.ts";
import { free } from "./free.ts";
import type { Feeds, Session, SessionOptions } from "./session.ts";

export interface StatefulSession {
  /** Takes the inputs that are not state; gives the outputs named, none of which is state. */
  run(feeds: Feeds, outputs: readonly string[]): Promise<Record<string, ort.Tensor>>;
  /**
   * The state by name: copied from a GPU; on the host the next run may write over these arrays. After a run that failed it
   * is what it was before.
   *
   * @throws Error if the run may have written over it, or the GPU can be read no more
   */
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

/** Where state that is fed to a session lies between two runs. */
export interface Place {
  /** The state on the host. */
  read(state: Feeds): Promise<Feeds>;
  /** Frees what a run has put out, at once. */
  release(values: readonly ort.Tensor[]): void;
  /** To be called before the session that put out the state is closed. */
  close(state: Feeds): Promise<void>;
}

/** Arrays of JavaScript. */
export const HOST: Place = {
  read: async (state) => state,
  release: (values) => free(values.map(({ data }) => data as Float32Array)),
  close: async () => {},
};

export interface FeedingOptions {
  /** Opens the sessions of readers. */
  readonly open: (
    graph: Uint8Array,
    what: string,
    options?: SessionOptions,
  ) => Promise<Pick<Session, "inputs" | "run" | "close">>;
  /** Where the session leaves its outputs. @default HOST */
  readonly place?: Place | undefined;
}

/** State that is fed to a session and replaced by its outputs. */
export function feeding(
  session: Pick<Session, "run" | "close">,
  entries: readonly StateEntry[],
  initial: Feeds,
  { open, place = HOST }: FeedingOptions,
): StatefulSession {
  let state = initial;
  let own = false; // the initial arrays may share their memory with others
  return {
    async run(feeds, outputs) {
      const results = await session.run({ ...feeds, ...state }, [
        ...entries.map(({ next }) => next),
        ...outputs,
      ]);
      if (own) place.release(Object.values(state));
      state = Object.fromEntries(entries.map(({ name, next }) => [name, results[next]!]));
      own = true;
      return results;
    },
    read: () => place.read(state),
    async openReader(graph, what, options) {
      const reader = await open(graph, what, options);
      return {
        run(feeds, outputs) {
          const read = Object.entries(state).filter(([name]) => reader.inputs.includes(name));
          return reader.run({ ...feeds, ...Object.fromEntries(read) }, outputs);
        },
        close: reader.close,
      };
    },
    async close() {
      await place.close(state);
      await session.close();
    },
  };
}
