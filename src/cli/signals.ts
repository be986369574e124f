/** How a run in progress is told to stop, or to write a checkpoint and go on. */
import type { Surroundings } from "../api/surroundings.ts";

/** The exit code of a run that was told to stop, as shells count Ctrl-C. */
export const INTERRUPTED = 130;

/**
 * INT and TERM stop the run after the step at hand, with a checkpoint; a second one ends it at once. USR1 and USR2, which
 * schedulers send ahead of a time limit, have a checkpoint written. So does HUP, which also stops a run that belongs to
 * the terminal that was closed: one without a terminal, as under nohup, goes on (Node itself takes away what nohup set).
 *
 * npx and npm end without passing TERM on. A run that they started stops once they are gone.
 */
export function listenToSignals(): Required<Pick<Surroundings, "signal" | "checkpointAsked">> {
  const stop = new AbortController();
  let asked = false;
  const end = () => {
    process.stderr.write("\nstopping after this step, with a checkpoint; once more ends it at once\n");
    stop.abort();
  };
  const save = () => {
    asked = true;
  };
  process.once("SIGINT", end).once("SIGTERM", end);
  process.on("SIGHUP", hasTerminal() ? end : save);
  // Without a listener USR1 opens Node's debugger. Windows has neither.
  if (process.platform !== "win32") process.on("SIGUSR1", save).on("SIGUSR2", save);
  if (process.env.npm_command !== undefined) whenParentEnds(end);
  return {
    signal: stop.signal,
    checkpointAsked() {
      const was = asked;
      asked = false;
      return was;
    },
  };
}

const hasTerminal = (): boolean =>
  [process.stdin, process.stdout, process.stderr].some(({ isTTY }) => isTTY === true);

function whenParentEnds(end: () => void): void {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    end();
  }, 500);
  timer.unref();
}
