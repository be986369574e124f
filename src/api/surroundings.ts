/** What surrounds a call: where it may write, and what stops it. */
import type { Series } from "../train/loop.ts";
import type { Output } from "../train/progress.ts";

export interface Surroundings {
  /** Where progress and warnings go. @default quiet, warnings on standard error */
  readonly output?: Output;
  /** Stops the run after the step at hand, with a checkpoint. */
  readonly signal?: AbortSignal;
  /** Asked after each training step: true has a checkpoint written, and training go on. */
  readonly checkpointAsked?: () => boolean;
  /** Where a training is one of several, for its progress to tell of all. */
  readonly series?: Series;
}

export const QUIET: Output = { stream: process.stderr, quiet: true };
