/** What is left out while a file is read: counted, and said once for each reason. */

export interface LeftOut {
  /** `what` in the plural, such as "boxes without a size"; `where` the first is. */
  add(what: string, where: string): void;
  /** A line for each. */
  readonly notes: readonly string[];
}

export function leavingOut(): LeftOut {
  const left = new Map<string, { count: number; readonly first: string }>();
  return {
    add(what, where) {
      const found = left.get(what);
      if (found) found.count++;
      else left.set(what, { count: 1, first: where });
    },
    get notes() {
      return [...left].map(([what, { count, first }]) => `left out ${what}: ${count}, the first at ${first}`);
    },
  };
}
