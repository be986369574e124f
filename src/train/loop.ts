/** The training loop: the same for every method, which it sees only as views, scalars and state with roles. */
import { UserError } from "../errors.ts";
import type { StepOutput, Trainer } from "../runtime/trainer.ts";
import type { Manifest, Schedule } from "../spec.ts";
import { chanceLoss } from "./chance.ts";
import { duration } from "./duration.ts";
import type { Feed } from "./feed.ts";
import { type Progress, recentRate, speedOf, timeToGo } from "./progress.ts";
import type { MetricsLog } from "./run-folder.ts";
import { scheduleValue } from "./schedules.ts";
import { collapseGuard, type Guard, signsOf } from "./signs.ts";
import { watchSkips } from "./skips.ts";

/** Where a run is one of several that are trained one after another. */
export interface Series {
  /** Stands before its progress. */
  readonly title: string;
  /** Of the runs after it, whose batches are as large. */
  readonly stepsAfter: number;
}

export interface LoopOptions {
  readonly manifest: Manifest;
  readonly trainer: Trainer;
  readonly feed: Feed;
  /** The schedule of each scalar over this run. */
  readonly schedules: Readonly<Record<string, Schedule>>;
  /** That the run trains on. */
  readonly images: number;
  /** The first step to run. */
  readonly from: number;
  /** Steps before it that were skipped, where the loss is scaled. @default 0 */
  readonly skipped?: number | undefined;
  /** Steps of the whole run. */
  readonly steps: number;
  /** As they were planned when step `at`, counted from 0, was run, where a run was extended. @default steps */
  readonly planned?: (at: number) => number;
  readonly batch: number;
  /** Whether a collapsed representation stops the run. @default true */
  readonly guard?: boolean | undefined;
  /** After this many steps, and at least every ten minutes, `checkpoint` is called. */
  readonly checkpointEvery: number;
  /** Saves the state after `step` steps. */
  readonly checkpoint: (step: number) => Promise<void>;
  readonly log: Pick<MetricsLog, "write" | "amend">;
  readonly evaluation?: Evaluation | undefined;
  readonly progress: Progress;
  /** Time left is that of all of them. */
  readonly series?: Series | undefined;
  /** What to throw where a step failed after `step` others. @default the error itself */
  readonly failed?: (error: unknown, step: number) => Promise<unknown>;
  /** What to do once the loss is no number. */
  readonly advice?: () => Promise<string>;
  /** Whether the run is over before its last step; asked before each. @default never */
  readonly stopped?: (() => Promise<boolean>) | undefined;
  /** Aborted to stop after the step that is running. */
  readonly signal?: AbortSignal | undefined;
  /** Asked after each step; true has a checkpoint written. */
  readonly checkpointAsked?: (() => boolean) | undefined;
  /** What came before the loop took so long; logged with its first step. */
  readonly startSeconds?: number;
}

/** What is measured at the end of an epoch: it may be interrupted. */
export interface Evaluation {
  /** Epochs between two. */
  readonly every: number;
  /** Whether that of the epoch that ends at `from` is missing, for the run was stopped during it. */
  readonly missing: boolean;
  /** Whether it is over in seconds; before another a checkpoint is written. @default false */
  readonly brief?: boolean;
  /** What it gives is added to the line of the epoch's last step, if anything. Rejects once the loop's signal is aborted. */
  readonly run: () => Promise<Readonly<Record<string, number>>>;
}

export interface LoopResult {
  /** Steps that have run, of the whole run. */
  readonly step: number;
  readonly loss: number;
  /** The loss of a network that tells nothing, where that means anything. */
  readonly chance: number | undefined;
  readonly imagesPerSecond: number;
  /** Share of the time that steps waited for data: all between two of them but logging, checkpoints and evaluations. */
  readonly waitShare: number;
  readonly interrupted: boolean;
}

const SIGNS_EVERY = 10;
const CHECKPOINT_SECONDS = 600;
/** Training that went wrong, rather than input that is. */
const FAILED = 1;

