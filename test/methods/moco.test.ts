import { expect } from "chai";
import type * as ort from "onnxruntime-node";
import { compile } from "../../src/artifact/compile.ts";
import { UserError } from "../../src/errors.ts";
import { moco } from "../../src/methods/moco.ts";
import {
  type Batch,
  batchOf,
  openGraph,
  type Scalars,
  type State,
  type Stepper,
  stepperOf,
} from "./stepping.ts";

const [IMAGES, DIM, QUEUE] = [4, 8, 12];
const config = { queue: QUEUE, dim: DIM, splits: 2, momentum: 0.9 };
const spec = { method: "moco", encoder: "resnet20", imageSize: 16, config };
const artifact = compile(spec);
const SCALARS: Scalars = { lr: 0.1, weightDecay: 5e-4, temperature: 0.1, momentum: 0.9 };

const rowsOf = (t: ort.Tensor): number[][] => {
  const d = t.dims.at(-1)!;
  return Array.from({ length: t.data.length / d }, (_, i) =>
    Array.from(t.data.slice(i * d, (i + 1) * d) as Float32Array),
  );
};
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);

/** He et al. 2019, equation 1, with the queue as negatives. */
function naiveLoss(
  queries: readonly number[][],
  keys: readonly number[][],
  queue: readonly number[][],
  temperature: number,
): number {
  const terms = queries.map((q, i) => {
    const logits = [dot(q, keys[i]!), ...queue.map((k) => dot(q, k))].map((v) => v / temperature);
    return Math.log(logits.reduce((sum, v) => sum + Math.exp(v - logits[0]!), 0));
  });
  return terms.reduce((a, b) => a + b, 0) / terms.length;
}

const apart = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, v, i) => Math.max(most, Math.abs(v - b[i]!)), 0);

