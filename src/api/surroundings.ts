/** What surrounds a call: where it may write, and what stops it. */
import type { Output } from "../train/progress.ts";

export interface Surroundings {
  /** Where progress and warnings go. @default quiet, warnings on standard error */
  readonly output?: Output;
  /** Stops the run after the step at hand, with a checkpoint. */
  readonly signal?: AbortSignal;
  /** Asked after each training step: true has a checkpoint written, and training go on. */
  readonly checkpointAsked?: () => boolean;
}

export const QUIET: Output = { stream: process.stderr, quiet: true };
