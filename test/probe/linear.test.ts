import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { UserError } from "../../src/errors.ts";
import { type Features, openGraph, rowsTensor } from "../../src/probe/features.ts";
import { linearProbe, splitHeldOut, trainClassifiers } from "../../src/probe/linear.ts";
import { linearPredict, linearState, linearStep } from "../../src/probe/linear-step.ts";
import { randomFor } from "../../src/random.ts";
import { clusters, failure, featuresOf } from "./clusters.ts";
import { classes, REFERENCE } from "./reference.ts";

const threads = 1;

/** Full-batch steps of softmax regression, by its textbook gradient in double precision. */
function naive(
  { data, n, d, labels, classes }: Features,
  mean: number[],
  scale: number[],
  rate: (step: number) => number,
  steps: number,
) {
  const c = classes.length;
  const x = (i: number, j: number) => (data[i * d + j]! - mean[j]!) * scale[j]!;
  const w = Array.from({ length: (d + 1) * c }, () => 0); // the last row is the bias
  const v = w.map(() => 0);
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const g = w.map(() => 0);
    let loss = 0;
    for (let i = 0; i < n; i++) {
      const row = Array.from({ length: d + 1 }, (_, j) => (j < d ? x(i, j) : 1));
      const logits = classes.map((_, k) => row.reduce((sum, value, j) => sum + value * w[j * c + k]!, 0));
      const total = logits.reduce((sum, z) => sum + Math.exp(z), 0);
      loss -= Math.log(Math.exp(logits[labels[i]!]!) / total) / n;
      classes.forEach((_, k) => {
        const error = Math.exp(logits[k]!) / total - (labels[i] === k ? 1 : 0);
        row.forEach((value, j) => {
          g[j * c + k]! += (error * value) / n;
        });
      });
    }
    losses.push(loss);
    w.forEach((_, i) => {
      v[i] = 0.9 * v[i]! + g[i]!;
      w[i]! -= rate(step) * v[i]!;
    });
  }
  return { losses, weight: w.slice(0, d * c), bias: w.slice(d * c) };
}

/** The same by the graph: losses [steps][candidates], weights and biases of each candidate. */
async function byGraph(train: Features, mean: number[], scale: number[], lrs: number[], steps: number) {
  const { n, d, classes } = train;
  const sizes = { d, candidates: lrs.length, classes: classes.length };
  const vector = (values: number[], shape: number[]) =>
    new ort.Tensor("float32", Float32Array.from(values), shape);
  const shapes = Object.entries(linearState(sizes));
  let state: Record<string, ort.Tensor> = Object.fromEntries(
    shapes.map(([name, shape]) => [name, vector(Array(shape.reduce((a, b) => a * b)).fill(0), [...shape])]),
  );
  const fixed = { features: rowsTensor(train, 0, n), mean: vector(mean, [d]), scale: vector(scale, [d]) };
  const labels = new ort.Tensor("int64", BigInt64Array.from(train.labels, BigInt), [n]);
  const session = await openGraph(linearStep(sizes), threads);
  const losses: number[][] = [];
  for (let step = 0; step < steps; step++) {
    const out = await session.run({ ...fixed, labels, lr: vector(lrs, [lrs.length, 1]), ...state });
    losses.push([...(out.loss!.data as Float32Array)]);
    state = Object.fromEntries(shapes.map(([name]) => [name, out[`${name}.next`]!]));
  }
  const { weight, bias } = state as Record<"weight" | "bias", ort.Tensor>;
  const predict = await openGraph(linearPredict(sizes), threads);
  const { predicted } = await predict.run({ ...fixed, weight, bias });
  const own = (t: ort.Tensor, l: number) =>
    [...(t.data as Float32Array)].filter((_, i) => Math.floor(i / classes.length) % lrs.length === l);
  return {
    losses,
    predicted: [...(predicted!.data as BigInt64Array)].map(Number),
    candidates: lrs.map((_, l) => ({ weight: own(weight, l), bias: own(bias, l) })),
  };
}

function expectClose(found: readonly number[], wanted: readonly number[], tolerance: number) {
  expect(found.length).to.equal(wanted.length);
  for (const [i, v] of found.entries()) expect(v, `value ${i}`).to.be.closeTo(wanted[i]!, tolerance);
}

