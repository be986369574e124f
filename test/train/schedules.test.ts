import { expect } from "chai";
import type { Schedule } from "../../src/spec.ts";
import { runSchedules, scheduleValue } from "../../src/train/schedules.ts";

const over = (schedule: Schedule, steps: number, stepsPerEpoch: number) =>
  Array.from({ length: steps }, (_, step) =>
    scheduleValue(schedule, { step, steps, stepsPerEpoch, images: 1000 }),
  );

function near(found: readonly number[], wanted: readonly number[]) {
  expect(found).to.have.length(wanted.length);
  for (const [i, value] of wanted.entries()) expect(found[i], `step ${i}`).to.be.closeTo(value, 1e-12);
}

describe("train/schedules", () => {
  it("keeps a constant", () => {
    near(over({ kind: "constant", value: 0.07 }, 3, 1), [0.07, 0.07, 0.07]);
  });

  it("warms up in a line, then follows half a cosine", () => {
    const schedule = { kind: "cosine", from: 8, to: 0, warmupEpochs: 2 } as const;
    // W = 4; then t = 0, 1/4, 1/2, 3/4 and cos(pi t) = 1, sqrt(1/2), 0, -sqrt(1/2).
    const r = 4 * Math.SQRT1_2;
    near(over(schedule, 8, 2), [2, 4, 6, 8, 8, 4 + r, 4, 4 - r]);
  });

  it("rises to `to` as well, without a warm-up", () => {
    const schedule = { kind: "cosine", from: 0.996, to: 1, warmupEpochs: 0 } as const;
    // 1 - 0.002 (1 + cos(pi t)) at t = 0, 1/3, 2/3.
    near(over(schedule, 3, 1), [0.996, 0.997, 0.999]);
    expect(scheduleValue(schedule, { step: 3, steps: 3, stepsPerEpoch: 1, images: 9 })).to.equal(1);
    expect(scheduleValue(schedule, { step: 9, steps: 3, stepsPerEpoch: 1, images: 9 })).to.equal(1);
  });

  it("bounds the warm-up by the run and rounds it to whole steps", () => {
    const schedule = { kind: "cosine", from: 4, to: 0, warmupEpochs: 10 } as const;
    near(over(schedule, 4, 100), [1, 2, 3, 4]);
    // 0.25 * 10 = 2.5 epochs' steps round to 3: no step above `from`.
    near(over({ ...schedule, warmupEpochs: 0.25 }, 4, 10), [4 / 3, 8 / 3, 4, 4]);
    near(over({ ...schedule, warmupEpochs: 0 }, 1, 1), [4]);
  });

  it("take a run's own rates, the warm-up for the learning rate alone", () => {
    const cosine = { kind: "cosine", from: 0.4, to: 0.004, warmupEpochs: 10 } as const;
    const scalars = [
      { name: "lr", schedule: cosine, batchScaling: "linear" },
      { name: "lr.constant", schedule: { kind: "constant", value: 0.4 }, batchScaling: "linear" },
      { name: "weightDecay", schedule: { kind: "constant", value: 0.1 }, batchScaling: "none" },
      { name: "momentum", schedule: { ...cosine, from: 0.99, to: 1, warmupEpochs: 0 }, batchScaling: "none" },
    ] as const;
    const kept = runSchedules(scalars, { batch: 512, lr: null, weightDecay: null, warmupEpochs: null });
    expect(kept.lr).to.deep.equal({ ...cosine, from: 0.8, to: 0.008 });
    expect(kept["lr.constant"]).to.deep.equal({ kind: "constant", value: 0.8 });
    expect(kept.momentum).to.deep.equal(scalars[3].schedule);
    const own = runSchedules(scalars, { batch: 512, lr: 0.2, weightDecay: 0.3, warmupEpochs: 2 });
    expect(own.lr).to.deep.equal({ ...cosine, from: 0.2, to: 0.002, warmupEpochs: 2 });
    expect(own["lr.constant"]).to.deep.equal({ kind: "constant", value: 0.2 });
    expect(own.weightDecay).to.deep.equal({ kind: "constant", value: 0.3 });
    expect(own.momentum).to.deep.equal(scalars[3].schedule);
  });

  it("drops at its shares of the run", () => {
    const schedule = { kind: "steps", from: 1, factor: 0.1, at: [0.6, 0.8], warmupEpochs: 0 } as const;
    near(over(schedule, 10, 1), [1, 1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]);
    near(over({ ...schedule, warmupEpochs: 2 }, 5, 1), [0.5, 1, 1, 0.1, 0.01]);
  });

  it("counts steps, and knows the number of images", () => {
    near(over({ kind: "step" }, 3, 1), [1, 2, 3]);
    near(over({ kind: "images" }, 2, 1), [1000, 1000]);
  });

  it("starts once both its steps and its epochs are done", () => {
    near(over({ kind: "start", steps: 3, epochs: 0 }, 5, 2), [0, 0, 0, 1, 1]);
    near(over({ kind: "start", steps: 0, epochs: 2 }, 6, 2), [0, 0, 0, 0, 1, 1]);
    near(over({ kind: "start", steps: 5, epochs: 1 }, 6, 2), [0, 0, 0, 0, 0, 1]);
    near(over({ kind: "start", steps: 0, epochs: 0 }, 1, 2), [1]);
  });

  it("goes in a line and stays", () => {
    near(over({ kind: "linear", from: 4, to: 8, epochs: 2 }, 6, 2), [4, 5, 6, 7, 8, 8]);
    near(over({ kind: "linear", from: 4, to: 8, epochs: 0 }, 2, 2), [8, 8]);
  });

  it("drops at a share's step although 0.07 * 100 lies above 7", () => {
    const values = over({ kind: "steps", from: 1, factor: 0.5, at: [0.07], warmupEpochs: 0 }, 100, 1);
    expect([values[6], values[7]]).to.deep.equal([1, 0.5]);
  });
});
