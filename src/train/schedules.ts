/** Values of scalars over a run. */
import type { ScalarEntry, Schedule } from "../spec.ts";

export interface Moment {
  readonly step: number;
  /** Of the whole run. */
  readonly steps: number;
  readonly stepsPerEpoch: number;
  /** That the run trains on. */
  readonly images: number;
}

/**
 * The schedule's value for one step.
 *
 * Steps count from 0, the last is `steps` - 1. The warm-up takes W = round(warmupEpochs * stepsPerEpoch) steps, at most
 * `steps`: step s < W gets from * (s + 1) / W, so no step runs at 0 and step W - 1 is the first at `from`. The cosine
 * then starts at step W and would reach `to` at step `steps`, one after the last.
 */
export function scheduleValue(schedule: Schedule, at: Moment): number {
  switch (schedule.kind) {
    case "constant":
      return schedule.value;
    case "step":
      return at.step + 1;
    case "images":
      return at.images;
    case "start":
      return at.step >= schedule.steps && at.step >= Math.round(schedule.epochs * at.stepsPerEpoch) ? 1 : 0;
    case "linear": {
      const whole = Math.round(schedule.epochs * at.stepsPerEpoch);
      return at.step >= whole
        ? schedule.to
        : schedule.from + ((schedule.to - schedule.from) * at.step) / whole;
    }
    default:
      return warmed(schedule, at);
  }
}

function warmed(schedule: Extract<Schedule, { warmupEpochs: number }>, at: Moment): number {
  const { from } = schedule;
  const warmup = Math.min(Math.round(schedule.warmupEpochs * at.stepsPerEpoch), at.steps);
  if (at.step < warmup) return (from * (at.step + 1)) / warmup;
  switch (schedule.kind) {
    case "cosine": {
      const t = Math.min(1, (at.step - warmup) / Math.max(1, at.steps - warmup));
      return schedule.to + ((from - schedule.to) * (1 + Math.cos(Math.PI * t))) / 2;
    }
    case "steps": {
      // Rounded, because 0.07 * 100 lies a little above 7.
      const drops = schedule.at.filter((share) => at.step >= Math.round(share * at.steps)).length;
      return from * schedule.factor ** drops;
    }
  }
}

/** What a run sets anew; null keeps the artifact's. */
export interface Rates {
  /** Images a step. */
  readonly batch: number;
  readonly lr: number | null;
  /** Of the scalar "lr.head", where there is one. */
  readonly headLr?: number | null | undefined;
  readonly weightDecay: number | null;
  readonly warmupEpochs: number | null;
}

/** The schedule of each scalar over a run: the artifact's, grown with the batch, with the run's own rates in place. */
export function runSchedules(
  scalars: readonly ScalarEntry[],
  { batch, lr, headLr = null, weightDecay, warmupEpochs }: Rates,
): Record<string, Schedule> {
  const own: Readonly<Record<string, number | null>> = {
    lr,
    "lr.constant": lr,
    "lr.head": headLr,
    weightDecay,
  };
  return Object.fromEntries(
    scalars.map(({ name, schedule, batchScaling }) => {
      const factor = batchScaling === "linear" ? batch / 256 : 1;
      const warmed =
        (name === "lr" || name === "lr.head") && warmupEpochs !== null && "warmupEpochs" in schedule
          ? { ...schedule, warmupEpochs }
          : schedule;
      return [name, scaled(warmed, factor, own[name] ?? null)];
    }),
  );
}

/** Multiplied by `factor`, or with its peak moved to `peak`. */
function scaled(schedule: Schedule, factor: number, peak: number | null): Schedule {
  switch (schedule.kind) {
    case "constant":
      return { ...schedule, value: peak ?? schedule.value * factor };
    case "cosine": {
      const from = peak ?? schedule.from * factor;
      return {
        ...schedule,
        from,
        to: schedule.from === 0 ? schedule.to : schedule.to * (from / schedule.from),
      };
    }
    case "steps":
      return { ...schedule, from: peak ?? schedule.from * factor };
    default:
      return schedule;
  }
}
