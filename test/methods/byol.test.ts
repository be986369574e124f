import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { compile } from "../../src/artifact/compile.ts";
import { byol } from "../../src/methods/byol.ts";
import { scheduleValue } from "../../src/train/schedules.ts";
import { scopeOver, vectorViews } from "./scope.ts";
import { type Batch, batchOf, openGraph, type State, type Stepper, stepperOf } from "./stepping.ts";

const IMAGES = 6;
const spec = {
  method: "byol",
  encoder: "resnet20",
  imageSize: 8,
  config: { hidden: 24, projection: 16, momentum: 0.9 },
};
const artifact = compile(spec);
const SCALARS = { lr: 0.03, weightDecay: 2e-3, momentum: 0.9 };
const { state: entries } = artifact.manifest;

type Rows = readonly (readonly number[])[];
const rowsOf = (t: ort.Tensor): number[][] => {
  const d = t.dims.at(-1)!;
  return Array.from({ length: t.data.length / d }, (_, i) =>
    Array.from(t.data.slice(i * d, (i + 1) * d) as Float32Array),
  );
};
const apart = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i]!)), 0);
const values = (state: State, name: string) => state.get(name)!.data as Float32Array;

/** The state with the tensors that `change` gives other values for. */
const changed = (state: State, change: (name: string, value: number) => number): State =>
  new Map(
    [...state].map(([name, t]) => [
      name,
      new ort.Tensor(
        "float32",
        Float32Array.from(t.data as Float32Array, (v) => change(name, v)),
        t.dims,
      ),
    ]),
  );

/** The predictor in double precision: linear, batch normalisation, ReLU, linear. */
function predict(state: State, z: Rows): Rows {
  const times = (rows: Rows, name: string): Rows => {
    const weight = rowsOf(state.get(name)!);
    return rows.map((row) => weight.map((w) => w.reduce((sum, v, k) => sum + v * row[k]!, 0)));
  };
  const hidden = times(z, "predictor.0.weight");
  const mean = hidden[0]!.map((_, k) => hidden.reduce((sum, row) => sum + row[k]!, 0) / z.length);
  const variance = mean.map((m, k) => hidden.reduce((sum, row) => sum + (row[k]! - m) ** 2, 0) / z.length);
  const inner = hidden.map((row) =>
    row.map((v, k) => Math.max(0, (v - mean[k]!) / Math.sqrt(variance[k]! + 1e-5))),
  );
  return times(inner, "predictor.3.weight");
}

/** Grill et al. 2020, equation 2: the mean over the rows of |p / |p| - t / |t||^2. */
function half(p: Rows, t: Rows): number {
  const unit = (row: readonly number[]) => row.map((v) => v / Math.hypot(...row));
  const distances = p.map((row, i) => {
    const [a, b] = [unit(row), unit(t[i]!)];
    return a.reduce((sum, v, k) => sum + (v - b[k]!) ** 2, 0);
  });
  return distances.reduce((a, b) => a + b) / p.length;
}

