/** Values of scalars over a run. */
import type { Schedule } from "../spec.ts";

/**
 * The schedule's value for one step.
 *
 * Steps count from 0, the last is `steps` - 1. The warm-up takes W = round(warmupEpochs * stepsPerEpoch) steps, at most
 * `steps`: step s < W gets from * (s + 1) / W, so no step runs at 0 and step W - 1 is the first at `from`. The cosine
 * then starts at step W and would reach `to` at step `steps`, one after the last.
 */
export function scheduleValue(
  schedule: Schedule,
  at: { readonly step: number; readonly steps: number; readonly stepsPerEpoch: number },
): number {
  if (schedule.kind === "constant") return schedule.value;
  if (schedule.kind === "step") return at.step + 1;
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
