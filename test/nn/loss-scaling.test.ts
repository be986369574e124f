import { expect } from "chai";
import { input } from "../../src/graph/tensor.ts";
import { ZEROS } from "../../src/nn/layers.ts";
import { lossScaling } from "../../src/nn/loss-scaling.ts";
import { Scope } from "../../src/nn/scope.ts";
import { sub } from "../../src/ops/elementwise.ts";
import { compile, floats, type Run } from "../support/run.ts";

const FIRST = { scale: 65_536, good: 0, skipped: 0 };
type Counters = typeof FIRST;

describe("nn/loss-scaling", () => {
  let run: Run;
  const s = new Scope("training");
  before(async () => {
    const w = s.param("w", [2], ZEROS);
    const b = s.param("b", [1], ZEROS);
    const scaling = lossScaling(s);
    const grads = [input("dw", "float32", [2]), input("db", "float32", [1])]; // of the scaled loss
    const [dw, db] = scaling.unscaled(grads);
    s.update(w, sub(w, dw!));
    s.update(b, sub(b, db!));
    const watched = scaling.rest(grads);
    const next = s.all.map((state) => [`${state.name}.next`, state.next!]);
    run = await compile({ ...Object.fromEntries(next), ...watched });
  });

  /** A step on gradients of the scaled loss. */
  async function step(dw: readonly [number, number], db: number, counters: Partial<Counters> = {}) {
    const { scale, good, skipped } = { ...FIRST, ...counters };
    const found = await run({
      ...{ w: floats([5, 7], [2]), b: floats([3], [1]), dw: floats(dw, [2]), db: floats([db], [1]) },
      "lossScaling.scale": floats([scale], []),
      "lossScaling.good": floats([good], []),
      "lossScaling.skipped": floats([skipped], []),
    });
    const numberOf = (name: string) => Number(found[name]!.data[0]);
    return {
      weights: [...(found["w.next"]!.data as Float32Array), numberOf("b.next")],
      scale: numberOf("lossScaling.scale.next"),
      good: numberOf("lossScaling.good.next"),
      skipped: numberOf("lossScaling.skipped.next"),
      watched: [numberOf("lossScale"), numberOf("skipped")],
    };
  }

  it("begins as GradScaler does, and not from another run's scale", () => {
    const counters = s.all.filter(({ role }) => role === "optimizer");
    expect(counters.map(({ name, init }) => [name, init])).to.deep.equal([
      ["lossScaling.scale", { kind: "constant", value: 65_536 }],
      ["lossScaling.good", { kind: "constant", value: 0 }],
      ["lossScaling.skipped", { kind: "constant", value: 0 }],
    ]);
  });

  it("updates by the gradients of the loss itself", async () => {
    expect(await step([2 ** 16, 2 ** 15], -(2 ** 17), { good: 4, skipped: 2 })).to.deep.equal({
      ...{ weights: [4, 6.5, 5], scale: 65_536, good: 5, skipped: 2 },
      watched: [65_536, 2],
    });
  });

  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
    it(`skips a step with a gradient of ${value}, wherever it is, and halves the scale`, async () => {
      const halved = { weights: [5, 7, 3], scale: 32_768, good: 0, skipped: 3, watched: [65_536, 3] };
      expect(await step([1, value], 1, { good: 1999, skipped: 2 })).to.deep.equal(halved);
      expect(await step([1, 1], value, { good: 7, skipped: 2 })).to.deep.equal(halved);
    });

  it("takes gradients as large as float32 holds, whose sum or square is infinite", async () => {
    const { weights, scale } = await step([3e38, 3e38], 3e38, { scale: 2 ** 127 });
    expect(scale).to.equal(2 ** 127);
    expect(weights[2]).to.be.closeTo(3 - 3e38 / 2 ** 127, 1e-6);
  });

  it("doubles the scale after 2000 steps in a row, and counts again", async () => {
    expect(await step([1, 1], 1, { good: 1998 })).to.include({ scale: 65_536, good: 1999 });
    expect(await step([1, 1], 1, { good: 1999 })).to.include({ scale: 131_072, good: 0, skipped: 0 });
  });

  it("keeps the scale finite", async () => {
    expect(await step([1, 1], 1, { scale: 2 ** 127, good: 1999 })).to.include({ scale: 2 ** 127, good: 0 });
  });
});
