import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { compile } from "../../src/artifact/compile.ts";
import { simsiam } from "../../src/methods/simsiam.ts";
import { collapseGuard, type Signs, signsOf } from "../../src/train/signs.ts";
import { scopeOver, vectorViews } from "./scope.ts";
import { type Batch, batchOf, type State, type Stepper, stepperOf } from "./stepping.ts";

const [IMAGES, WIDTH] = [6, 128];
const config = { projection: WIDTH, predictor: 32 };
const spec = { method: "simsiam", encoder: "resnet20", imageSize: 8, config };
const artifact = compile(spec);
const SCALARS = { lr: 0.05, "lr.constant": 0.05, weightDecay: 5e-4 };
const params = artifact.manifest.state.filter(({ role }) => role === "param").map(({ name }) => name);

type Rows = readonly (readonly number[])[];
const rowsOf = (t: ort.Tensor): number[][] => {
  const d = t.dims.at(-1)!;
  return Array.from({ length: t.data.length / d }, (_, i) =>
    Array.from(t.data.slice(i * d, (i + 1) * d) as Float32Array),
  );
};
const moves = (from: State, to: State, name: string) => {
  const [a, b] = [from, to].map((s) => s.get(name)!.data as Float32Array);
  return a!.some((v, i) => v !== b![i]);
};

/** The predictor in double precision: linear, batch normalisation, ReLU, linear with bias. */
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
  const bias = state.get("predictor.3.bias")!.data as Float32Array;
  return times(inner, "predictor.3.weight").map((row) => row.map((v, k) => v + bias[k]!));
}

/** Chen and He 2020, equation 1. */
function distance(p: Rows, z: Rows): number {
  const cosines = p.map((row, i) => {
    const dot = row.reduce((sum, v, k) => sum + v * z[i]![k]!, 0);
    return dot / (Math.hypot(...row) * Math.hypot(...z[i]!));
  });
  return -cosines.reduce((a, b) => a + b) / p.length;
}

