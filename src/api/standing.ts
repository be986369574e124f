/** Where a run stands: its latest checkpoint, and what can be done where that is of no use. */
import { basename } from "node:path";
import { expected, UserError } from "../errors.ts";
import { initialState, type StateMap } from "../runtime/state.ts";
import type { Manifest } from "../spec.ts";
import { latestCheckpoint, latestStep, loadCheckpoint } from "../train/checkpoint.ts";
import { type RunConfig, runFiles } from "../train/run-folder.ts";

export interface Standing {
  /** Steps done. */
  readonly step: number;
  /** Made when it is asked for. */
  readonly state: () => StateMap;
}

/**
 * The latest checkpoint, or the initial state if there is none: with `first` in place of draws, for a run that begins.
 * @throws UserError if the checkpoint is damaged, or there is none of a run that began with weights from elsewhere.
 */
export async function standing(
  run: string,
  manifest: Manifest,
  config: RunConfig,
  first?: StateMap,
): Promise<Standing> {
  const { checkpoints } = runFiles(run);
  const path = await latestCheckpoint(checkpoints);
  if (path !== undefined) {
    const { step, tensors } = await loadCheckpoint(path);
    return { step, state: () => tensors };
  }
  if (config.init && !first) {
    const wanted = `the checkpoint of step 0, which held the weights of ${config.init.from}`;
    throw expected(checkpoints, wanted, "none", "train anew with --init and another --out");
  }
  return { step: 0, state: () => initialState(manifest, config, first) };
}

/**
 * What to do after a loss or a state that is not finite. A checkpoint is finite, for no other is written; but from the
 * same state a run comes to the same.
 */
export async function afterDivergence(run: string): Promise<string> {
  const step = await latestStep(runFiles(run).checkpoints);
  const anew = "train anew with another --out and a lower --lr or more --warmup-epochs";
  return step === undefined
    ? `there is no checkpoint yet: ${anew}`
    : `the checkpoint of step ${step} is finite, but --resume would come to the same: ${anew}, from its weights with --init ${run} if they are good`;
}

/**
 * A step's failure, with the checkpoint to go on from. `save` writes that of the moment, and rejects where the state can
 * be read no more. What is not for users is given back as it is.
 */
export async function afterFailure(run: string, error: unknown, save: () => Promise<void>): Promise<unknown> {
  if (!(error instanceof UserError)) return error;
  await save().catch(() => {}); // the latest one stands then
  const path = await latestCheckpoint(runFiles(run).checkpoints);
  const latest = path === undefined ? "there is no checkpoint yet" : `latest checkpoint: ${basename(path)}`;
  return new UserError(`${error.message} (${latest})`, error.exitCode);
}
