/** What the steps of a run take, one after the other, prepared ahead. */

export interface AheadOptions {
  /** Prepared beyond the one in use. */
  readonly ahead: number;
  /** The first step. */
  readonly startStep: number;
  /** Steps of the whole run: nothing is prepared for later ones. */
  readonly steps: number;
}

export interface Ahead<T> {
  /** What was prepared for the next step. */
  next(): Promise<T>;
  /** Drops what is prepared. */
  close(): void;
}

/** `prepare` is called for each step in turn, and begins for those ahead at once. */
export function prepareAhead<T>(
  prepare: (step: number) => Promise<T>,
  { ahead, startStep, steps }: AheadOptions,
): Ahead<T> {
  /** For `nextStep` and the steps after it. */
  const prepared: Promise<T>[] = [];
  let nextStep = startStep;
  let closed = false;

  function fill(count: number) {
    const wanted = Math.min(count, steps - nextStep);
    while (prepared.length < wanted) {
      const coming = prepare(nextStep + prepared.length);
      prepared.push(coming);
      coming.catch(() => {}); // quiet until next() comes to it
    }
  }

  fill(ahead);
  return {
    async next() {
      if (closed) throw new Error(CLOSED);
      if (nextStep >= steps) throw new Error(`the run ends after ${steps} steps`);
      fill(1 + ahead);
      nextStep++;
      return prepared.shift()!;
    },
    close() {
      closed = true;
      prepared.length = 0;
    },
  };
}

/** What is thrown to those who still wait. */
export const CLOSED = "the loader is closed";
