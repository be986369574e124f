/** Runs that stop early: when that is, and the best epoch, whose weights they export. */
import { existsSync } from "node:fs";
import { readRecords } from "../report/run.ts";
import type { Manifest } from "../spec.ts";
import { checkpointAt, latestStep, loadCheckpoint } from "../train/checkpoint.ts";
import { type MetricsLog, plannedSteps, type RunConfig, runFiles } from "../train/run-folder.ts";
import type { EpochEvaluation } from "./evaluation.ts";
import { type Standing, standing } from "./standing.ts";

/** Whether the best of these values lies more than so many back; the first of equal ones counts. */
export const isStale = (values: readonly number[], patience: number): boolean =>
  values.length > 0 && values.length - 1 - values.indexOf(Math.max(...values)) >= patience;

/** The ends of epochs, with what the images held out said. */
async function validationsOf(run: string) {
  const records = await readRecords(run);
  return records.flatMap(({ step, epoch, validation }) =>
    validation === undefined ? [] : [{ step, epoch, validation }],
  );
}

const valuesOf = async (run: string) => (await validationsOf(run)).map(({ validation }) => validation);

const patienceOf = ({ supervision }: RunConfig): number | undefined => supervision?.earlyStop ?? undefined;

/** Asked before a step: whether the images held out say that the run is over. Undefined where nothing was asked of them. */
export function earlyStop(
  run: string,
  config: RunConfig,
  metrics: Pick<MetricsLog, "last">,
): (() => Promise<boolean>) | undefined {
  const patience = patienceOf(config);
  if (patience === undefined) return undefined;
  return async () => {
    if (metrics.last?.validation === undefined) return false; // in the midst of an epoch
    return isStale(await valuesOf(run), patience);
  };
}

/**
 * The same evaluation, which calls `save` after an epoch that is better than all before it, before that is logged: who finds
 * it in the log finds its weights.
 */
export const keepingBest = (
  run: string,
  { run: evaluate, close }: EpochEvaluation,
  metrics: Pick<MetricsLog, "last">,
  save: (step: number) => Promise<void>,
): EpochEvaluation => ({
  async run() {
    const found = await evaluate();
    const before = await valuesOf(run);
    if (before.every((value) => value < found.validation!)) await save(metrics.last!.step);
    return found;
  },
  close,
});

export interface BestEpoch {
  /** The last of the epoch, and the epoch; counted from 1. */
  readonly step: number;
  readonly epoch: number;
  /** Percent. */
  readonly validation: number;
}

/** The first of the best, of a run that stops early; undefined of others, and where its weights were not kept. */
export async function bestEpoch(run: string, config: RunConfig): Promise<BestEpoch | undefined> {
  if (patienceOf(config) === undefined) return undefined;
  const all = await validationsOf(run);
  const best = all.find(({ validation }) => all.every((other) => other.validation <= validation));
  return best && existsSync(checkpointAt(runFiles(run).best, best.step)) ? best : undefined;
}

/** What is exported of a run: its best epoch, or where none was kept what `standing` gives. @throws UserError as that does */
export async function exported(run: string, manifest: Manifest, config: RunConfig): Promise<Standing> {
  const best = await bestEpoch(run, config);
  if (!best) return standing(run, manifest, config);
  const { step, tensors } = await loadCheckpoint(checkpointAt(runFiles(run).best, best.step));
  return { step, state: () => tensors };
}

/** The step whose weights a run has exported once it has ended. */
export async function stepAtEnd(run: string, config: RunConfig): Promise<number> {
  const [planned, patience] = [plannedSteps(config), patienceOf(config)];
  if (patience === undefined) return planned;
  const done = (await latestStep(runFiles(run).checkpoints)) ?? 0;
  if (done < planned && !isStale(await valuesOf(run), patience)) return planned;
  return (await bestEpoch(run, config))?.step ?? done;
}
