/** The progress line of long work: rewritten in place on a terminal, a line now and then elsewhere. */

export interface Output {
  /** Progress and warnings; never the result. */
  readonly stream: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly quiet: boolean;
}

const SECONDS_BETWEEN_LINES = 10;

export interface Progress {
  /** Shows the line, if it is time to. */
  show(line: string): void;
  /** A line that stays. */
  note(line: string): void;
  /** Ends the line that is rewritten. */
  end(line?: string): void;
}

export function openProgress({ stream, quiet }: Output): Progress {
  let last = -Infinity;
  let open = false;
  const clear = () => {
    if (open) stream.write("\r\x1b[K");
    open = false;
  };
  return {
    show(line) {
      const now = performance.now() / 1000;
      if (quiet || now - last < (stream.isTTY ? 0.1 : SECONDS_BETWEEN_LINES)) return;
      last = now;
      if (stream.isTTY) {
        stream.write(`\r\x1b[K${line}`);
        open = true;
      } else stream.write(`${line}\n`);
    },
    note(line) {
      clear();
      stream.write(`${line}\n`);
    },
    end(line) {
      clear();
      if (line !== undefined && !quiet) stream.write(`${line}\n`);
    },
  };
}

/** 42 s, 12 min, 3 h 05 min */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** Per second over the last steps, so that time left follows the speed of now. */
export function recentRate(window = 20): {
  add(units: number, seconds: number): void;
  readonly perSecond: number;
} {
  const kept: { units: number; seconds: number }[] = [];
  return {
    add(units, seconds) {
      kept.push({ units, seconds });
      if (kept.length > window) kept.shift();
    },
    get perSecond() {
      const seconds = kept.reduce((sum, k) => sum + k.seconds, 0);
      return seconds > 0 ? kept.reduce((sum, k) => sum + k.units, 0) / seconds : 0;
    },
  };
}