describe("probe/linear-step", () => {
  const train = clusters(1, 23, 5, 3, 2);
  const mean = [0.5, -1, 0, 2, 0.1];
  const scale = [1, 0.5, 2, 1, 0];

  it("steps each candidate as softmax regression in double precision does", async () => {
    const lrs = [0.01, 0.3, 2];
    const found = await byGraph(train, mean, scale, lrs, 6);
    lrs.forEach((lr, l) => {
      const wanted = naive(train, mean, scale, () => lr, 6);
      expectClose(
        found.losses.map((row) => row[l]!),
        wanted.losses,
        2e-5,
      );
      expectClose(found.candidates[l]!.weight, wanted.weight, 5e-5);
      expectClose(found.candidates[l]!.bias, wanted.bias, 5e-5);
    });
  });

  it("starts at the loss of a guess", async () => {
    const { losses } = await byGraph(train, mean, scale, [0.1, 1], 1);
    expectClose(losses[0]!, [Math.log(3), Math.log(3)], 1e-6);
  });

  it("keeps a candidate that diverges from the others", async () => {
    const alone = await byGraph(train, mean, scale, [0.1], 8);
    const beside = await byGraph(train, mean, scale, [3e38, 0.1], 8);
    expect(beside.candidates[0]!.weight.some(Number.isNaN)).to.equal(true);
    expectClose(beside.candidates[1]!.weight, alone.candidates[0]!.weight, 1e-6);
    expect(beside.predicted.filter((_, i) => i % 2 === 1)).to.deep.equal(alone.predicted);
  });

  it("is the same graph each time it is built", () => {
    const sizes = { d: 7, candidates: 3, classes: 4 };
    expect(Buffer.from(linearStep(sizes)).equals(linearStep(sizes))).to.equal(true);
  });
});

/** Two classes told apart by a - b alone, which the difference of the class means does not find: it takes training. */
function oblique(seed: number, n: number): Features {
  const random = randomFor("oblique", seed);
  const labels = Array.from({ length: n }, (_, i) => i % 2);
  const rows = labels.map((label) => {
    const shared = random.normal();
    return [shared + (label ? 0.25 : -0.25) + 0.02 * random.normal(), shared];
  });
  return featuresOf(rows, labels, ["left", "right"]);
}

