/** Trains a run for longer than it was planned for. */
import { expected } from "../errors.ts";
import type { Manifest } from "../spec.ts";
import { plannedSteps, type RunConfig } from "../train/run-folder.ts";
import { runSchedules, scheduleValue } from "../train/schedules.ts";
import { flagOf } from "./compare.ts";
import type { TrainOptions } from "./train-options.ts";

export interface Extended {
  readonly config: RunConfig;
  /** What has changed, a line at most. */
  readonly report: readonly string[];
}

/**
 * The run's configuration with the extension that is asked for, which holds from step `from` on. It counts from the
 * length that the run began with, so that the same command may be given again.
 * @throws UserError if it is less than one before, or no length.
 */
export function extended(
  config: RunConfig,
  manifest: Manifest,
  { extendSteps, extendEpochs }: Pick<TrainOptions, "extendSteps" | "extendEpochs">,
  from: number,
): Extended {
  const given = extendSteps ?? extendEpochs;
  if (given === undefined) return { config, report: [] };
  const flag = flagOf(extendSteps === undefined ? "extendEpochs" : "extendSteps");
  if (extendSteps !== undefined && extendEpochs !== undefined)
    throw expected(flag, `it or ${flagOf("extendEpochs")}`, "both");
  const stepsPerEpoch = Math.floor(config.images / config.batch);
  const by = extendSteps ?? Math.ceil(given * stepsPerEpoch);
  if (!Number.isSafeInteger(by) || by < 1) throw expected(flag, "a length above 0", `${given}`);
  const { steps, extensions = [] } = config;
  const before = plannedSteps(config);
  const counted = `counted from the ${steps} steps that it began with`;
  if (steps + by < before)
    throw expected(flag, `${before - steps} steps or more, as said before, ${counted}`, `${by}`);
  if (steps + by === before) return { config, report: [`extended by ${by} steps already, ${counted}`] };
  const longer = { ...config, extensions: [...extensions, { at: from, by }] };
  const { lr } = runSchedules(manifest.scalars, config);
  const rate = (step: number) => {
    const moment = { step, steps: plannedSteps(longer, step), stepsPerEpoch, images: config.images };
    return `${scheduleValue(lr!, moment).toPrecision(3)} at step ${step + 1}`;
  };
  const jump = from === 0 ? `starts from ${rate(0)}` : `goes from ${rate(from - 1)} to ${rate(from)}`;
  const report = `extended from ${before} to ${steps + by} steps, over which schedules are planned now: the learning rate ${jump}`;
  return { config: longer, report: [report] };
}