/** @throws UserError (exit code 1) if the loss is not finite or the representation has collapsed. */
export async function runLoop(options: LoopOptions): Promise<LoopResult> {
  const { manifest, trainer, feed, steps, batch, progress, signal, evaluation } = options;
  const { stepsPerEpoch } = feed;
  const guard = options.guard === false ? undefined : collapseGuard();
  const skips = watchSkips(options.skipped ?? 0, progress.note);
  const chance = chanceLoss(manifest, options);
  const beside = chance === undefined ? "" : ` (chance ${chance.toFixed(4)})`;
  const rate = recentRate();
  let loss = Number.NaN;
  let step = options.from;
  const { title, stepsAfter } = options.series ?? { title: "", stepsAfter: 0 };
  // Asked for once a step runs, and where steps block this thread, once it is over: what is then done here for the batch
  // is waited for, and no part of the step.
  const askForBatch = () => {
    const asked = new Promise(setImmediate).then(feed.next);
    asked.catch(() => {}); // a fault is told to the step that it is for
    return asked;
  };
  const evaluate = async (epoch: number) => {
    if (!evaluation || signal?.aborted) return;
    try {
      const before = performance.now();
      const found = await evaluation.run();
      const shown = Object.entries(found).map(([name, value]) => `${name} ${value.toFixed(2)}`);
      if (shown.length === 0) return;
      options.log.amend({ ...found, evaluationSeconds: secondsSince(before) });
      progress.end(`epoch ${epoch}: ${shown.join(", ")}`);
    } catch (error) {
      if (!signal?.aborted) throw error; // measured when the run goes on
    }
  };
  const speed = speedOf(batch, options.from);
  let coming = step < steps ? askForBatch() : undefined;
  if (evaluation?.missing) await evaluate(step / stepsPerEpoch);
  const started = performance.now();
  const elapsed = () => secondsSince(started);
  let waited = 0;
  const waitShare = () => (step > options.from ? waited / elapsed() : 0);
  let saved = { step, at: started };
  const save = async () => {
    if (saved.step === step) return;
    const before = performance.now();
    await options.checkpoint(step);
    saved = { step, at: performance.now() };
    options.log.amend({ checkpointSeconds: secondsSince(before) });
  };

  let stopped = false;
  while (coming && !signal?.aborted) {
    stopped = (await options.stopped?.()) ?? false;
    if (stopped) break;
    const before = performance.now();
    const images = await coming;
    const scalars = Object.fromEntries(
      manifest.scalars.map(({ name }) => [
        name,
        scheduleValue(options.schedules[name]!, {
          step,
          steps: options.planned?.(step) ?? steps,
          stepsPerEpoch,
          images: options.images,
        }),
      ]),
    );
    waited += secondsSince(before);
    const running = trainer.step({ ...images, scalars });
    coming = step + 1 < steps ? askForBatch() : undefined;
    const output = await running.catch(async (error) => {
      throw options.failed ? await options.failed(error, step) : error;
    });
    step++;
    loss = output.metrics.loss!;
    rate.add(batch, secondsSince(before));
    const epoch = images.epoch + 1;
    const skipped = skips.look(step, output.metrics);
    const record: Record<string, number> = {
      ...output.metrics,
      ...(skipped ? {} : await look(output, { step, batch, scalars }, guard, options.advice)),
      ...(step === 1 && chance !== undefined && { chance }),
    };
    options.log.write({
      step,
      epoch,
      ...record,
      lr: scalars.lr!,
      imagesPerSecond: rate.perSecond,
      waitShare: waitShare(),
      seconds: elapsed(),
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      ...(step === options.from + 1 && { startSeconds: options.startSeconds ?? 0 }),
    });
    const left = steps - step + stepsAfter;
    progress.show(
      `${title && `${title}  `}epoch ${epoch}/${Math.ceil(steps / stepsPerEpoch)}  step ${step}/${steps}  loss ${loss.toFixed(4)}${beside}  ` +
        `${rate.perSecond.toFixed(0)} images/s  ${duration((left * batch) / rate.perSecond)} left  ` +
        `waiting ${(100 * waitShare()).toFixed(1)} %`,
    );
    const measured = speed.after(step);
    if (measured) progress.end(timeToGo(left, batch, measured));
    const evaluated = step % stepsPerEpoch === 0 && evaluation && epoch % evaluation.every === 0;
    const asked = options.checkpointAsked?.();
    const due = step % options.checkpointEvery === 0 || secondsSince(saved.at) > CHECKPOINT_SECONDS;
    if (due || asked || (evaluated && !evaluation.brief) || step === steps) await save();
    if (asked) progress.end(`checkpoint written after step ${step}`);
    if (evaluated) await evaluate(epoch);
    if (signal?.aborted) await save();
  }
  if (stopped) await save();
  const imagesPerSecond = ((step - options.from) * batch) / elapsed();
  return {
    step,
    loss,
    chance,
    imagesPerSecond,
    waitShare: waitShare(),
    interrupted: step < steps && !stopped,
  };
}

const secondsSince = (moment: number): number => (performance.now() - moment) / 1000;

/** Stops on a loss that is no number and, now and then, on a collapsed embedding. */
async function look(
  { metrics, embedding }: StepOutput,
  { step, batch, scalars }: { step: number; batch: number; scalars: Readonly<Record<string, number>> },
  guard: Guard | undefined,
  advice: LoopOptions["advice"],
): Promise<Readonly<Record<string, number>>> {
  if (!Number.isFinite(metrics.loss)) {
    throw new UserError(
      `the loss is ${metrics.loss} at step ${step} (learning rate ${scalars.lr?.toPrecision(3)}); ` +
        ((await advice?.()) ?? "try a lower --lr or a longer warm-up"),
      FAILED,
    );
  }
  if (step % SIGNS_EVERY !== 0) return {};
  const signs = await signsOf(embedding);
  const { rows, d } = embedding;
  const diagnosis = guard?.look(step, signs, { rows, d, images: batch });
  if (diagnosis) throw new UserError(diagnosis, FAILED);
  return { embeddingStd: signs.std, effectiveRank: signs.effectiveRank };
}
