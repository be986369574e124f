import { expect } from "chai";
import type * as ort from "onnxruntime-node";
import { type CompiledArtifact, compile } from "../../src/artifact/compile.ts";
import { UserError } from "../../src/errors.ts";
import { methodNamed } from "../../src/methods/index.ts";
import { simclr } from "../../src/methods/simclr.ts";
import { scopeOver, vectorViews } from "./scope.ts";
import { type Batch, batchOf, type Scalars, type State, type Stepper, stepperOf } from "./stepping.ts";

const resnet20 = compile({
  method: "simclr",
  encoder: "resnet20",
  imageSize: 16,
  config: { projection: 32 },
});
const SCALARS: Scalars = { lr: 0.1, weightDecay: 5e-4, temperature: 0.5, step: 1 };

const rowsOf = (t: ort.Tensor): number[][] => {
  const [rows, d] = t.dims as [number, number];
  return Array.from({ length: rows }, (_, i) => Array.from(t.data.slice(i * d, (i + 1) * d) as Float32Array));
};

/** Chen et al. 2020, equation 1: `rows` first holds one view of each image, then the other. */
function naiveLoss(rows: readonly number[][], temperature: number, keepSelf = false): number {
  const n = rows.length / 2;
  const z = rows.map((row) => row.map((v) => v / Math.hypot(...row)));
  const terms = z.map((p, i) => {
    const e = z.map((q) => Math.exp(p.reduce((sum, v, k) => sum + v * q[k]!, 0) / temperature));
    const all = e.reduce((sum, v, k) => sum + (k === i && !keepSelf ? 0 : v), 0);
    return -Math.log(e[(i + n) % (2 * n)]! / all);
  });
  return terms.reduce((a, b) => a + b, 0) / terms.length;
}

async function train(
  artifact: CompiledArtifact,
  steps: number,
  lr: number,
  images = 16,
): Promise<{ losses: number[]; state: State }> {
  const stepper = await stepperOf(artifact);
  const batch = batchOf(artifact, images, artifact.manifest.encoder.imageSize);
  let state = stepper.state(1);
  const losses: number[] = [];
  for (let step = 1; step <= steps; step++) {
    const { metrics, next } = await stepper.step(state, batch, { ...SCALARS, lr, step });
    losses.push(metrics.loss!);
    state = next;
  }
  return { losses, state };
}

