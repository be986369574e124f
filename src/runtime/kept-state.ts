/** The state of a step as tensors that a memory keeps between runs. */
import type { StateEntry } from "../spec.ts";
import type { Kept, KeptValues, Memory } from "./memory.ts";
import type { Feeds } from "./session.ts";

export interface KeptState {
  /** What a run of the step reads and writes, by the names of its inputs and outputs. */
  readonly values: Required<KeptValues>;
  /** To be called after each run: makes what was written the state. */
  advance(): void;
  /** By name: copied from a GPU; on the host the next run may write over these arrays. */
  read(): Feeds;
  /** Takes the values of tensors by name in place of its own. */
  restore(values: Feeds): void;
  /** Makes it zeros. */
  clear(): void;
  release(): void;
}

/**
 * A tensor that the step may overwrite with its next value is in memory once. Of the others each run writes the next
 * value to a second one: the two take turns or, where the state is to stay in place (`still`), the second is copied over
 * the first. On the host the first is the initial array, which is taken over.
 *
 * @throws Error of the library if there is no room for it; nothing is left in the memory then.
 */
export function keptState(
  memory: Memory,
  entries: readonly StateEntry[],
  initial: Feeds,
  { still = false } = {},
): KeptState {
  let state = keptIn(memory, entries, initial);
  return {
    get values() {
      return {
        read: new Map(state.map(({ name, current }) => [name, current])),
        written: new Map(state.map(({ next, coming }) => [next, coming])),
      };
    },
    advance() {
      const apart = state.filter(({ current, coming }) => current !== coming);
      if (still) memory.write(apart.map(({ current, coming }) => [current, coming]));
      else state = state.map((entry) => ({ ...entry, current: entry.coming, coming: entry.current }));
    },
    read: () => Object.fromEntries(state.map(({ name, current }) => [name, current.read()])),
    restore: (values) => memory.write(state.map(({ name, current }) => [current, values[name]!])),
    clear: () => memory.clear(state.map(({ current }) => current)),
    release: () => releaseAll(state.flatMap(({ current, coming }) => [current, coming])),
  };
}

interface KeptEntry extends StateEntry {
  readonly current: Kept;
  /** What its next value is written to: itself, where that may be. */
  readonly coming: Kept;
}

// A function of its own: closures beside it would keep the initial arrays, which a GPU has copied, alive for good.
function keptIn(memory: Memory, entries: readonly StateEntry[], initial: Feeds): readonly KeptEntry[] {
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

export function releaseAll(values: Iterable<Kept>): void {
  for (const value of new Set(values)) value.release();
}
