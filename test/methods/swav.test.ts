import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { type CompiledArtifact, compile } from "../../src/artifact/compile.ts";
import { input } from "../../src/graph/tensor.ts";
import type { OptimizerChoice } from "../../src/methods/method.ts";
import { swav } from "../../src/methods/swav.ts";
import { reduceMean } from "../../src/ops/reduce.ts";
import { scopeOver } from "./scope.ts";
import { type Batch, batchOf, type Scalars, type State, type Stepper, stepperOf } from "./stepping.ts";

type Rows = readonly (readonly number[])[];

const [K, DIM, QUEUE] = [20, 16, 8];
const PLAIN: OptimizerChoice = { name: "sgd", lr: 0.1, weightDecay: 0, warmupEpochs: 0 };
const build = (config: object, optimizer: OptimizerChoice = PLAIN): CompiledArtifact =>
  compile({
    method: "swav",
    encoder: "resnet20",
    imageSize: 16,
    optimizer,
    config: { prototypes: K, dim: DIM, hidden: 32, ...config },
  });
const SCALARS: Scalars = {
  lr: 0.1,
  weightDecay: 0,
  temperature: 0.1,
  epsilon: 0.05,
  prototypesTrain: 1,
  queue: 0,
  step: 1,
};

const rowsOf = (t: ort.Tensor): Rows => {
  const [rows, d] = t.dims as [number, number];
  return Array.from({ length: rows }, (_, i) => Array.from(t.data.slice(i * d, (i + 1) * d) as Float32Array));
};
const tensorOf = (rows: Rows) =>
  new ort.Tensor("float32", Float32Array.from(rows.flat()), [rows.length, rows[0]!.length]);
const parts = (rows: Rows, count: number): Rows[] =>
  Array.from({ length: count }, (_, i) =>
    rows.slice((i * rows.length) / count, ((i + 1) * rows.length) / count),
  );
const unit = (rows: Rows): Rows => rows.map((row) => row.map((v) => v / Math.hypot(...row)));
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
const products = (a: Rows, b: Rows): number[][] => a.map((row) => b.map((other) => dot(row, other)));

/** As the authors' code has it. */
function naiveCodes(scores: Rows, epsilon: number): number[][] {
  let q = scores.map((row) => row.map((v) => Math.exp(v / epsilon)));
  for (let i = 0; i < 3; i++) {
    const columns = q[0]!.map((_, j) => q.reduce((sum, row) => sum + row[j]!, 0));
    q = q.map((row) => row.map((v, j) => v / columns[j]!));
    q = q.map((row) => row.map((v) => v / row.reduce((a, b) => a + b)));
  }
  return q;
}

interface Naive {
  readonly crops: number;
  readonly temperature?: number;
  readonly epsilon?: number;
  readonly queues?: readonly Rows[];
  readonly hard?: boolean;
}

/** The loss of embeddings [crops n, dim], its codes, and its gradient with respect to the normalised prototypes. */
function naive(embeddings: Rows, prototypes: Rows, options: Naive) {
  const { crops, temperature = 0.1, epsilon = 0.05, queues, hard = false } = options;
  const p = unit(prototypes);
  const z = parts(embeddings, crops);
  const n = z[0]!.length;
  const scores = z.map((rows) => products(rows, p));
  const codes = [0, 1].map((i) => {
    const q = naiveCodes([...products(queues?.[i] ?? [], p), ...scores[i]!], epsilon).slice(-n);
    return hard ? q.map((row) => row.map((_, j) => Number(j === row.indexOf(Math.max(...row))))) : q;
  });
  let loss = 0;
  const gradient = p.map((row) => row.map(() => 0));
  codes.forEach((q, i) => {
    scores.forEach((rows, v) => {
      if (v === i) return;
      rows.forEach((row, r) => {
        const e = row.map((s) => Math.exp(s / temperature));
        const sum = e.reduce((a, b) => a + b);
        const share = 1 / (2 * (crops - 1) * n);
        row.forEach((_, j) => {
          loss -= share * q[r]![j]! * Math.log(e[j]! / sum);
          const slope = (share * (e[j]! / sum - q[r]![j]!)) / temperature;
          z[v]![r]!.forEach((x, d) => {
            gradient[j]![d]! += slope * x;
          });
        });
      });
    });
  });
  return { loss, gradient, codes: codes.flat() };
}

const greatest = (rows: Rows) => new Set(rows.map((row) => row.indexOf(Math.max(...row))));
const set = (state: State, values: Readonly<Record<string, Rows>>): State =>
  new Map([
    ...state,
    ...Object.entries(values).map(([name, rows]) => [name, tensorOf(rows)] as [string, ort.Tensor]),
  ]);