describe("MoCo", () => {
  let stepper: Stepper;
  let batch: Batch;
  let state: State;
  before(async () => {
    stepper = await stepperOf(artifact);
    batch = batchOf(artifact, IMAGES, 20);
    state = stepper.state(1);
  });
  /** The newest keys stand first in the queue. */
  const keysAfter = (next: State) => rowsOf(next.get("queue")!).slice(0, IMAGES);

  it("scores queries against their keys and the queue as it was", async () => {
    for (const temperature of [0.07, 0.5]) {
      const { outputs, metrics, next } = await stepper.step(state, batch, { ...SCALARS, temperature });
      const queries = rowsOf(outputs.embedding!);
      const [before, after] = [state, next].map((s) => rowsOf(s.get("queue")!));
      expect(metrics.loss).to.be.closeTo(naiveLoss(queries, keysAfter(next), before!, temperature), 1e-4);
      // Were the keys enqueued first, each would meet itself as a negative.
      expect(metrics.loss).to.be.lessThan(naiveLoss(queries, keysAfter(next), after!, temperature) - 0.01);
    }
  });

  it("holds keys of unit length, the newest first; the oldest fall out, none is cut at the end", async () => {
    let at = state;
    const seen: number[][] = [];
    // 4 of 12 a step, then batches of 8, which do not divide 12.
    for (const n of [4, 4, 8, 8]) {
      const before = rowsOf(at.get("queue")!);
      const { next } = await stepper.step(at, batchOf(artifact, n, 20, n), SCALARS);
      const queue = rowsOf(next.get("queue")!);
      expect(queue).to.have.length(QUEUE);
      expect(queue.slice(n)).to.deep.equal(before.slice(0, QUEUE - n));
      for (const key of queue) expect(Math.hypot(...key)).to.be.closeTo(1, 1e-5);
      seen.push(...queue.slice(0, n));
      at = next;
    }
    expect(rowsOf(at.get("queue")!)).to.deep.equal(
      [...seen.slice(-8), ...seen.slice(-16, -8)].slice(0, QUEUE),
    );
  });

  it("averages first, parameters alone, and takes keys from the average", async () => {
    const moved = new Map(state);
    for (const { name, role } of artifact.manifest.state) {
      if (role !== "average") continue;
      const { data, dims } = state.get(name)!;
      const other = Float32Array.from(data as Float32Array, (v) => 0.5 * v + 0.01);
      moved.set(name, new (state.get(name)!.constructor as typeof ort.Tensor)("float32", other, dims));
    }
    const { next } = await stepper.step(moved, batch, SCALARS);
    for (const { name, role } of artifact.manifest.state) {
      if (role !== "average") continue;
      const own = state.get(name.replace("average.", ""))!.data as Float32Array;
      const before = moved.get(name)!.data as Float32Array;
      // With the weights at the start of the step, not those that the optimizer leaves.
      const wanted = own.map((v, i) => 0.9 * before[i]! + 0.1 * v);
      expect(apart(next.get(name)!.data as Float32Array, wanted), name).to.be.below(1e-6);
    }
    const buffers = artifact.manifest.state.filter(({ role }) => role === "buffer").map(({ name }) => name);
    const statistics = buffers.filter((name) => name.endsWith("running_mean"));
    for (const name of statistics.filter((name) => name.startsWith("average."))) {
      const twin = name.replace("average.", "");
      expect(statistics).to.include(twin);
      expect(next.get(name)!.data, "own statistics, of its own views").not.to.deep.equal(
        next.get(twin)!.data,
      );
    }
    const plain = await stepper.step(state, batch, SCALARS);
    expect(keysAfter(next), "keys of the average").not.to.deep.equal(keysAfter(plain.next));
  });

  it("passes no gradient through keys", async () => {
    // At momentum 1 the average is a constant, and at 0 the weights themselves: equal at the start of training.
    const [constant, live] = await Promise.all(
      [1, 0].map((momentum) => stepper.step(state, batch, { ...SCALARS, momentum })),
    );
    for (const { name, role } of artifact.manifest.state) {
      if (role !== "param") continue;
      const [a, b] = [constant!, live!].map(({ next }) => next.get(name)!.data as Float32Array);
      expect(apart(a!, b!), name).to.be.below(1e-6);
    }
  });

  it("shuffles keys among the parts of the batch and gives each its image back", async () => {
    const order = (rows: readonly number[]) => {
      const { shuffle } = batch.views;
      const Tensor = shuffle!.constructor as typeof ort.Tensor;
      return {
        ...batch,
        views: { ...batch.views, shuffle: new Tensor("int64", BigInt64Array.from(rows, BigInt), [4]) },
      };
    };
    const keys = async (rows: readonly number[]) =>
      keysAfter((await stepper.step(state, order(rows), SCALARS)).next);
    // Parts hold the rows 0, 2 and 1, 3. Orders that keep images together leave keys as they are, in their places.
    const plain = await keys([0, 1, 2, 3]);
    const within = await keys([3, 2, 1, 0]);
    within.forEach((key, i) => {
      for (const [j, v] of key.entries()) expect(v).to.be.closeTo(plain[i]![j]!, 1e-5);
    });
    // Other company, other statistics, other keys: what shuffling is for.
    const across = await keys([0, 2, 1, 3]);
    const distance = Math.hypot(...across.flatMap((key, i) => key.map((v, j) => v - plain[i]![j]!)));
    expect(distance).to.be.above(0.01);
  });

  it("normalises each part of the batch by itself", async () => {
    const whole = compile({ ...spec, config: { ...config, splits: 1 } });
    const other = await stepperOf(whole);
    const [split, one] = [await stepper.step(state, batch, SCALARS), await other.step(state, batch, SCALARS)];
    expect(split.metrics.loss).not.to.be.closeTo(one.metrics.loss!, 1e-3);
  });

  it("takes batches of whole parts alone", () => {
    expect(artifact.manifest.batchMultiple).to.equal(2);
    expect(compile({ ...spec, config: {} }).manifest.batchMultiple).to.equal(8);
  });

  it("enqueues once when both views query, after both halves", async () => {
    const symmetric = compile({ ...spec, config: { ...config, symmetric: true } });
    const both = await stepperOf(symmetric);
    const { outputs, metrics, next } = await both.step(
      both.state(1),
      batchOf(symmetric, IMAGES, 20),
      SCALARS,
    );
    const [before, after] = [both.state(1), next].map((s) => rowsOf(s.get("queue")!));
    expect(after!.slice(2 * IMAGES)).to.deep.equal(before!.slice(0, QUEUE - 2 * IMAGES));
    const queries = rowsOf(outputs.embedding!);
    const half = (h: number) =>
      naiveLoss(
        queries.slice(h * IMAGES, (h + 1) * IMAGES),
        after!.slice(h * IMAGES, (h + 1) * IMAGES),
        before!,
        0.1,
      );
    expect(metrics.loss).to.be.closeTo((half(0) + half(1)) / 2, 1e-4);
  });

  it("starts at about ln(K + 1) and leaves it", async () => {
    let at = state;
    const losses: number[] = [];
    for (let i = 0; i < 20; i++) {
      const { metrics, next } = await stepper.step(at, batch, { ...SCALARS, temperature: 1 });
      losses.push(metrics.loss!);
      at = next;
    }
    // Temperature 1 keeps similarities within [-1, 1].
    expect(losses[0]).to.be.within(Math.log(QUEUE + 1) - 1.5, Math.log(QUEUE + 1) + 1);
    const { metrics } = await stepper.step(at, batch, SCALARS);
    expect(metrics.loss).to.be.lessThan(Math.log(QUEUE + 1) - 0.3);
  });

  it("exports the trained encoder", async () => {
    const { inputNames } = await openGraph(artifact.graphs.encode);
    expect(inputNames.some((name) => name.startsWith("average."))).to.equal(false);
  });

  it("has the settings of both versions", () => {
    const v2 = moco.config(224).parse({});
    expect(v2).to.include({
      temperature: 0.2,
      queue: 65_536,
      momentum: 0.999,
      head: "mlp",
      dim: 128,
      blur: 0.5,
    });
    expect(moco.optimizer(224)).to.include({ name: "sgd", lr: 0.03, weightDecay: 1e-4 });
    const [view] = moco.views(v2, 224);
    expect(view!.crop.scale).to.deep.equal([0.2, 1]);
    expect(view!.jitter).to.deep.equal({ p: 0.8, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 });
    const v1 = compile({ ...spec, config: { ...config, head: "linear" } }).manifest;
    expect(
      v1.state.filter(({ name }) => name.startsWith("projector.")).map(({ name }) => name),
    ).to.deep.equal(["projector.0.weight", "projector.0.bias"]);
    expect(() => compile({ ...spec, config: { head: "deep" } })).to.throw(UserError, 'setting "head"');
  });
});
