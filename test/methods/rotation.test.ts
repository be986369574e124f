import { expect } from "chai";
import { compile } from "../../src/artifact/compile.ts";
import { rotation } from "../../src/methods/rotation.ts";
import type { Schedule } from "../../src/spec.ts";
import { runSchedules, scheduleValue } from "../../src/train/schedules.ts";
import { naiveCrossEntropy, naiveLinear, noiseViews, pixelStep, rowsOf } from "./pixels.ts";
import { batchOf, stepperOf } from "./stepping.ts";

const [N, S] = [3, 4];
const AREA = S * S;
const configOf = (turns: "all" | "one") => rotation.config(16).parse({ turns });
const views = [noiseViews(N, S, "rotation")];
/** Pixels of each image, channel by channel. */
const images = rowsOf({ ...views[0]!, shape: [N, 3 * AREA] });

/** A quarter anticlockwise, channel by channel: what was in the last column comes to the first row. */
const quarter = (image: readonly number[]): number[] =>
  image.map((_, at) => {
    const [c, y, x] = [Math.floor(at / AREA), Math.floor(at / S) % S, at % S];
    return image[c * AREA + x * S + (S - 1 - y)]!;
  });
const turnedBy = (image: readonly number[], k: number): readonly number[] =>
  k === 0 ? image : turnedBy(quarter(image), k - 1);

describe("rotation", () => {
  it("shows all four turns of each image, each pixel as it was and none blended", async () => {
    const { seen } = await pixelStep(rotation, configOf("all"), views, []);
    expect(seen).to.deep.equal([0, 1, 2, 3].flatMap((k) => images.map((image) => turnedBy(image, k))));
    const sorted = (row: readonly number[]) => [...row].sort((a, b) => a - b);
    expect(seen.map(sorted)).to.deep.equal([...images, ...images, ...images, ...images].map(sorted));
  });

  it("has the cross-entropy of the turns that it shows", async () => {
    const { loss, accuracy, seen, weights } = await pixelStep(rotation, configOf("all"), views, []);
    const logits = naiveLinear(seen, weights["head.weight"]!, weights["head.bias"]![0]);
    const wanted = naiveCrossEntropy(logits, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    expect(loss).to.be.closeTo(wanted.loss, 1e-5);
    expect(accuracy).to.be.closeTo(wanted.accuracy, 1e-6);
    // By image in place of by turn.
    expect(loss).not.to.be.closeTo(
      naiveCrossEntropy(logits, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]).loss,
      1e-3,
    );
  });

  it("with one turn takes the view as it is and the turn that was drawn for it", async () => {
    const turn = [2, 0, 3];
    const { loss, seen, weights } = await pixelStep(rotation, configOf("one"), views, [{ turn }]);
    expect(seen).to.deep.equal(images);
    const logits = naiveLinear(seen, weights["head.weight"]!, weights["head.bias"]![0]);
    expect(loss).to.be.closeTo(naiveCrossEntropy(logits, turn).loss, 1e-5);
  });

  it("turns views where it takes one turn, and never those that it turns itself; changes no colours", () => {
    for (const turns of ["all", "one"] as const) {
      const [recipe, ...rest] = rotation.views(configOf(turns), 16);
      expect(rest).to.be.empty;
      expect(recipe!.turn).to.equal(turns === "one");
      expect([recipe!.jitter.p, recipe!.grayscale, recipe!.blur.p, recipe!.solarize]).to.deep.equal([
        0, 0, 0, 0,
      ]);
    }
  });

  it("takes all turns and wide crops of small images, one turn and any crop of large ones", () => {
    expect(rotation.config(32).parse({})).to.deep.equal({ turns: "all", cropScale: 0.6 });
    expect(rotation.config(224).parse({})).to.deep.equal({ turns: "one", cropScale: 0.08 });
  });

  it("trains small images with Nesterov's momentum at the paper's rates", () => {
    const { manifest } = compile({ method: "rotation", encoder: "resnet20", imageSize: 16 });
    expect(manifest.optimizer).to.deep.include({ name: "sgd" });
    expect(manifest.optimizer.config).to.deep.include({ nesterov: true, momentum: 0.9, weightDecay: 5e-4 });
    const rates = { batch: 128, lr: null, weightDecay: null, warmupEpochs: null };
    const lr = runSchedules(manifest.scalars, rates).lr as Schedule;
    const at = (epoch: number) =>
      scheduleValue(lr, { step: epoch * 390, steps: 200 * 390, stepsPerEpoch: 390, images: 50_000 });
    const wanted = [0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008];
    [0, 59, 60, 119, 120, 159, 160, 199].forEach((epoch, i) => {
      expect(at(epoch), `epoch ${epoch}`).to.be.closeTo(wanted[i]!, 1e-9);
    });
  });

  for (const turns of ["all", "one"] as const) {
    it(`learns with resnet20 and ${turns === "all" ? "all turns" : "one turn"}`, async () => {
      const artifact = compile({ method: "rotation", encoder: "resnet20", imageSize: 16, config: { turns } });
      const stepper = await stepperOf(artifact);
      const images = turns === "all" ? 6 : 16;
      const batch = batchOf(artifact, images, 16);
      let state = stepper.state(1);
      const losses: number[] = [];
      for (let i = 0; i < 20; i++) {
        const { outputs, metrics, next } = await stepper.step(state, batch, { lr: 0.05, weightDecay: 5e-4 });
        expect(outputs.embedding!.dims).to.deep.equal([turns === "all" ? 4 * images : images, 64]);
        losses.push(metrics.loss!);
        state = next;
      }
      expect(losses[0]).to.be.within(0.7 * Math.log(4), 2 * Math.log(4));
      expect(losses.at(-1)).to.be.below(0.6 * losses[0]!);
    });
  }
});
