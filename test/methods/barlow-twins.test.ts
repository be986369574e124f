import { expect } from "chai";
import type * as ort from "onnxruntime-node";
import { compile } from "../../src/artifact/compile.ts";
import { input } from "../../src/graph/tensor.ts";
import { barlowTwins } from "../../src/methods/barlow-twins.ts";
import { sumOfSquaredProducts } from "../../src/nn/losses.ts";
import { randomFor } from "../../src/random.ts";
import { checkGradient } from "../support/gradient.ts";
import { compile as compileGraph, floats } from "../support/run.ts";
import { scopeOver, vectorViews } from "./scope.ts";
import { batchOf, stepperOf } from "./stepping.ts";

const SCALARS = { lr: 0.3, weightDecay: 1e-4 };
const compiled = (width: number, lambda = 0.005) =>
  compile({ method: "barlow-twins", encoder: "resnet20", imageSize: 8, config: { width, lambda } });

type Rows = readonly (readonly number[])[];
const rowsOf = (t: ort.Tensor): number[][] => {
  const d = t.dims.at(-1)!;
  return Array.from({ length: t.data.length / d }, (_, i) =>
    Array.from(t.data.slice(i * d, (i + 1) * d) as Float32Array),
  );
};

/** Columns of mean 0 and variance 1, as batch normalisation makes them. */
const standardized = (rows: Rows): Rows => {
  const n = rows.length;
  const stats = rows[0]!.map((_, k) => {
    const mean = rows.reduce((sum, row) => sum + row[k]!, 0) / n;
    return { mean, variance: rows.reduce((sum, row) => sum + (row[k]! - mean) ** 2, 0) / n };
  });
  return rows.map((row) => row.map((v, k) => (v - stats[k]!.mean) / Math.sqrt(stats[k]!.variance + 1e-5)));
};

/** Zbontar et al. 2021, equations 1 and 2, element by element; products are divided by n - `less`. */
function naive(a: Rows, b: Rows, less = 0) {
  const [x, y] = [standardized(a), standardized(b)];
  const d = x[0]!.length;
  let [invariance, redundancy] = [0, 0];
  for (let i = 0; i < d; i++)
    for (let j = 0; j < d; j++) {
      const c = x.reduce((sum, row, k) => sum + row[i]! * y[k]![j]!, 0) / (x.length - less);
      if (i === j) invariance += (1 - c) ** 2;
      else redundancy += c ** 2;
    }
  return { invariance, redundancy };
}

describe("Barlow Twins", () => {
  it("has the paper's loss: cross-correlations of standardised embeddings, divided by the batch", async () => {
    // Embeddings longer than the batch, and shorter.
    for (const [n, width, lambda] of [
      [6, 24, 0.005],
      [12, 5, 0.5],
    ] as const) {
      const artifact = compiled(width, lambda);
      const stepper = await stepperOf(artifact);
      const { outputs, metrics } = await stepper.step(stepper.state(1), batchOf(artifact, n, 8), SCALARS);
      const z = rowsOf(outputs.embedding!);
      expect(z.map((row) => row.length)).to.deep.equal(Array(2 * n).fill(width));
      const wanted = naive(z.slice(0, n), z.slice(n));
      for (const term of ["invariance", "redundancy"] as const) {
        expect(metrics[term]! / wanted[term], term).to.be.closeTo(1, 1e-4);
      }
      expect(metrics.loss).to.be.closeTo(wanted.invariance + lambda * wanted.redundancy, 1e-3);
      const other = naive(z.slice(0, n), z.slice(n), 1);
      expect(Math.abs(other.redundancy / wanted.redundancy - 1), "n - 1 is told from n").to.be.above(0.01);
    }
  });

  it("learns nothing after the embeddings: their normalisation has no scale and no bias", () => {
    const heads = compiled(24)
      .manifest.state.filter(({ name, role }) => role === "param" && !name.startsWith("encoder."))
      .map(({ name }) => name);
    expect(heads).to.deep.equal([
      "projector.0.weight",
      "projector.1.weight",
      "projector.1.bias",
      "projector.3.weight",
    ]);
  });

  it("sums squared products without a matrix of embedding by embedding", async () => {
    const [a, b] = ["a", "b"].map((name) => input(name, "float32", ["n", 7]));
    const run = await compileGraph({ y: sumOfSquaredProducts(a!, b!) });
    const random = randomFor("products");
    for (const n of [1, 4, 20]) {
      const [p, q] = [0, 1].map(() =>
        Array.from({ length: n }, () => Array.from({ length: 7 }, () => Math.fround(random.normal()))),
      );
      let wanted = 0;
      for (let i = 0; i < 7; i++)
        for (let j = 0; j < 7; j++) wanted += p!.reduce((sum, row, k) => sum + row[i]! * q![k]![j]!, 0) ** 2;
      const { y } = await run({ a: floats(p!.flat(), [n, 7]), b: floats(q!.flat(), [n, 7]) });
      expect(Number(y!.data[0]) / wanted).to.be.closeTo(1, 1e-5);
    }
    await checkGradient(
      {
        shapes: [
          [3, 4],
          [3, 4],
        ],
        build: (x, y) => sumOfSquaredProducts(x!, y!),
        draw: (normal) => 0.5 * normal,
        symbolic: "all",
      },
      1,
    );
  });

  it("encodes each view by itself, with batch statistics of its own", () => {
    const { scope, seen } = scopeOver(vectorViews());
    const { cut } = barlowTwins.build(scope, barlowTwins.config(32).parse({}));
    expect(seen).to.deep.equal(scope.views);
    // Through which alone the loss sees images, so that the batch that divides it may be larger than memory.
    expect(cut!.map(({ shape }) => shape)).to.deep.equal([
      ["n", 2048],
      ["n", 2048],
    ]);
  });

  it("learns: the loss of 16 images with fixed views falls", async () => {
    const artifact = compiled(32);
    const stepper = await stepperOf(artifact);
    const batch = batchOf(artifact, 16, 8);
    let state = stepper.state(1);
    const losses: number[] = [];
    for (let i = 0; i < 20; i++) {
      const { metrics, next } = await stepper.step(state, batch, SCALARS);
      losses.push(metrics.loss!);
      state = next;
    }
    expect(losses.at(-1)).to.be.below(0.5 * losses[0]!);
  });

  it("has the paper's settings, and a smaller head for small images", () => {
    const large = barlowTwins.config(224).parse({});
    expect(large).to.include({ lambda: 0.0051, layers: 3, width: 8192 });
    expect(barlowTwins.config(32).parse({})).to.include({ lambda: 0.005, layers: 2, width: 2048 });
    const { biasLr, ...optimizer } = barlowTwins.optimizer(224);
    expect(optimizer).to.deep.equal({
      name: "lars",
      lr: 0.2,
      weightDecay: 1e-6,
      warmupEpochs: 10,
      finalLr: 0.001,
    });
    expect(biasLr! * optimizer.lr).to.be.closeTo(0.0048, 1e-12);
    expect(barlowTwins.optimizer(32)).to.deep.include({ name: "lars", lr: 0.3, config: { trust: 0.02 } });
    const views = barlowTwins.views(large, 224);
    expect(views.map(({ blur, solarize }) => [blur.p, solarize])).to.deep.equal([
      [1, 0],
      [0.1, 0.2],
    ]);
  });
});