const farthest = (a: Rows, b: Rows): number =>
  Math.max(...a.flatMap((row, i) => row.map((v, j) => Math.abs(v - b[i]![j]!))));

describe("SwAV", () => {
  const PROTOTYPES = "prototypes.weight";

  describe("a step with two large crops, two small ones and a queue", () => {
    const artifact = build({ smallCrops: 2, smallSize: 8, queue: QUEUE });
    const crops = 4;
    let stepper: Stepper;
    let batch: Batch;
    let state: State;
    before(async () => {
      stepper = await stepperOf(artifact);
      batch = batchOf(artifact, 6, 20);
      state = stepper.state(1);
    });
    const run = (from: State, scalars: Scalars = {}) => stepper.step(from, batch, { ...SCALARS, ...scalars });

    it("has the paper's loss: each large crop's codes, predicted from all other crops", async () => {
      const prototypes = rowsOf(state.get(PROTOTYPES)!);
      for (const [temperature, epsilon] of [
        [0.1, 0.05],
        [0.5, 0.05],
        [0.1, 0.3],
      ] as const) {
        const { outputs, metrics } = await run(state, { temperature, epsilon });
        const z = rowsOf(outputs.embedding!);
        expect(z.length).to.equal(crops * 6);
        for (const row of z) expect(Math.hypot(...row)).to.be.closeTo(1, 1e-5);
        const { loss, codes } = naive(z, prototypes, { crops, temperature, epsilon });
        expect(metrics.loss).to.be.closeTo(loss, 1e-4);
        // Large crops that predict each other alone would give another loss.
        const large = naive(z.slice(0, 12), prototypes, { crops: 2, temperature, epsilon });
        expect(Math.abs(large.loss - loss)).to.be.above(1e-3);
        expect(metrics.usage).to.be.closeTo(greatest(codes).size / K, 1e-6);
        const entropy = codes.map((row) => -row.reduce((sum, v) => sum + v * Math.log(v), 0));
        expect(metrics.codeEntropy).to.be.closeTo(entropy.reduce((a, b) => a + b) / 12, 1e-4);
      }
    });

    it("stays finite where exp(score / epsilon) is not", async () => {
      const { metrics, next } = await run(state, { epsilon: 0.002, temperature: 0.002 });
      expect(Number.isFinite(metrics.loss)).to.equal(true);
      for (const [name, t] of next)
        expect((t.data as Float32Array).every(Number.isFinite), name).to.equal(true);
    });

    it("normalises the prototypes before the step, outside of the gradient", async () => {
      const prototypes = rowsOf(state.get(PROTOTYPES)!);
      const long = prototypes.map((row, i) => row.map((v) => v * (2 + i)));
      const [first, second] = [await run(state), await run(set(state, { [PROTOTYPES]: long }))];
      expect(second.metrics.loss).to.be.closeTo(first.metrics.loss!, 1e-5);
      const { gradient } = naive(rowsOf(first.outputs.embedding!), prototypes, { crops });
      // A gradient through the normalisation would lie across each prototype.
      const along = unit(prototypes).map((row, j) => Math.abs(dot(row, gradient[j]!)));
      expect(Math.max(...along)).to.be.above(0.01);
      const wanted = unit(prototypes).map((row, j) => row.map((v, d) => v - 0.1 * gradient[j]![d]!));
      for (const { next } of [first, second])
        expect(farthest(rowsOf(next.get(PROTOTYPES)!), wanted)).to.be.below(1e-5);
    });

    it("lets the prototypes and their momentum stand still while they are frozen", async () => {
      const { next: begun } = await run(state);
      const { next } = await run(begun, { prototypesTrain: 0 });
      const { next: moved } = await run(begun);
      for (const name of [PROTOTYPES, `momentum.${PROTOTYPES}`]) {
        expect(next.get(name)!.data, name).to.deep.equal(begun.get(name)!.data);
        expect(moved.get(name)!.data, name).not.to.deep.equal(begun.get(name)!.data);
      }
      const other = "projector.3.weight";
      expect(next.get(other)!.data).to.deep.equal(moved.get(other)!.data);
      expect(next.get(other)!.data).not.to.deep.equal(begun.get(other)!.data);
      const { schedule } = build({ freeze: 7 }).manifest.scalars.find((s) => s.name === "prototypesTrain")!;
      expect(schedule).to.deep.equal({ kind: "start", steps: 7, epochs: 0 });
    });

    it("fills its queues from their start only, the newest in front, as long as they are", async () => {
      const still = await run(state);
      for (const name of ["queue0", "queue1"])
        expect((still.next.get(name)!.data as Float32Array).every((v) => v === 0)).to.equal(true);
      const first = await run(state, { queue: 1, lr: 0.1 });
      const second = await run(first.next, { queue: 1 });
      const [z1, z2] = [first, second].map(({ outputs }) => parts(rowsOf(outputs.embedding!), crops));
      for (const i of [0, 1]) {
        const [one, two] = [first, second].map(({ next }) => rowsOf(next.get(`queue${i}`)!));
        expect(one).to.deep.equal([...z1![i]!, Array(DIM).fill(0), Array(DIM).fill(0)]);
        expect(two).to.deep.equal([...z2![i]!, ...z1![i]!.slice(0, 2)]);
      }
    });

    it("takes its queues into the codes once they are full and their time has come, not before", async () => {
      const prototypes = rowsOf(state.get(PROTOTYPES)!);
      const { next: half } = await run(state, { queue: 1, lr: 0 });
      const other = batchOf(artifact, 6, 20, 5);
      const { next: full } = await stepper.step(half, other, { ...SCALARS, queue: 1, lr: 0 });
      const queues = [0, 1].map((i) => rowsOf(full.get(`queue${i}`)!));
      const { outputs, metrics } = await run(full, { queue: 1 });
      const z = rowsOf(outputs.embedding!);
      const [without, withQueue] = [naive(z, prototypes, { crops }), naive(z, prototypes, { crops, queues })];
      expect(Math.abs(without.loss - withQueue.loss)).to.be.above(1e-3);
      expect(metrics.loss).to.be.closeTo(withQueue.loss, 1e-4);
      expect(metrics.usage).to.be.closeTo(greatest(withQueue.codes).size / K, 1e-6);
      // A queue for each crop.
      const swapped = naive(z, prototypes, { crops, queues: [...queues].reverse() });
      expect(Math.abs(metrics.loss! - swapped.loss)).to.be.above(1e-3);
      // Not full, or before its time.
      expect((await run(half, { queue: 1 })).metrics.loss).to.be.closeTo(without.loss, 1e-4);
      expect((await run(full, { queue: 0 })).metrics.loss).to.be.closeTo(without.loss, 1e-4);
    });

    it("takes no gradient from its queues, scored by the prototypes of today", async () => {
      const prototypes = rowsOf(state.get(PROTOTYPES)!);
      const earlier = stepper.state(2);
      const { outputs: before } = await run(earlier);
      const kept = parts(rowsOf(before.embedding!), crops);
      const queues = [0, 1].map((i) => [...kept[i]!, ...kept[i]!.slice(0, 2)]);
      const { outputs, metrics, next } = await run(set(state, { queue0: queues[0]!, queue1: queues[1]! }), {
        queue: 1,
      });
      const { gradient, loss } = naive(rowsOf(outputs.embedding!), prototypes, { crops, queues });
      expect(metrics.loss).to.be.closeTo(loss, 1e-4);
      const wanted = prototypes.map((row, j) => row.map((v, d) => v - 0.1 * gradient[j]![d]!));
      expect(farthest(rowsOf(next.get(PROTOTYPES)!), wanted)).to.be.below(1e-5);
    });

    it("has no jump in its loss when a queue of the batch's own embeddings starts", async () => {
      const eight = batchOf(artifact, QUEUE, 20, 3);
      const before = await stepper.step(state, eight, SCALARS);
      const [queue0, queue1] = parts(rowsOf(before.outputs.embedding!), crops);
      const filled = set(state, { queue0: queue0!, queue1: queue1! });
      const after = await stepper.step(filled, eight, { ...SCALARS, queue: 1 });
      expect(after.metrics.loss).to.be.closeTo(before.metrics.loss!, 1e-5);
    });

    it("keeps its queues in the state, for checkpoints", () => {
      const kept = artifact.manifest.state.filter(({ name }) => name.startsWith("queue"));
      expect(kept.map(({ name, role, shape }) => [name, role, shape])).to.deep.equal([
        ["queue0", "buffer", [QUEUE, DIM]],
        ["queue1", "buffer", [QUEUE, DIM]],
      ]);
      const { schedule } = artifact.manifest.scalars.find(({ name }) => name === "queue")!;
      expect(schedule).to.deep.equal({ kind: "start", steps: 0, epochs: 15 });
      expect(build({}).manifest.state.some(({ name }) => name.startsWith("queue"))).to.equal(false);
    });
  });

  it("has codes that are hard, if asked: all on the greatest after sharing out", async () => {
    const artifact = build({ codes: "hard" });
    const stepper = await stepperOf(artifact);
    const state = stepper.state(1);
    const { outputs, metrics } = await stepper.step(state, batchOf(artifact, 6, 20), SCALARS);
    const [z, prototypes] = [rowsOf(outputs.embedding!), rowsOf(state.get(PROTOTYPES)!)];
    const hard = naive(z, prototypes, { crops: 2, hard: true });
    expect(metrics.loss).to.be.closeTo(hard.loss, 1e-4);
    expect(metrics.codeEntropy).to.be.closeTo(0, 1e-6);
    expect(metrics.usage).to.be.closeTo(greatest(hard.codes).size / K, 1e-6);
    expect(Math.abs(hard.loss - naive(z, prototypes, { crops: 2 }).loss)).to.be.above(0.01);
  });

  it("starts near ln K and learns: the loss of 16 images with fixed views falls", async () => {
    const artifact = compile({ method: "swav", encoder: "resnet20", imageSize: 16 });
    expect(artifact.manifest.optimizer.name).to.equal("adamw");
    const stepper = await stepperOf(artifact);
    const batch = batchOf(artifact, 16, 16);
    let state = stepper.state(1);
    const losses: number[] = [];
    for (let step = 1; step <= 15; step++) {
      const { metrics, next } = await stepper.step(state, batch, { ...SCALARS, lr: 1e-3, step });
      losses.push(metrics.loss!);
      state = next;
    }
    expect(losses[0]! / Math.log(512)).to.be.within(0.8, 1.25);
    expect(losses.at(-1)).to.be.lessThan(losses[0]! - 1);
  });

  describe("built", () => {
    it("encodes all large crops in one batch and all small ones in another", () => {
      const sizes = [16, 16, 8, 8, 8];
      const views = sizes.map((size, i) => input(`view${i}`, "float32", ["n", 3, size, size]));
      const { scope, seen } = scopeOver(views, (x) => reduceMean(x, { axes: [2, 3] })); // [rows, 3]
      const { embedding, metrics } = swav.build(scope, swav.config(32).parse({ prototypes: K }));
      expect(seen.map(({ shape }) => shape)).to.deep.equal([
        ["2*n", 3, 16, 16],
        ["3*n", 3, 8, 8],
      ]);
      expect(embedding.shape).to.deep.equal(["5*n", 128]);
      expect(Object.keys(metrics)).to.deep.equal(["usage", "codeEntropy"]);
      const prototypes = scope.params.filter(({ name }) => name.startsWith("prototypes"));
      expect(prototypes.map(({ name, shape }) => [name, shape])).to.deep.equal([[PROTOTYPES, [K, 128]]]);
    });
  });

  it("has the settings of the paper's ImageNet run and of lightly's CIFAR run", () => {
    const [large, small] = [swav.config(224).parse({}), swav.config(32).parse({})];
    expect(large).to.deep.include({
      prototypes: 3000,
      temperature: 0.1,
      epsilon: 0.05,
      sinkhornIterations: 3,
      queue: 0,
      freeze: 313,
      hidden: 2048,
      dim: 128,
      smallCrops: 6,
      smallSize: 96,
    });
    expect(small).to.deep.include({
      prototypes: 512,
      temperature: 0.1,
      epsilon: 0.05,
      queue: 0,
      smallCrops: 0,
    });
    const views = swav.views(large, 224);
    expect(views.map(({ size, crop, blur }) => [size, ...crop.scale, blur.p])).to.deep.equal([
      ...Array(2).fill([224, 0.14, 1, 0.5]),
      ...Array(6).fill([96, 0.05, 0.14, 0.5]),
    ]);
    expect(views[2]!.jitter).to.deep.equal({
      p: 0.8,
      brightness: 0.8,
      contrast: 0.8,
      saturation: 0.8,
      hue: 0.2,
    });
    expect(swav.views(small, 32).map(({ size, crop }) => [size, ...crop.scale])).to.deep.equal(
      Array(2).fill([32, 0.14, 1]),
    );
    const { name, lr, weightDecay, warmupEpochs, finalLr } = swav.optimizer(224);
    expect([name, lr * (4096 / 256), weightDecay, warmupEpochs]).to.deep.equal(["lars", 4.8, 1e-6, 10]);
    expect(lr * finalLr! * (4096 / 256)).to.be.closeTo(0.0048, 1e-9);
  });
});
