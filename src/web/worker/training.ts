/** A training on the page's images: the loop of Node's, one step at a time. */
import { epochOrders } from "../../data/order.ts";
import { UserError } from "../../errors.ts";
import { initialState, type StateMap } from "../../runtime/state.ts";
import type { Trainer } from "../../runtime/training.ts";
import { batchOf } from "../../train/batch.ts";
import { type Draws, drawStep } from "../../train/draws.ts";
import { recentRate } from "../../train/progress.ts";
import { runSchedules, scheduleValue } from "../../train/schedules.ts";
import type { Answer, Settings, Squares } from "../messages.ts";
import type { Beside } from "./beside.ts";
import { checkSquares, taken } from "./images.ts";
import type { Runtime } from "./runtime.ts";
import { openTrainer } from "./trainer.ts";

export interface Training {
  readonly images: Squares;
  /** With the batch that the artifact takes. */
  readonly settings: Settings;
  /** Steps done. */
  readonly step: number;
  readonly trainer: Trainer;
  /** Runs the next step. @throws UserError if its loss is no number */
  advance(): Promise<Advanced>;
  close(): Promise<void>;
}

export interface Advanced {
  readonly answer: Extract<Answer, { kind: "step" }>;
  readonly milliseconds: number;
  /** The images that the step saw, uint8 [batch, side, side, 3], and how its views were drawn. */
  readonly seen: Uint8Array;
  readonly views: Draws["views"];
}

/** Where a training stands that goes on. */
export interface Standing {
  readonly step: number;
  readonly state: StateMap;
}

/** @throws UserError if the artifact cannot be trained on these images, or the backend cannot run it */
export async function openTraining(
  beside: Beside,
  runtime: Runtime,
  images: Squares,
  given: Settings,
  standing?: Standing,
): Promise<Training> {
  const { manifest, first } = beside;
  const count = images.names.length;
  checkSquares(images, manifest.encoder.side);
  const unit = manifest.batchMultiple;
  const fitting = Math.floor(Math.min(given.batch, count) / unit) * unit;
  const batch = batchOf(manifest, count, fitting > 0 ? { batch: fitting } : {});
  const settings = { ...given, batch };
  const { seed, steps } = settings;
  const state = standing?.state ?? initialState(manifest, { seed, images: count }, first);
  const trainer = await openTrainer(beside, runtime, state, { images: count, batch });

  const stepsPerEpoch = Math.floor(count / batch);
  const orderOf = epochOrders(count, seed);
  const schedules = runSchedules(manifest.scalars, {
    batch,
    lr: null,
    weightDecay: null,
    warmupEpochs: null,
  });
  const rate = recentRate();
  const { side } = images;
  let step = standing?.step ?? 0;
  return {
    images,
    settings,
    trainer,
    get step() {
      return step;
    },
    async advance() {
      const began = performance.now();
      const epoch = Math.floor(step / stepsPerEpoch);
      const from = (step % stepsPerEpoch) * batch;
      const indices = orderOf(epoch).slice(from, from + batch);
      const sizes = indices.map(() => ({ height: side, width: side }));
      const seen = taken(images, indices);
      const draws = drawStep(manifest, seed, { indices, sizes, epoch, step }, count);
      const at = { step, steps, stepsPerEpoch, images: count };
      const scalars = manifest.scalars.map(
        ({ name }) => [name, scheduleValue(schedules[name]!, at)] as const,
      );
      const { metrics } = await trainer.step({
        images: seen,
        height: side,
        width: side,
        indices,
        ...draws,
        scalars: Object.fromEntries(scalars),
      });
      step++;
      if (!Number.isFinite(metrics.loss))
        throw new UserError(
          `the loss is ${metrics.loss} at step ${step}: start anew, with another batch or seed`,
        );
      const milliseconds = performance.now() - began;
      rate.add(batch, milliseconds / 1000);
      return {
        answer: { kind: "step", step, steps, metrics, imagesPerSecond: rate.perSecond },
        milliseconds,
        seen,
        views: draws.views,
      };
    },
    close: () => trainer.close(),
  };
}