describe("probe/linear", () => {
  it("trains on standardised features with half a cosine from the rate to 0", async () => {
    const train = clusters(1, 40, 3, 3, 1.5);
    const column = (j: number) => Array.from({ length: 40 }, (_, i) => train.data[i * 3 + j]!);
    const average = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
    const mean = [0, 1, 2].map((j) => average(column(j)));
    const scale = mean.map((m, j) => 1 / Math.sqrt(average(column(j).map((v) => (v - m) ** 2))));
    const [epochs, lrs] = [7, [0.5, 0.05]];
    const settings = { epochs, batch: 64, lrs, seed: 0, threads, heldOut: 0.1, places: 1 };
    const { feeds } = await trainClassifiers(train, lrs, settings);
    for (const [l, lr] of lrs.entries()) {
      const rate = (step: number) => (lr * (1 + Math.cos((Math.PI * step) / epochs))) / 2;
      const wanted = naive(train, mean, scale, rate, epochs);
      const found = [...(feeds.weight.data as Float32Array)].filter((_, i) => Math.floor(i / 3) % 2 === l);
      expectClose(found, wanted.weight, 5e-5);
    }
  });

  it("standardises each channel over all its places, where features are of maps", async () => {
    const [n, channels, places] = [6, 3, 4];
    const random = randomFor("channels");
    const values = (channel: number) =>
      Array.from({ length: places }, () => (channel === 2 ? 5 : random.normal()));
    const rows = Array.from({ length: n }, () => [0, 1, 2].flatMap(values)); // the last channel is constant
    const train = featuresOf(rows, [0, 1, 0, 1, 0, 1], ["a", "b"]);
    const settings = { epochs: 1, batch: 6, lrs: [0.1], seed: 0, threads, heldOut: 0.1, places };
    const { feeds } = await trainClassifiers(train, [0.1], settings);
    const [mean, scale] = [feeds.mean.data, feeds.scale.data] as [Float32Array, Float32Array];
    for (let c = 0; c < channels; c++) {
      const own = rows.flatMap((row) => row.slice(c * places, (c + 1) * places));
      const average = own.reduce((a, b) => a + b) / own.length;
      const variance = own.reduce((sum, x) => sum + (x - average) ** 2, 0) / own.length;
      const wanted = Array(places).fill(c === 2 ? 0 : 1 / Math.sqrt(variance));
      expectClose([...mean.slice(c * places, (c + 1) * places)], Array(places).fill(average), 1e-6);
      expectClose([...scale.slice(c * places, (c + 1) * places)], wanted, 1e-5);
    }
  });

  it("ends with the same bytes for the same seed, other ones for another", async () => {
    const train = clusters(1, 90, 6, 3, 2);
    const bytes = async (seed: number) => {
      const settings = { epochs: 3, batch: 16, lrs: [], seed, threads, heldOut: 0.1, places: 1 };
      const { weight } = (await trainClassifiers(train, [0.1, 0.01], settings)).feeds;
      return Buffer.from((weight.data as Float32Array).slice().buffer);
    };
    expect((await bytes(1)).equals(await bytes(1))).to.equal(true);
    expect((await bytes(1)).equals(await bytes(2))).to.equal(false);
  });

  it("tells separable classes apart", async () => {
    const [train, test] = [clusters(1, 600, 16, 6, 0.3), clusters(2, 150, 16, 6, 0.3)];
    const result = await linearProbe(train, test, { epochs: 20, batch: 64, threads });
    expect(result.top1).to.be.above(99);
    expect(result).to.include({ epochs: 20, train: 600, test: 150 });
    expect(result.sweep.length).to.be.above(4);
    const lrs = result.sweep.map(({ lr }) => lr);
    expect(Math.max(...lrs) / Math.min(...lrs)).to.be.at.least(100);
    expect(lrs).to.include(result.lr);
  });

  it("is as good as scikit-learn's logistic regression, to half a point", async () => {
    const [train, test] = [classes("train", 1500, 16, 8), classes("test", 4000, 16, 8)];
    const { top1 } = await linearProbe(train, test, { threads });
    expect(top1).to.be.closeTo(REFERENCE.logistic, 0.5);
  });

  it("chooses the rate that held-out images favour, and none that diverges", async () => {
    const lrs = [1e-7, 0.3, 3e38];
    const result = await linearProbe(oblique(1, 400), oblique(2, 200), {
      epochs: 60,
      batch: 50,
      lrs,
      threads,
    });
    expect(result.lr).to.equal(0.3);
    expect(result.top1).to.be.above(98);
    const [low, good, high] = result.sweep.map(({ heldOut }) => heldOut);
    expect(low).to.be.below(80);
    expect(good).to.be.above(95);
    expect(high).to.be.NaN;
  });

  it("takes the least of the rates that do equally well", async () => {
    const [train, test] = [clusters(1, 60, 8, 2, 0.1), clusters(2, 20, 8, 2, 0.1)];
    const { lr, sweep } = await linearProbe(train, test, { epochs: 3, lrs: [0.1, 0.01, 0.03], threads });
    expect(sweep.map(({ heldOut }) => heldOut)).to.deep.equal([100, 100, 100]);
    expect(lr).to.equal(0.01);
  });

  it("chooses by the training set alone", async () => {
    const [train, test] = [clusters(1, 200, 6, 4, 2), clusters(2, 80, 6, 4, 2)];
    const first = await linearProbe(train, test, { epochs: 5, threads });
    const wrong = { ...test, labels: test.labels.map((label) => (label + 1) % 4) };
    const second = await linearProbe(train, wrong, { epochs: 5, threads });
    expect(second).to.deep.equal({ ...first, top1: second.top1 });
    expect(second.top1).to.be.below(first.top1);
  });

  it("is trained on the views of each epoch, at the rate that suits the images themselves", async () => {
    const [train, test] = [clusters(1, 300, 6, 3, 0.3), clusters(2, 150, 6, 3, 0.3)];
    const options = { epochs: 5, batch: 64, threads };
    const plain = await linearProbe(train, test, options);
    const epochs: number[] = [];
    const views = async (epoch: number) => {
      epochs.push(epoch);
      return train.data.map((v) => -v);
    };
    const viewed = await linearProbe(train, test, { ...options, views });
    expect(epochs).to.deep.equal([0, 1, 2, 3, 4]);
    expect(viewed.lr).to.equal(plain.lr);
    expect(plain.top1).to.be.above(95);
    expect(viewed.top1, "of what was trained on the opposite").to.be.below(50);
    expect(await linearProbe(train, test, { ...options, views: async () => train.data })).to.deep.equal(
      plain,
    );
  });

  it("gives the same for the same seed", async () => {
    const [train, test] = [clusters(1, 300, 6, 4, 3), clusters(2, 200, 6, 4, 3)];
    const probe = (seed: number) => linearProbe(train, test, { epochs: 4, batch: 32, seed, threads });
    const first = await probe(3);
    expect(await probe(3)).to.deep.equal(first);
    expect((await probe(4)).sweep).not.to.deep.equal(first.sweep);
  });

  it("does not see the offset and scale of a dimension, nor a constant one", async () => {
    const [train, test] = [clusters(1, 200, 4, 3, 1.5), clusters(2, 100, 4, 3, 1.5)];
    const change = (set: Features): Features => ({
      ...set,
      d: 6,
      data: Float32Array.from({ length: set.n * 6 }, (_, i) => {
        const [row, j] = [Math.floor(i / 6), i % 6];
        if (j >= 4) return j === 4 ? 0 : 0.1; // 0: a dead ReLU
        return set.data[row * 4 + j]! * 8 ** (j - 2) + j;
      }),
    });
    const probe = (a: Features, b: Features) => linearProbe(a, b, { epochs: 10, lrs: [0.03], threads });
    const [plain, changed] = [await probe(train, test), await probe(change(train), change(test))];
    expect(changed.top1).to.be.closeTo(plain.top1, 1);
    expect(plain.top1).to.be.above(60);
  });

  it("reads test labels by the names of their classes", async () => {
    const [train, test] = [clusters(1, 90, 8, 3, 0.2), clusters(2, 30, 8, 3, 0.2)];
    const turned = {
      ...test,
      classes: ["class2", "class1", "class0"],
      labels: test.labels.map((label) => 2 - label),
    };
    expect(await linearProbe(train, turned, { epochs: 5, threads })).to.include({ top1: 100 });
  });

  it("holds out a share of each class and never the whole of one", () => {
    const labels = [...Array<number>(40).fill(0), ...Array<number>(10).fill(1), 2, 2, 3];
    const rows = labels.map((_, i) => [i, 0]);
    const train = featuresOf(rows, labels, ["a", "b", "c", "d"]);
    const counts = (set: Features) =>
      [0, 1, 2, 3].map((c) => set.labels.filter((label) => label === c).length);
    const { held, rest } = splitHeldOut(train, 0.1, 0);
    expect(counts(held)).to.deep.equal([4, 1, 1, 0]);
    expect(counts(rest)).to.deep.equal([36, 9, 1, 1]);
    const ids = [held, rest].flatMap(({ data, n }) => Array.from({ length: n }, (_, i) => data[2 * i]!));
    expect(ids.sort((a, b) => a - b)).to.deep.equal(rows.map(([id]) => id));
    expect(splitHeldOut(train, 0.1, 0).held.data).to.deep.equal(held.data);
    expect(splitHeldOut(train, 0.1, 1).held.data).not.to.deep.equal(held.data);
  });

  it("refuses options out of range, rates that all diverge and classes of one image", async () => {
    const set = clusters(1, 40, 4, 2, 1);
    const bad = [
      { epochs: 0 },
      { batch: 2.5 },
      { lrs: [] },
      { lrs: [0.1, -1] },
      { lrs: [Infinity] },
      { heldOut: 0 },
      { heldOut: 1 },
    ];
    for (const options of bad) {
      const error = await failure(linearProbe(set, set, options));
      expect(error).to.be.instanceOf(UserError);
      expect((error as UserError).message).to.match(
        /^linear probe, (epochs|batch|lrs|heldOut): expected .* found /,
      );
    }
    const lost = await failure(linearProbe(set, set, { lrs: [1e38, 3e38], threads }));
    expect(lost).to.be.instanceOf(UserError);
    expect((lost as UserError).message).to.match(
      /expected a learning rate that converges, found none among 1e\+38, 3e\+38/,
    );
    const pair = featuresOf(
      [
        [1, 0],
        [0, 1],
      ],
      [0, 1],
    );
    const one = await failure(linearProbe(pair, pair, {}));
    expect((one as UserError).message).to.match(
      /expected two images or more of some class, found one image of each/,
    );
  });
});