describe("SimCLR", () => {
  describe("a step", () => {
    let stepper: Stepper;
    let batch: Batch;
    let state: State;
    before(async () => {
      stepper = await stepperOf(resnet20);
      batch = batchOf(resnet20, 6, 20);
      state = stepper.state(1);
    });

    it("has the paper's loss of its embeddings, over both halves and without a row's similarity with itself", async () => {
      for (const temperature of [0.1, 0.5]) {
        const { outputs, metrics } = await stepper.step(state, batch, { ...SCALARS, temperature });
        const rows = rowsOf(outputs[resnet20.manifest.embedding]!);
        expect(rows.map((row) => row.length)).to.deep.equal(Array(12).fill(32));
        expect(metrics.loss).to.be.closeTo(naiveLoss(rows, temperature), 1e-4);
        expect(metrics.loss).to.be.lessThan(naiveLoss(rows, temperature, true) - 0.01);
      }
    });

    it("is fed its temperature, which changes the loss and not the embeddings", async () => {
      const [warm, cold] = await Promise.all(
        [0.5, 0.1].map((temperature) => stepper.step(state, batch, { ...SCALARS, temperature })),
      );
      expect(Math.abs(warm!.metrics.loss! - cold!.metrics.loss!)).to.be.above(0.05);
      expect(warm!.outputs.embedding!.data).to.deep.equal(cold!.outputs.embedding!.data);
    });

    it("takes the second view of an image, not of its neighbour, as positive", async () => {
      // Equal views of each image: every row's positive lies at similarity 1.
      const views = Object.fromEntries(Object.keys(batch.views).map((name) => [name, batch.views.view0!]));
      const { outputs, metrics } = await stepper.step(state, { ...batch, views }, SCALARS);
      const rows = rowsOf(outputs.embedding!);
      rows.slice(0, 6).forEach((row, i) => {
        row.forEach((v, k) => {
          expect(v).to.be.closeTo(rows[i + 6]![k]!, 1e-4);
        });
      });
      expect(metrics.accuracy).to.equal(1);
    });

    it("puts out a next value for each state tensor, of its shape, and moves every parameter", async () => {
      const { outputs, next } = await stepper.step(state, batch, SCALARS);
      const { manifest } = resnet20;
      const named = [...manifest.metrics, manifest.embedding, ...manifest.state.map((entry) => entry.next)];
      expect([...stepper.session.outputNames].sort()).to.deep.equal(named.sort());
      for (const { name, shape, role, next: output } of manifest.state) {
        expect(outputs[output]!.dims, output).to.deep.equal(shape);
        const [from, to] = [state.get(name)!, next.get(name)!].map((t) => t.data as Float32Array);
        expect(to!.every(Number.isFinite), name).to.equal(true);
        expect(
          to!.some((v, i) => v !== from![i]),
          `${name} (${role}) moves`,
        ).to.equal(true);
      }
    });

    it("stands still at learning rate 0, but for statistics and momentum", async () => {
      const { next } = await stepper.step(state, batch, { ...SCALARS, lr: 0 });
      for (const { name, role } of resnet20.manifest.state) {
        if (role === "param") expect(next.get(name)!.data, name).to.deep.equal(state.get(name)!.data);
      }
    });

    it("gives the same bytes twice", async () => {
      const [first, second] = [
        await stepper.step(state, batch, SCALARS),
        await stepper.step(stepper.state(1), batchOf(resnet20, 6, 20), SCALARS),
      ];
      for (const [name, t] of Object.entries(first.outputs)) {
        expect(t.data, name).to.deep.equal(second.outputs[name]!.data);
      }
      const other = await stepper.step(stepper.state(2), batch, SCALARS);
      expect(other.metrics.loss).not.to.equal(first.metrics.loss);
    });
  });

  it("learns with resnet20 and SGD: the loss of 16 images with fixed views falls", async () => {
    const { losses } = await train(resnet20, 15, 0.1);
    expect(losses[0]).to.be.within(1, 4);
    expect(losses.at(-1)).to.be.lessThan(losses[0]! - 0.7);
  });

  it("learns with resnet20 and LARS", async () => {
    const artifact = compile({ method: "simclr", encoder: "resnet20", imageSize: 16, optimizer: "lars" });
    // Trust ratios of 0.001 want rates far above SGD's.
    const { losses } = await train(artifact, 10, 3);
    expect(losses.at(-1)).to.be.lessThan(losses[0]! - 0.2);
  });

  it("learns with vit-tiny and AdamW", async () => {
    const artifact = compile({ method: "simclr", encoder: "vit-tiny", imageSize: 16 });
    expect(artifact.manifest.optimizer.name).to.equal("adamw");
    expect(artifact.manifest.scalars.map(({ name }) => name)).to.include("step");
    const { losses } = await train(artifact, 5, 5e-4, 8);
    expect(losses.at(-1)).to.be.lessThan(losses[0]! - 0.3);
  });

  describe("built", () => {
    const config = simclr.config(32).parse({});
    it("encodes both views in one batch, so that their statistics are one", () => {
      const { scope, seen } = scopeOver(vectorViews());
      const { embedding, metrics } = simclr.build(scope, config);
      expect(seen.map(({ shape }) => shape)).to.deep.equal([["2*n", 5]]);
      expect(embedding.shape).to.deep.equal(["2*n", 128]);
      expect(Object.keys(metrics)).to.deep.equal(["accuracy"]);
    });

    it("projects through two layers of the features' width, or of that given", () => {
      for (const [hidden, width] of [
        [0, 5],
        [7, 7],
      ]) {
        const { scope } = scopeOver(vectorViews());
        simclr.build(scope, { ...config, hidden: hidden! });
        expect(Object.fromEntries(scope.params.map(({ name, shape }) => [name, shape]))).to.deep.equal({
          "projector.0.weight": [width, 5],
          "projector.1.weight": [width],
          "projector.1.bias": [width],
          "projector.3.weight": [128, width],
        });
      }
    });
  });

  it("has the settings of the paper's ImageNet and CIFAR runs", () => {
    expect(simclr.config(224).parse({})).to.include({
      temperature: 0.1,
      strength: 1,
      blur: 0.5,
      projection: 128,
    });
    expect(simclr.config(32).parse({})).to.include({ temperature: 0.5, strength: 0.5, blur: 0 });
    expect(simclr.optimizer(224)).to.deep.include({
      name: "lars",
      lr: 0.3,
      weightDecay: 1e-6,
      warmupEpochs: 10,
    });
    const [first, second] = simclr.views(simclr.config(224).parse({}), 224);
    expect(first).to.deep.equal(second);
    expect(first!.jitter).to.deep.equal({
      p: 0.8,
      brightness: 0.8,
      contrast: 0.8,
      saturation: 0.8,
      hue: 0.2,
    });
    expect(first!.crop.scale).to.deep.equal([0.08, 1]);
    expect([first!.grayscale, first!.flip, first!.blur.p, first!.solarize]).to.deep.equal([0.2, 0.5, 0.5, 0]);
  });

  it("is found by name, else the nearest is named", () => {
    expect(methodNamed("simclr")).to.equal(simclr);
    expect(() => methodNamed("simlcr")).to.throw(
      UserError,
      'unknown method "simlcr": did you mean "simclr"?',
    );
  });
});
