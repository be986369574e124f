import { expect } from "chai";
import { input } from "../../src/graph/tensor.ts";
import {
  batchNorm,
  conv,
  fanInUniform,
  kaimingNormal,
  layerNorm,
  linear,
  ONES,
  ZEROS,
} from "../../src/nn/layers.ts";
import { Scope } from "../../src/nn/scope.ts";
import { randomFor } from "../../src/random.ts";
import { mean, rowsOf, variance } from "../ops/naive.ts";
import { compile, floats, type Value } from "../support/run.ts";

const normals = (shape: readonly number[], ...key: readonly (number | string)[]): Value => {
  const random = randomFor("layers", ...key);
  return floats(
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 3 * random.normal() + 1),
    shape,
  );
};
const image = () => input("x", "float32", ["n", 2, 3, 3]);
const weights = { "bn.weight": floats([2, 0.5], [2]), "bn.bias": floats([1, -1], [2]) };
const expectClose = (found: ArrayLike<number | bigint>, wanted: readonly number[], tolerance = 1e-5) => {
  expect(found).to.have.length(wanted.length);
  wanted.forEach((value, i) => {
    expect(Number(found[i]), `element ${i}`).to.be.closeTo(value, tolerance);
  });
};

describe("layers", () => {
  it("batchNorm keeps running statistics as PyTorch does: momentum 0.1, unbiased variance", async () => {
    const s = new Scope("training");
    const y = batchNorm(s, "bn", image());
    expect(s.all.map(({ name, role, shape, init }) => [name, role, shape, init])).to.deep.equal([
      ["bn.weight", "param", [2], ONES],
      ["bn.bias", "param", [2], ZEROS],
      ["bn.running_mean", "buffer", [2], ZEROS],
      ["bn.running_var", "buffer", [2], ONES],
    ]);
    const [, , runningMean, runningVar] = s.all;
    const run = await compile({ y, mean: runningMean!.next!, variance: runningVar!.next! });
    let [means, variances] = [
      [0, 0],
      [1, 1],
    ];
    for (const n of [1, 2, 5]) {
      const x = normals([n, 2, 3, 3], n);
      const found = await run({
        x,
        ...weights,
        "bn.running_mean": floats(means, [2]),
        "bn.running_var": floats(variances, [2]),
      });
      const planes = rowsOf(x.data as Float32Array, 9); // image, then channel
      const channels = [0, 1].map((c) => planes.filter((_, i) => i % 2 === c).flat());
      means = means.map((kept, c) => 0.9 * kept + 0.1 * mean(channels[c]!));
      variances = variances.map(
        (kept, c) => 0.9 * kept + (0.1 * variance(channels[c]!) * 9 * n) / (9 * n - 1),
      );
      expectClose(found.mean!.data, means);
      expectClose(found.variance!.data, variances);
      const wanted = planes.flatMap((plane, i) =>
        plane.map((v) => {
          const values = channels[i % 2]!;
          return (
            ((v - mean(values)) / Math.sqrt(variance(values) + 1e-5)) * [2, 0.5][i % 2]! + [1, -1][i % 2]!
          );
        }),
      );
      expectClose(found.y!.data, wanted);
    }
  });

  it("batchNorm of a dead channel keeps finite statistics", async () => {
    const s = new Scope("training");
    batchNorm(s, "bn", image());
    const run = await compile({ mean: s.all[2]!.next!, variance: s.all[3]!.next! });
    const found = await run({
      x: floats(Array(18).fill(0), [1, 2, 3, 3]),
      ...weights,
      "bn.running_mean": floats([0, 0], [2]),
      "bn.running_var": floats([1, 1], [2]),
    });
    expectClose(found.mean!.data, [0, 0]);
    expectClose(found.variance!.data, [0.9, 0.9]);
  });

  it("batchNorm in evaluation reads the running statistics and updates nothing", async () => {
    const s = new Scope("evaluation");
    const run = await compile({ y: batchNorm(s, "bn", image()) });
    expect(s.all.filter(({ next }) => next !== undefined)).to.deep.equal([]);
    const statistics = { "bn.running_mean": floats([1, -2], [2]), "bn.running_var": floats([4, 0.25], [2]) };
    for (const n of [1, 3]) {
      const x = normals([n, 2, 3, 3], "evaluation", n);
      const { y } = await run({ x, ...weights, ...statistics });
      const wanted = rowsOf(x.data as Float32Array, 9).flatMap((plane, i) =>
        plane.map((v) =>
          i % 2 === 0
            ? ((v - 1) / Math.sqrt(4 + 1e-5)) * 2 + 1
            : ((v + 2) / Math.sqrt(0.25 + 1e-5)) * 0.5 - 1,
        ),
      );
      expectClose(y!.data, wanted);
    }
  });

  it("batchNorm without scale and bias has no parameters", () => {
    const s = new Scope("training");
    batchNorm(s, "bn", image(), { affine: false });
    expect(s.all.map(({ name }) => name)).to.deep.equal(["bn.running_mean", "bn.running_var"]);
  });

  it("batchNorm of a split batch normalises rows i, i + g, ... apart and keeps the mean of their statistics", async () => {
    const s = new Scope("training");
    const x = input("x", "float32", ["2*n", 2, 3, 3]);
    const y = s.with({ splits: 2 }, () => batchNorm(s, "bn", x));
    expect(y.shape).to.deep.equal(x.shape);
    const states = Object.fromEntries(s.all.map(({ name, next }) => [name, next]));
    const run = await compile({
      y,
      mean: states["bn.running_mean"]!,
      variance: states["bn.running_var"]!,
    });
    const values = normals([6, 2, 3, 3], "split");
    const running = { "bn.running_mean": floats([0, 0], [2]), "bn.running_var": floats([1, 1], [2]) };
    const found = await run({ x: values, ...weights, ...running });
    const planes = rowsOf(values.data as Float32Array, 9); // row i, channel c at 2i + c
    const part = (g: number, c: number) => [g, g + 2, g + 4].flatMap((i) => planes[2 * i + c]!);
    const wanted = planes.flatMap((plane, at) => {
      const [g, c] = [Math.floor(at / 2) % 2, at % 2];
      const [scale, bias] = c === 0 ? [2, 1] : [0.5, -1];
      const m = mean(part(g, c));
      return plane.map((v) => ((v - m) / Math.sqrt(variance(part(g, c)) + 1e-5)) * scale + bias);
    });
    expectClose(found.y!.data, wanted, 1e-4);
    const both = (of: (values: number[]) => number, c: number) => (of(part(0, c)) + of(part(1, c))) / 2;
    expectClose(
      found.mean!.data,
      [0, 1].map((c) => 0.1 * both(mean, c)),
    );
    const unbiased = (values: number[]) => (variance(values) * 27) / 26;
    expectClose(
      found.variance!.data,
      [0, 1].map((c) => 0.9 + 0.1 * both(unbiased, c)),
      1e-4,
    );
    expect(() =>
      s.with({ splits: 2 }, () => batchNorm(s, "odd", input("z", "float32", ["n", 2, 3, 3]))),
    ).to.throw("n rows have no 2 equal parts");
  });

  it("batchNorm built twice keeps both batches, one after the other", async () => {
    const s = new Scope("training");
    const [a, b] = ["a", "b"].map((name) => input(name, "float32", ["n", 1]));
    for (const x of [a!, b!]) batchNorm(s, "bn", x);
    const run = await compile({ mean: s.all.find(({ name }) => name === "bn.running_mean")!.next! });
    const found = await run({
      a: floats([1, 3], [2, 1]),
      b: floats([10, 30], [2, 1]),
      "bn.running_mean": floats([100], [1]),
    });
    expectClose(found.mean!.data, [0.9 * (0.9 * 100 + 0.1 * 2) + 0.1 * 20], 1e-4);
  });

  it("linear is x W' + b over the last axis", async () => {
    const s = new Scope("training");
    const y = linear(s, "fc", input("x", "float32", ["n", 2, 3]), { out: 2 });
    expect(y.shape).to.deep.equal(["n", 2, 2]);
    expect(s.all.map(({ name, shape, init }) => [name, shape, init])).to.deep.equal([
      ["fc.weight", [2, 3], { kind: "uniform", bound: 1 / Math.sqrt(3) }],
      ["fc.bias", [2], { kind: "uniform", bound: 1 / Math.sqrt(3) }],
    ]);
    const run = await compile({ y });
    const found = await run({
      x: floats([1, 2, 3, 4, 5, 6], [1, 2, 3]),
      "fc.weight": floats([1, 0, -1, 2, 1, 0], [2, 3]),
      "fc.bias": floats([10, 20], [2]),
    });
    expectClose(found.y!.data, [8, 24, 8, 33]);
  });

  it("linear starts its bias at 0 where the weight's start is given, and has none where it is off", () => {
    const s = new Scope("training");
    linear(s, "a", input("x", "float32", ["n", 3]), { out: 2, init: kaimingNormal(8) });
    linear(s, "b", input("x", "float32", ["n", 3]), { out: 2, bias: false });
    expect(s.all.map(({ name, init }) => [name, init])).to.deep.equal([
      ["a.weight", { kind: "normal", std: 0.5 }],
      ["a.bias", ZEROS],
      ["b.weight", fanInUniform(3)],
    ]);
  });

  it("conv starts with He's variance of the fan-out", () => {
    const s = new Scope("training");
    const y = conv(s, "conv1", input("x", "float32", ["n", 4, 8, 8]), {
      out: 8,
      kernel: 3,
      stride: 2,
      pad: 1,
      groups: 2,
    });
    expect(y.shape).to.deep.equal(["n", 8, 4, 4]);
    expect(s.all.map(({ name, shape, init }) => [name, shape, init])).to.deep.equal([
      ["conv1.weight", [8, 2, 3, 3], { kind: "normal", std: Math.sqrt(2 / 72) }],
    ]);
  });

  it("layerNorm has a scale and a bias for each feature", () => {
    const s = new Scope("training");
    expect(layerNorm(s, "norm", input("x", "float32", ["n", 5, 4])).shape).to.deep.equal(["n", 5, 4]);
    expect(s.all.map(({ name, shape, init }) => [name, shape, init])).to.deep.equal([
      ["norm.weight", [4], ONES],
      ["norm.bias", [4], ZEROS],
    ]);
  });
});
