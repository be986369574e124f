/** The progress line of long work: rewritten in place on a terminal, a line now and then elsewhere. */
import { duration } from "./duration.ts";

export interface Output {
  /** Progress and warnings; never the result. */
  readonly stream: NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };
  readonly quiet: boolean;
}

const SECONDS_BETWEEN_LINES = 10;

export interface Progress {
  /** Shows the line, if it is time to. */
  show(line: string): void;
  /** A line that stays. */
  note(line: string): void;
  /** Ends the line that is rewritten, with another one that stays unless output is quiet. */
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
        const width = (stream.columns || Number.POSITIVE_INFINITY) - 1; // a line that wraps would not be written over
        stream.write(`\r\x1b[K${line.slice(0, width)}`);
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

/** Steps that a run's speed is first measured over, after one that touches all memory for the first time. */
const MEASURED_STEPS = 3;
/** A run of fewer steps is over as soon as its length is known. */
const WORTH_SAYING = 20;
const LONG_SECONDS = 24 * 3600;

/** The speed of a run's first steps, once they are done: images a second. */
export function speedOf(batch: number, from: number): { after(step: number): number | undefined } {
  let began = 0;
  return {
    after(step) {
      if (step === from + 1) began = performance.now();
      if (step !== from + 1 + MEASURED_STEPS) return undefined;
      return (1000 * MEASURED_STEPS * batch) / (performance.now() - began);
    },
  };
}

/** How long the rest of a run takes and, where that is days, what would shorten it; undefined of a short run. */
export function timeToGo(steps: number, batch: number, imagesPerSecond: number): string | undefined {
  if (steps < WORTH_SAYING) return undefined;
  const seconds = (steps * batch) / imagesPerSecond;
  const count = steps.toLocaleString("en");
  const rate = imagesPerSecond.toFixed(imagesPerSecond < 10 ? 1 : 0);
  const said = `about ${duration(seconds)} to go: ${count} steps of ${batch} images at ${rate} images/s`;
  return seconds < LONG_SECONDS
    ? said
    : `${said}; fewer --epochs, a smaller --image-size or --encoder, a sample of the images (--limit) or a GPU (--provider cuda) would shorten it`;
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
