/** Steps that change nothing, for their gradients are not finite: a step whose loss is scaled counts them. */
import { UserError } from "../errors.ts";

/** So many of the last `WINDOW` are often; at first a few are skipped until the scale fits. */
const OFTEN = 20;
const WINDOW = 100;
/** Below this it is not the scale that gradients overflow for. */
const LEAST_SCALE = 1e-4;

export interface Skips {
  /**
   * Whether a step was skipped, by its metrics.
   *
   * @throws UserError (exit code 1) if it was although its loss was hardly scaled any more
   */
  look(step: number, metrics: Readonly<Record<string, number>>): boolean;
}

/**
 * @param before steps that were skipped so far
 * @param note told once, as a line, that steps are skipped often
 */
export function watchSkips(before: number, note: (line: string) => void): Skips {
  let count = before;
  let latest: readonly number[] = [];
  let told = false;
  return {
    look(step, { skipped = 0, lossScale = 1 }) {
      const rests = skipped > count;
      count = skipped;
      if (!rests) return false;
      if (lossScale < LEAST_SCALE)
        throw new UserError(
          `gradients are not finite at step ${step}, by whatever the loss is scaled (${lossScale.toPrecision(2)}); ` +
            "train anew with --precision bf16, or a lower --lr",
          1,
        );
      latest = [...latest.filter((other) => other > step - WINDOW), step];
      if (latest.length >= OFTEN && !told) {
        told = true;
        note(
          `warning: ${latest.length} of the last ${WINDOW} steps were skipped, for their gradients were not finite ` +
            `(loss scale ${lossScale}): --precision bf16 or a lower --lr may mend it`,
        );
      }
      return true;
    },
  };
}