describe("BYOL", () => {
  let stepper: Stepper;
  let batch: Batch;
  let state: State;
  before(async () => {
    stepper = await stepperOf(artifact);
    batch = batchOf(artifact, IMAGES, 8);
    state = stepper.state(1);
  });

  it("has the paper's loss, both halves added", async () => {
    const { outputs, metrics } = await stepper.step(state, batch, SCALARS);
    const z = rowsOf(outputs.embedding!);
    // At the start the target network is the online one, so its projections are the embeddings.
    const [a, b] = [z.slice(0, IMAGES), z.slice(IMAGES)];
    const halves = [half(predict(state, a), b), half(predict(state, b), a)];
    expect(metrics.loss).to.be.closeTo(halves[0]! + halves[1]!, 1e-4);
    const swapped = { ...batch, views: { view0: batch.views.view1!, view1: batch.views.view0! } };
    expect((await stepper.step(state, swapped, SCALARS)).metrics.loss).to.be.closeTo(metrics.loss!, 1e-5);
    expect(Math.abs(halves[0]! - halves[1]!), "halves that differ").to.be.above(1e-3);
  });

  it("takes targets from the average", async () => {
    const other = changed(state, (name, v) => (name.startsWith("average.encoder.") ? 0.8 * v + 0.01 : v));
    const [plain, moved] = [
      await stepper.step(state, batch, SCALARS),
      await stepper.step(other, batch, SCALARS),
    ];
    expect(moved.outputs.embedding!.data).to.deep.equal(plain.outputs.embedding!.data);
    expect(Math.abs(moved.metrics.loss! - plain.metrics.loss!)).to.be.above(1e-4);
  });

  it("passes no gradient through targets", async () => {
    // A predictor whose output does not depend on its input leaves targets as the only way to the encoder.
    const constant = changed(state, (name, v) =>
      name === "predictor.1.weight" ? 0 : name === "predictor.1.bias" ? 1 : v,
    );
    // At momentum 0 targets are computed with the weights themselves.
    const { next } = await stepper.step(constant, batch, { ...SCALARS, weightDecay: 0, momentum: 0 });
    for (const { name, role } of entries) {
      if (role !== "param") continue;
      const moved = apart(values(next, name), values(constant, name));
      if (name === "predictor.3.weight") expect(moved, name).to.be.above(1e-4);
      else if (!name.startsWith("predictor.")) expect(moved, name).to.equal(0);
    }
  });

  it("moves the target by its average alone, at the start of a step", async () => {
    const averages = entries.filter(({ role }) => role === "average").map(({ name }) => name);
    const averaged = entries
      .filter(({ name, role }) => role === "param" && !name.startsWith("predictor."))
      .map(({ name }) => `average.${name}`);
    expect(averages.sort(), "all but the predictor").to.deep.equal(averaged.sort());
    expect(entries.some(({ name, role }) => role === "optimizer" && name.includes("average."))).to.equal(
      false,
    );
    const first = await stepper.step(state, batch, { ...SCALARS, lr: 1 });
    const second = await stepper.step(first.next, batch, { ...SCALARS, lr: 1 });
    for (const name of averages) {
      const own = name.replace("average.", "");
      expect(apart(values(first.next, name), values(state, name)), name).to.be.below(1e-6);
      const wanted = values(first.next, name).map((v, i) => 0.9 * v + 0.1 * values(first.next, own)[i]!);
      expect(apart(values(second.next, name), wanted), name).to.be.below(1e-5);
    }
    const moved = averages.filter((name) => apart(values(second.next, name), values(state, name)) > 1e-4);
    expect(moved.length).to.be.above(averages.length / 2);
  });

  it("gives the target batch statistics of its own, which are not averaged", async () => {
    const buffers = entries.filter(({ role }) => role === "buffer").map(({ name }) => name);
    const own = buffers.filter((name) => !name.startsWith("average.") && !name.startsWith("predictor."));
    expect(buffers.filter((name) => name.startsWith("average."))).to.have.length(own.length);
    const other = changed(state, (name, v) =>
      name.startsWith("average.") && name.endsWith("weight") ? 0.5 * v : v,
    );
    const { next } = await stepper.step(other, batch, SCALARS);
    const mean = "projector.1.running_mean";
    expect(apart(values(next, mean), values(next, `average.${mean}`))).to.be.above(1e-3);
  });

  it("takes the target's momentum to 1 by a cosine", () => {
    const { schedule } = artifact.manifest.scalars.find(({ name }) => name === "momentum")!;
    const at = (step: number) =>
      scheduleValue(schedule, { step, steps: 1000, stepsPerEpoch: 10, images: 100 });
    expect(at(0)).to.equal(0.9);
    expect(at(500)).to.be.closeTo(0.95, 1e-12);
    expect(at(250)).to.be.closeTo(1 - (0.1 * (Math.cos(Math.PI / 4) + 1)) / 2, 1e-12);
    expect(at(999)).to.be.within(0.9999, 1);
  });

  it("trains the predictor at the rate of the rest", async () => {
    expect(artifact.manifest.scalars.map(({ name }) => name).sort()).to.deep.equal([
      "lr",
      "momentum",
      "weightDecay",
    ]);
    const { next } = await stepper.step(state, batch, { ...SCALARS, lr: 0 });
    for (const { name, role } of entries) {
      if (role === "param") expect(values(next, name), name).to.deep.equal(values(state, name));
    }
  });

  it("encodes each view by itself, with batch statistics of its own", () => {
    const { scope, seen } = scopeOver(vectorViews());
    const { embedding } = byol.build(scope, byol.config(32).parse({}));
    expect(seen).to.deep.equal([...scope.views, ...scope.views]);
    expect(embedding.shape).to.deep.equal(["2*n", 256]);
  });

  it("learns: the loss of images with fixed views falls", async () => {
    let at = state;
    const losses: number[] = [];
    for (let i = 0; i < 20; i++) {
      const { metrics, next } = await stepper.step(at, batch, SCALARS);
      losses.push(metrics.loss!);
      at = next;
    }
    expect(losses[0]).to.be.within(2, 6);
    expect(losses.at(-1)).to.be.below(losses[0]! - 1);
  });

  it("exports the online encoder", async () => {
    const { inputNames } = await openGraph(artifact.graphs.encode);
    expect(inputNames.some((name) => name.startsWith("average."))).to.equal(false);
  });

  it("has the paper's settings, and lightly's for small images", () => {
    const [small, large] = [32, 224].map((size) => byol.config(size).parse({}));
    expect(large).to.include({ momentum: 0.996, hidden: 4096, projection: 256 });
    expect(small).to.include({ momentum: 0.99, hidden: 1024, projection: 256 });
    expect(byol.optimizer(224)).to.include({ name: "lars", lr: 0.2, weightDecay: 1e-6, warmupEpochs: 10 });
    // 0.12 and 5e-4 of a loss that is a quarter as steep.
    expect(byol.optimizer(32)).to.include({ name: "sgd", lr: 0.12 / 4, weightDecay: 5e-4 * 4 });
    const [first, second] = byol.views(large!, 224);
    expect([first, second].map((view) => [view!.blur.p, view!.solarize])).to.deep.equal([
      [1, 0],
      [0.1, 0.2],
    ]);
    for (const view of [first, ...byol.views(small!, 32)]) {
      expect(view!.jitter).to.deep.equal({
        p: 0.8,
        brightness: 0.4,
        contrast: 0.4,
        saturation: 0.2,
        hue: 0.1,
      });
      expect([view!.crop.scale, view!.grayscale, view!.flip]).to.deep.equal([[0.08, 1], 0.2, 0.5]);
    }
    expect(byol.views(small!, 32).map(({ blur, solarize }) => [blur.p, solarize])).to.deep.equal([
      [0, 0],
      [0, 0],
    ]);
  });
});
