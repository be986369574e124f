/** What stops a run after so many steps, as a signal does. */
import type { Surroundings } from "../../src/api/surroundings.ts";

export function stopAfter(steps: number): Pick<Surroundings, "signal" | "checkpointAsked"> {
  const stop = new AbortController();
  let asked = 0;
  const checkpointAsked = () => {
    if (++asked === steps) stop.abort();
    return false;
  };
  return { signal: stop.signal, checkpointAsked };
}