describe("SimSiam", () => {
  let stepper: Stepper;
  /** Without its stop-gradient. */
  let open: Stepper;
  let batch: Batch;
  let state: State;
  before(async () => {
    stepper = await stepperOf(artifact);
    open = await stepperOf(compile({ ...spec, config: { ...config, stopGradient: false } }));
    batch = batchOf(artifact, IMAGES, 8);
    state = stepper.state(1);
  });

  it("has the paper's symmetrised loss, with stop-gradient and without", async () => {
    for (const own of [stepper, open]) {
      const { outputs, metrics } = await own.step(state, batch, SCALARS);
      const z = rowsOf(outputs.embedding!);
      const [a, b] = [z.slice(0, IMAGES), z.slice(IMAGES)];
      const halves = [distance(predict(state, a), b), distance(predict(state, b), a)];
      expect(Math.abs(halves[0]! - halves[1]!), "halves that differ").to.be.above(1e-3);
      expect(metrics.loss).to.be.closeTo((halves[0]! + halves[1]!) / 2, 1e-5);
    }
  });

  it("normalises projections by each view's own batch, without scale and bias", async () => {
    const z = rowsOf((await stepper.step(state, batch, SCALARS)).outputs.embedding!);
    for (const view of [z.slice(0, IMAGES), z.slice(IMAGES)])
      for (let k = 0; k < WIDTH; k++) {
        const column = view.map((row) => row[k]!);
        expect(column.reduce((a, b) => a + b) / IMAGES).to.be.closeTo(0, 1e-4);
        expect(column.reduce((a, b) => a + b * b, 0) / IMAGES).to.be.within(0.9, 1.001);
      }
    expect(params.filter((name) => name.startsWith("projector."))).to.deep.equal([
      "projector.0.weight",
      "projector.1.weight",
      "projector.1.bias",
      "projector.3.weight",
    ]);
    expect(artifact.manifest.state.map(({ name }) => name)).to.include("projector.4.running_mean");
  });

  it("passes no gradient through what is predicted", async () => {
    // A predictor whose output does not depend on its input leaves targets as the only way to the encoder.
    const constant = new Map(state);
    for (const [name, value] of [
      ["predictor.1.weight", 0],
      ["predictor.1.bias", 1],
    ] as const) {
      const { data, dims } = state.get(name)!;
      constant.set(name, new ort.Tensor("float32", new Float32Array(data.length).fill(value), dims));
    }
    const scalars = { ...SCALARS, weightDecay: 0 };
    const encoder = params.filter((name) => !name.startsWith("predictor."));
    const { next: stopped } = await stepper.step(constant, batch, scalars);
    const { next: free } = await open.step(constant, batch, scalars);
    expect(moves(constant, stopped, "predictor.3.weight")).to.equal(true);
    expect(encoder.filter((name) => moves(constant, stopped, name))).to.deep.equal([]);
    expect(encoder.filter((name) => moves(constant, free, name))).to.deep.equal(encoder);
  });

  it("keeps the predictor's learning rate constant", async () => {
    const { scalars } = artifact.manifest;
    const rate = (name: string) => scalars.find((scalar) => scalar.name === name)!;
    expect(rate("lr").schedule).to.include({ kind: "cosine", from: 0.12, to: 0 });
    expect(rate("lr.constant")).to.deep.include({
      schedule: { kind: "constant", value: 0.12 },
      batchScaling: "linear",
    });
    const predictor = params.filter((name) => name.startsWith("predictor."));
    const moving = async (scalars: object) => {
      const { next } = await stepper.step(state, batch, { ...SCALARS, ...scalars });
      return params.filter((name) => moves(state, next, name));
    };
    expect(await moving({ lr: 0 })).to.deep.equal(predictor);
    expect(await moving({ "lr.constant": 0 })).to.deep.equal(
      params.filter((name) => !predictor.includes(name)),
    );
  });

  it("collapses without its stop-gradient, and not with it", async () => {
    const batches = Array.from({ length: 50 }, (_, i) => batchOf(artifact, 32, 8, i + 1));
    const signsAfter = async (own: Stepper) => {
      let at = state;
      const signs: Signs[] = [];
      for (const [i, drawn] of batches.entries()) {
        const { outputs, next } = await own.step(at, drawn, SCALARS);
        const data = outputs.embedding!.data as Float32Array;
        if (i >= 35) signs.push(await signsOf({ data, rows: 64, d: WIDTH }));
        at = next;
      }
      return signs;
    };
    /** What the guard says of them, as if they came late enough for it to look. */
    const diagnosis = (signs: readonly Signs[]) => {
      const guard = collapseGuard();
      return signs
        .map((sign, i) => guard.look(1000 + i, sign, { rows: 64, d: WIDTH, images: 32 }))
        .find((said) => said !== undefined);
    };
    const [stopped, free] = [await signsAfter(stepper), await signsAfter(open)];
    // The last normalisation keeps every component's spread, so that all of them become one.
    expect(diagnosis(free)).to.match(/^the representation has collapsed .* an effective rank of 1\.\d;/);
    expect(diagnosis(stopped)).to.equal(undefined);
    const least = Math.min(...stopped.map((sign) => sign.effectiveRank));
    expect(least).to.be.above(3);
  });

  it("encodes each view by itself, with batch statistics of its own", () => {
    const { scope, seen } = scopeOver(vectorViews());
    const { embedding } = simsiam.build(scope, simsiam.config(224).parse({}));
    expect(seen).to.deep.equal(scope.views);
    expect(embedding.shape).to.deep.equal(["2*n", 2048]);
    const shapes = Object.fromEntries(scope.params.map(({ name, shape }) => [name, shape]));
    expect(shapes).to.deep.include({
      "projector.0.weight": [2048, 5],
      "projector.3.weight": [2048, 2048],
      "projector.6.weight": [2048, 2048],
      "predictor.0.weight": [512, 2048],
      "predictor.1.weight": [512],
      "predictor.3.weight": [2048, 512],
      "predictor.3.bias": [2048],
    });
    expect(shapes).not.to.have.any.keys("projector.7.weight", "predictor.4.weight");
  });

  it("has the paper's ImageNet and CIFAR settings", () => {
    const [small, large] = [32, 224].map((size) => simsiam.config(size).parse({}));
    const same = { projection: 2048, predictor: 512, stopGradient: true, cropScale: 0.2 };
    expect(large).to.include({ ...same, layers: 3, blur: 0.5 });
    expect(small).to.include({ ...same, layers: 2, blur: 0 });
    expect(simsiam.optimizer(224)).to.include({ name: "sgd", lr: 0.05, weightDecay: 1e-4, warmupEpochs: 0 });
    expect(simsiam.optimizer(32)).to.include({ name: "sgd", weightDecay: 5e-4 });
    const [first, second] = simsiam.views(large!, 224);
    expect(first).to.deep.equal(second);
    expect(first!.jitter).to.include({ brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 });
  });
});
