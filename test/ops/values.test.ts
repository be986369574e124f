import { expect } from "chai";
import { constant, input, integers, type Tensor } from "../../src/graph/tensor.ts";
import { type ConvOptions, conv } from "../../src/ops/conv.ts";
import * as e from "../../src/ops/elementwise.ts";
import * as indexing from "../../src/ops/indexing.ts";
import { gemm, matmul, swap } from "../../src/ops/matmul.ts";
import * as m from "../../src/ops/movement.ts";
import { batchNorm, batchNormTraining, layerNorm } from "../../src/ops/normalization.ts";
import { averagePool, globalAveragePool, maxPool, type PoolOptions } from "../../src/ops/pool.ts";
import * as r from "../../src/ops/reduce.ts";
import { indicesAlong, shapeOf, sizeOf } from "../../src/ops/shape.ts";
import { subsample } from "../../src/ops/subsample.ts";
import { randomFor } from "../../src/random.ts";
import { compile, floats, type Value } from "../support/run.ts";
import * as naive from "./naive.ts";

const BATCHES = [1, 2, 5];

const normals = (shape: readonly number[], ...key: readonly (number | string)[]): Value => {
  const random = randomFor("values", ...key);
  return floats(
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()),
    shape,
  );
};
const dataOf = (value: Value): Float32Array => value.data as Float32Array;

/** Runs what `build` makes of inputs like the values; their first axis is "n" where `symbolic` lists them. */
async function values(
  build: (...xs: Tensor[]) => Tensor | Record<string, Tensor>,
  given: readonly Value[],
  symbolic: readonly number[] = [],
): Promise<Record<string, Value>> {
  const xs = given.map(({ shape }, i) =>
    input(`x${i}`, "float32", symbolic.includes(i) ? ["n", ...shape.slice(1)] : shape),
  );
  const built = build(...xs);
  const run = await compile("id" in built ? { y: built as Tensor } : (built as Record<string, Tensor>));
  return run(Object.fromEntries(given.map((value, i) => [`x${i}`, value])));
}

function expectClose(found: Value, wanted: ArrayLike<number>, shape: readonly number[], tolerance = 1e-5) {
  expect(found.shape).to.deep.equal(shape);
  expect(found.data).to.have.length(wanted.length);
  Array.from(found.data, Number).forEach((value, i) => {
    const bound = tolerance * Math.max(1, Math.abs(wanted[i]!));
    expect(value, `element ${i}`).to.be.closeTo(wanted[i]!, bound);
  });
}

describe("operators compute what they say", () => {
  describe("element by element", () => {
    const points = [-3, -1, -0.5, 0, 0.25, 1, 2.5];
    const positive = points.map((x) => Math.abs(x) + 0.1);
    const unaries: [name: string, op: e.Unary, reference: (x: number) => number, at?: number[]][] = [
      ["neg", e.neg, (x) => -x],
      ["abs", e.abs, Math.abs],
      ["sign", e.sign, Math.sign],
      ["floor", e.floor, Math.floor],
      ["exp", e.exp, Math.exp],
      ["log", e.log, Math.log, positive],
      ["sqrt", e.sqrt, Math.sqrt, positive],
      ["reciprocal", e.reciprocal, (x) => 1 / x, positive],
      ["tanh", e.tanh, Math.tanh],
      ["sigmoid", e.sigmoid, (x) => 1 / (1 + Math.exp(-x))],
      ["erf", e.erf, naive.erf],
      ["relu", e.relu, (x) => Math.max(x, 0)],
      ["isPositive", e.isPositive, (x) => (x > 0 ? 1 : 0), [-1e30, -(2 ** -126), 0, 2 ** -126, 0.5, 1e30]],
      ["square", e.square, (x) => x * x],
      ["gelu", e.gelu, (x) => (x * (1 + naive.erf(x / Math.SQRT2))) / 2],
      ["clip", (x) => e.clip(x, -0.5, 1), (x) => Math.min(Math.max(x, -0.5), 1)],
    ];
    for (const [name, op, reference, at = points] of unaries) {
      it(name, async () => {
        const { y } = await values(op, [floats(at, [at.length])]);
        expectClose(y!, at.map(reference), [at.length]);
      });
    }

    const binaries: [name: string, op: e.Binary, reference: (a: number, b: number) => number][] = [
      ["add", e.add, (a, b) => a + b],
      ["sub", e.sub, (a, b) => a - b],
      ["mul", e.mul, (a, b) => a * b],
      ["div", e.div, (a, b) => a / b],
      ["maximum", e.maximum, Math.max],
      ["minimum", e.minimum, Math.min],
      ["equal", e.equal, (a, b) => Number(a === b)],
      ["greater", e.greater, (a, b) => Number(a > b)],
      ["greaterOrEqual", e.greaterOrEqual, (a, b) => Number(a >= b)],
      ["less", e.less, (a, b) => Number(a < b)],
    ];
    for (const [name, op, reference] of binaries) {
      it(`${name}, broadcasting`, async () => {
        const [a, b] = [
          [1, -2, 3, 0.5],
          [3, 1, -2],
        ] as const;
        const given = [floats(a, [4, 1]), floats(b, [3])];
        const { y } = await values((p, q) => m.cast(op(p, q), "float32"), given, [0]);
        expectClose(
          y!,
          a.flatMap((p) => b.map((q) => reference(p, q))),
          [4, 3],
        );
      });
    }

    it("where", async () => {
      const { y } = await values(
        (a, b) => e.where(e.less(a, b), a, 9),
        [floats([1, 5, 3], [3]), floats([4], [1])],
      );
      expectClose(y!, [1, 9, 3], [3]);
    });

    it("gelu far from zero is x or 0", async () => {
      const { y } = await values(e.gelu, [floats([-30, -8, 8, 30], [4])]);
      expectClose(y!, [0, 0, 8, 30], [4]);
    });
  });

  describe("convolution", () => {
    const cases: [x: number[], w: number[], options: ConvOptions][] = [
      [[3, 5, 4], [4, 3, 3, 3], {}],
      [[3, 5, 4], [4, 3, 3, 3], { pad: 1 }],
      [[2, 7, 6], [3, 2, 3, 3], { pad: 1, stride: 2 }],
      [[3, 11, 11], [2, 3, 7, 7], { pad: 3, stride: 2 }],
      [[4, 5, 5], [6, 2, 3, 3], { pad: 1, groups: 2 }],
      [[4, 5, 5], [4, 1, 3, 3], { pad: 1, groups: 4, stride: 2 }],
      [[2, 8, 7], [2, 2, 3, 3], { pad: 2, dilation: 2 }],
      [[2, 9, 9], [2, 2, 3, 3], { dilation: 3, stride: 2, pad: 1 }],
      [[3, 4, 5], [2, 3, 1, 1], { stride: 2 }],
      [[1, 5, 6], [2, 1, 3, 2], {}],
    ];
    for (const [image, w, options] of cases) {
      it(`[${image}] with [${w}] ${JSON.stringify(options)}`, async () => {
        for (const n of BATCHES) {
          const given = [normals([n, ...image], "x", n), normals(w, "w")];
          const { y } = await values((x, k) => conv(x, k, options), given, [0]);
          const [a, b] = given.map((v) => naive.array4(dataOf(v), v.shape));
          const reference = naive.conv(a!, b!, { stride: 1, pad: 0, groups: 1, dilation: 1, ...options });
          expectClose(y!, reference.data, reference.shape);
        }
      });
    }
  });

  it("subsampling takes every stride-th row and column", async () => {
    const x = normals([2, 3, 5, 4], "x");
    const { y } = await values((t) => subsample(t, 2), [x], [0]);
    const kept = dataOf(x).filter((_, i) => (Math.floor(i / 4) % 5) % 2 === 0 && (i % 4) % 2 === 0);
    expect(y!.shape).to.deep.equal([2, 3, 3, 2]);
    expect(dataOf(y!)).to.deep.equal(kept);
  });

  describe("pooling", () => {
    const cases: PoolOptions[] = [
      { kernel: 2 },
      { kernel: 3, stride: 2, pad: 1 },
      { kernel: 3, stride: 1 },
      { kernel: 4, stride: 3, pad: 2 },
    ];
    for (const options of cases) {
      it(JSON.stringify(options), async () => {
        for (const n of BATCHES) {
          // All below zero, so that padding with zeros would show in a maximum.
          const x = normals([n, 2, 7, 6], "pool", n);
          dataOf(x).forEach((v, i, data) => {
            data[i] = -Math.abs(v) - 1;
          });
          const window = { stride: options.kernel, pad: 0, ...options };
          const image = naive.array4(dataOf(x), x.shape);
          const found = await values(
            (t) => ({ max: maxPool(t, options), average: averagePool(t, options) }),
            [x],
            [0],
          );
          for (const [name, combine] of [
            ["max", (v: number[]) => Math.max(...v)],
            ["average", naive.mean],
          ] as const) {
            const reference = naive.pool(image, window, combine);
            expectClose(found[name]!, reference.data, reference.shape);
          }
        }
      });
    }

    it("over the whole image", async () => {
      for (const n of BATCHES) {
        const x = normals([n, 3, 2, 5], n);
        const { y } = await values(globalAveragePool, [x], [0]);
        expectClose(y!, naive.rowsOf(dataOf(x), 10).map(naive.mean), [n, 3]);
      }
    });
  });

  describe("normalisation", () => {
    const [scale, bias] = [floats([1.5, -0.5], [2]), floats([0.25, 3], [2])];
    /** Values of channel c of x [n, 2, ...]. */
    const channel = (x: Value, c: number): number[] => {
      const area = x.data.length / (x.shape[0]! * 2);
      return naive
        .rowsOf(dataOf(x), area)
        .filter((_, i) => i % 2 === c)
        .flat();
    };
    const normalised = (x: Value, means: readonly number[], variances: readonly number[]) => {
      const area = x.data.length / (x.shape[0]! * 2);
      return Array.from(dataOf(x), (v, i) => {
        const c = Math.floor(i / area) % 2;
        return ((v - means[c]!) / Math.sqrt(variances[c]! + 1e-5)) * dataOf(scale)[c]! + dataOf(bias)[c]!;
      });
    };

    for (const rest of [[3, 2], []]) {
      it(`batchNormTraining of [n, ${["2", ...rest].join(", ")}]`, async () => {
        for (const n of rest.length ? BATCHES : [2, 5]) {
          const x = normals([n, 2, ...rest], "batch norm", n);
          dataOf(x).forEach((v, i, data) => {
            data[i] = 2 * v + 3;
          });
          const found = await values((t, s, b) => ({ ...batchNormTraining(t, s, b) }), [x, scale, bias], [0]);
          const channels = [0, 1].map((c) => channel(x, c));
          const [means, variances] = [channels.map(naive.mean), channels.map(naive.variance)];
          const count = channels[0]!.length;
          expectClose(found.mean!, means, [2]);
          expectClose(found.variance!, variances, [2]);
          expectClose(
            found.unbiased!,
            variances.map((v) => (v * count) / (count - 1)),
            [2],
          );
          expectClose(found.y!, normalised(x, means, variances), x.shape, 2e-5);
        }
      });
    }

    it("batchNormTraining of a constant channel gives its bias and no NaN", async () => {
      const x = floats([1, 2, 1, 4, 1, 6], [3, 2]);
      const found = await values((t, s, b) => ({ ...batchNormTraining(t, s, b) }), [x, scale, bias], [0]);
      expect([0, 2, 4].map((i) => found.y!.data[i])).to.deep.equal([0.25, 0.25, 0.25]);
      expectClose(found.unbiased!, [0, 4], [2]);
    });

    it("batchNorm with given statistics", async () => {
      const [means, variances] = [
        [0.5, -1],
        [4, 0.25],
      ] as const;
      const x = normals([3, 2, 2, 2], "frozen");
      const given = [x, scale, bias, floats(means, [2]), floats(variances, [2])];
      const { y } = await values((...[t, s, b, mu, v]) => batchNorm(t!, s!, b!, mu!, v!), given, [0]);
      expectClose(y!, normalised(x, means, variances), x.shape);
    });

    it("layerNorm", async () => {
      const [gain, shift] = [normals([6], "gain"), normals([6], "shift")];
      for (const n of BATCHES) {
        const x = normals([n, 2, 6], "layer norm", n);
        const { y } = await values((t, s, b) => layerNorm(t!, s!, b!), [x, gain, shift], [0]);
        const wanted = naive.rowsOf(dataOf(x), 6).flatMap((row) => {
          const deviation = Math.sqrt(naive.variance(row) + 1e-6);
          return row.map(
            (v, i) => ((v - naive.mean(row)) / deviation) * dataOf(gain)[i]! + dataOf(shift)[i]!,
          );
        });
        expectClose(y!, wanted, [n, 2, 6]);
      }
    });
  });

  describe("reductions", () => {
    it("sum, mean, maximum and minimum over some axes", async () => {
      for (const n of BATCHES) {
        const x = normals([n, 3, 4], "reduce", n);
        const found = await values(
          (t) => ({
            sum: r.reduceSum(t, { axes: [0, 2] }),
            mean: r.reduceMean(t, { axes: [0, -1], keep: true }),
            max: r.reduceMax(t, { axes: [1, 2] }),
            min: r.reduceMin(t, { axes: [-1], keep: true }),
            apart: r.reduceSum(m.reshape(t, ["n", 3, 2, 2]), { axes: [-1, 1] }),
            all: r.reduceSum(t),
            average: r.reduceMean(t),
          }),
          [x],
          [0],
        );
        const lines = naive.rowsOf(dataOf(x), 4); // row i * 3 + c
        const columns = [0, 1, 2].map((c) => lines.filter((_, i) => i % 3 === c).flat());
        const sum = (v: number[]) => v.reduce((a, b) => a + b, 0);
        expectClose(found.sum!, columns.map(sum), [3]);
        expectClose(found.mean!, columns.map(naive.mean), [1, 3, 1]);
        expectClose(
          found.max!,
          naive.rowsOf(dataOf(x), 12).map((v) => Math.max(...v)),
          [n],
        );
        expectClose(
          found.min!,
          lines.map((v) => Math.min(...v)),
          [n, 3, 1],
        );
        const pairs = naive
          .rowsOf(dataOf(x), 12)
          .flatMap((v) => [0, 2].map((i) => [0, 1, 4, 5, 8, 9].map((k) => v[i + k]!)));
        expectClose(found.apart!, pairs.map(sum), [n, 2]);
        expectClose(found.all!, [sum(lines.flat())], []);
        expectClose(found.average!, [naive.mean(lines.flat())], []);
      }
    });

    it("sumTo takes back what broadcasting repeated", async () => {
      const x = normals([3, 2, 4], "sumTo");
      const found = await values(
        (t) => ({ row: r.sumTo(t, [2, 1]), same: r.sumTo(t, ["n", 2, 4]) }),
        [x],
        [0],
      );
      const lines = naive.rowsOf(dataOf(x), 4);
      const wanted = [0, 1].map((c) =>
        lines
          .filter((_, i) => i % 2 === c)
          .flat()
          .reduce((a, b) => a + b, 0),
      );
      expectClose(found.row!, wanted, [2, 1]);
      expectClose(found.same!, dataOf(x), [3, 2, 4]);
    });

    const exponentials = (row: number[]) => {
      const top = Math.max(...row);
      const sum = row.reduce((total, v) => total + Math.exp(v - top), 0);
      return { logSum: top + Math.log(sum), shares: row.map((v) => Math.exp(v - top) / sum) };
    };

    it("softmax, logSoftmax and logSumExp, also of large values", async () => {
      for (const n of BATCHES) {
        for (const [factor, offset] of [
          [1, 0],
          [50, 1000],
          [50, -1000],
        ] as const) {
          const x = normals([n, 5], "softmax", n);
          dataOf(x).forEach((v, i, data) => {
            data[i] = factor * v + offset;
          });
          const found = await values(
            (t) => ({ s: r.softmax(t), l: r.logSoftmax(t), e: r.logSumExp(t) }),
            [x],
            [0],
          );
          const reference = naive.rowsOf(dataOf(x), 5).map(exponentials);
          expectClose(
            found.s!,
            reference.flatMap((row) => row.shares),
            [n, 5],
            1e-4,
          );
          const logs = naive
            .rowsOf(dataOf(x), 5)
            .flatMap((row, i) => row.map((v) => v - reference[i]!.logSum));
          expectClose(found.l!, logs, [n, 5], 1e-4);
          expectClose(
            found.e!,
            reference.map((row) => row.logSum),
            [n, 1],
          );
        }
      }
    });

    it("softmax and logSumExp along another axis", async () => {
      const x = normals([2, 3, 2], "axis");
      const found = await values((t) => ({ s: r.softmax(t, 1), e: r.logSumExp(t, 1) }), [x], [0]);
      const at = (i: number, j: number, k: number) => dataOf(x)[(i * 3 + j) * 2 + k]!;
      const columns = [0, 1].map((i) => [0, 1].map((k) => exponentials([0, 1, 2].map((j) => at(i, j, k)))));
      const shares = [0, 1].flatMap((i) =>
        [0, 1, 2].flatMap((j) => [0, 1].map((k) => columns[i]![k]!.shares[j]!)),
      );
      expectClose(found.s!, shares, [2, 3, 2]);
      expectClose(
        found.e!,
        columns.flat().map((c) => c.logSum),
        [2, 1, 2],
      );
    });

    it("normalize gives length 1, and 0 for a row of zeros", async () => {
      const x = floats([3, 4, 0, 0, -1e6, 0, 3e-4, -4e-4], [4, 2]);
      const { y } = await values(r.normalize, [x], [0]);
      expectClose(y!, [0.6, 0.8, 0, 0, -1, 0, 0.6, -0.8], [4, 2]);
    });
  });

  describe("matrix products", () => {
    const transposed = (data: ArrayLike<number>, columns: number) => {
      const rows = naive.rowsOf(data, columns);
      return rows[0]!.flatMap((_, j) => rows.map((row) => row[j]!));
    };

    it("matmul, over a batch, with one matrix for all", async () => {
      for (const n of BATCHES) {
        const [a, b, shared] = [
          normals([n, 3, 4], "a", n),
          normals([n, 4, 2], "b", n),
          normals([4, 2], "shared"),
        ];
        const found = await values(
          (p, q, s) => ({ each: matmul(p, q), one: matmul(p, s) }),
          [a, b, shared],
          [0, 1],
        );
        const each = naive
          .rowsOf(dataOf(a), 12)
          .flatMap((p, i) => naive.matmul(p, naive.rowsOf(dataOf(b), 8)[i]!, 4));
        expectClose(found.each!, each, [n, 3, 2]);
        expectClose(found.one!, naive.matmul(dataOf(a), dataOf(shared), 4), [n, 3, 2]);
      }
    });

    it("gemm, either factor transposed, with factor and addend", async () => {
      for (const n of BATCHES) {
        const [a, b, c] = [normals([n, 4], "a", n), normals([4, 3], "b"), normals([3], "c")];
        const product = naive.matmul(dataOf(a), dataOf(b), 4);
        const found = await values(
          (p, q, d) => ({
            plain: gemm(p, q, null),
            added: gemm(p, q, d, { alpha: 0.5 }),
            turned: gemm(m.transpose(p), swap(q), d, { transA: true, transB: true }),
          }),
          [a, b, c],
          [0],
        );
        expectClose(found.plain!, product, [n, 3]);
        expectClose(
          found.added!,
          product.map((v, i) => 0.5 * v + dataOf(c)[i % 3]!),
          [n, 3],
        );
        expectClose(
          found.turned!,
          product.map((v, i) => v + dataOf(c)[i % 3]!),
          [n, 3],
        );
      }
    });

    it("swap turns the last two axes", async () => {
      const x = normals([2, 3, 4], "swap");
      const { y } = await values(swap, [x], [0]);
      expectClose(
        y!,
        naive.rowsOf(dataOf(x), 12).flatMap((matrix) => transposed(matrix, 4)),
        [2, 4, 3],
      );
    });
  });

  describe("movement", () => {
    const counting = (n: number, ...rest: number[]) => {
      const shape = [n, ...rest];
      return floats(
        Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i),
        shape,
      );
    };

    it("transpose", async () => {
      const { y } = await values((x) => m.transpose(x, [2, 0, 1]), [counting(2, 3, 2)], [0]);
      expectClose(y!, [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11], [2, 2, 3]);
    });

    it("reshape and expand with symbolic sizes", async () => {
      for (const n of BATCHES) {
        const found = await values(
          (x) => ({
            rows: m.reshape(x, ["3*n", 2]),
            split: m.reshape(m.reshape(x, ["3*n", 2]), ["n", 3, 2], x),
            repeated: m.expand(m.slice(x, { 1: [0, 1] }), [2, "n", 6], x),
          }),
          [counting(n, 6)],
          [0],
        );
        const all = counting(n, 6).data as Float32Array;
        expectClose(found.rows!, all, [3 * n, 2]);
        expectClose(found.split!, all, [n, 3, 2]);
        const firsts = Array.from({ length: n }, (_, i) => Array(6).fill(6 * i) as number[]).flat();
        expectClose(found.repeated!, [...firsts, ...firsts], [2, n, 6]);
      }
    });

    it("flip reverses an axis", async () => {
      const { y } = await values((x) => m.flip(x, 1), [counting(2, 3)], [0]);
      expect([...y!.data]).to.deep.equal([2, 1, 0, 5, 4, 3]);
    });

    it("slices a symbolic axis as far as it surely reaches", async () => {
      const queue = constant(new Float32Array([10, 11, 12]), [3]);
      const first = (x: Tensor) => m.slice(m.concat([x, queue], 0), { 0: [0, 3] });
      expect(first(input("x", "float32", ["n"])).shape).to.deep.equal([3]);
      for (const [x, wanted] of [
        [[1], [1, 10, 11]],
        [
          [1, 2, 3, 4],
          [1, 2, 3],
        ],
      ] as const) {
        const { y } = await values(first, [floats(x, [x.length])], [0]);
        expect([...y!.data]).to.deep.equal(wanted);
      }
      const beyond = () => m.slice(input("x", "float32", ["n"]), { 0: [0, 2] });
      expect(beyond).to.throw("expected a fixed size of axis 0, found n");
    });

    it("puts rows at their places", async () => {
      const places = constant(new BigInt64Array([2n, 0n, 1n]), [3]);
      const { y } = await values((x) => indexing.putRows(x, places), [counting(3, 2)]);
      expect([...y!.data]).to.deep.equal([2, 3, 4, 5, 0, 1]);
    });

    it("slice with steps", async () => {
      const { y } = await values((x) => m.slice(x, { 1: [1, 6, 2], 2: [1, 2] }), [counting(2, 7, 2)], [0]);
      expectClose(y!, [3, 7, 11, 17, 21, 25], [2, 3, 1]);
    });

    it("pad", async () => {
      const { y } = await values((x) => m.pad(x, [1, 0, 2], [0, 1, 0], 7), [counting(1, 1, 2)]);
      expectClose(y!, [...Array(10).fill(7), 0, 1, ...Array(4).fill(7)], [2, 2, 4]);
    });

    it("pad a batch of any size", async () => {
      for (const n of BATCHES) {
        const { y } = await values((x) => m.pad(x, [0, 1], [0, 0]), [counting(n, 1)], [0]);
        expectClose(y!, Array.from({ length: n }, (_, i) => [0, i]).flat(), [n, 2]);
      }
    });

    it("concat and split of symbolic sizes", async () => {
      for (const n of BATCHES) {
        const [a, b] = [counting(n, 2), normals([n, 2], "b", n)];
        const found = await values(
          (p, q) => {
            const both = m.concat([p, q, p], 0);
            const [first, second, third] = m.split(both, 0, [p, q, p]);
            return { both, first: first!, second: second!, third: third!, wide: m.concat([p, q], -1) };
          },
          [a, b],
          [0, 1],
        );
        expectClose(found.both!, [...dataOf(a), ...dataOf(b), ...dataOf(a)], [3 * n, 2]);
        expectClose(found.first!, dataOf(a), [n, 2]);
        expectClose(found.second!, dataOf(b), [n, 2]);
        expectClose(found.third!, dataOf(a), [n, 2]);
        const [left, right] = [a, b].map((v) => naive.rowsOf(dataOf(v), 2));
        expectClose(
          found.wide!,
          left!.flatMap((row, i) => [...row, ...right![i]!]),
          [n, 4],
        );
      }
    });

    it("split into parts of different lengths, chunk into equal ones", async () => {
      const x = counting(2, 6);
      const found = await values(
        (t) => {
          const like = [1, 3, 2].map((size) => input("like", "float32", [1, size]));
          const [a, b, c] = m.split(t, 1, like);
          const [p, q] = m.chunk(t, 1, 2);
          return { a: a!, b: b!, c: c!, p: p!, q: q! };
        },
        [x],
        [0],
      );
      expectClose(found.a!, [0, 6], [2, 1]);
      expectClose(found.b!, [1, 2, 3, 7, 8, 9], [2, 3]);
      expectClose(found.c!, [4, 5, 10, 11], [2, 2]);
      expectClose(found.p!, [0, 1, 2, 6, 7, 8], [2, 3]);
      expectClose(found.q!, [3, 4, 5, 9, 10, 11], [2, 3]);
    });

    it("gather along either axis, by a matrix of indices", async () => {
      const square = constant(BigInt64Array.from([0n, 2n, 1n, 0n]), [2, 2]);
      const found = await values(
        (x) => ({ columns: indexing.gather(x, integers([2, 0, 2]), 1), grid: indexing.gather(x, square, 1) }),
        [counting(2, 3)],
        [0],
      );
      expectClose(found.columns!, [2, 0, 2, 5, 3, 5], [2, 3]);
      expectClose(found.grid!, [0, 2, 1, 0, 3, 5, 4, 3], [2, 2, 2]);
      const { y } = await values((x) => indexing.gather(x, integers([1, 1, 0])), [counting(2, 2)], [0]);
      expectClose(y!, [2, 3, 2, 3, 0, 1], [3, 2]);
      const narrow = constant(Int32Array.of(1, 0), [2]);
      const rows = await values((x) => indexing.gather(x, narrow), [counting(2, 2)], [0]);
      expectClose(rows.y!, [2, 3, 0, 1], [2, 2]);
    });

    it("scatterFlat sums what falls on one place", async () => {
      const places = constant(BigInt64Array.from([3n, 0n, 3n]), [3]);
      const { y } = await values(
        (x, v) => indexing.scatterFlat(x, places, v),
        [counting(2, 2), floats([1, 2, 4], [3])],
        [0],
      );
      expectClose(y!, [2, 0, 0, 5], [2, 2]);
    });

    it("cast, zerosLike, table", async () => {
      const found = await values(
        (x) => ({
          whole: m.cast(x, "int32"),
          bytes: m.cast(m.cast(x, "uint8"), "float32"),
          zeros: m.zerosLike(x),
          table: m.table([
            [1, 2],
            [3, 4],
          ]),
          stopped: m.stopGradient(x),
        }),
        [floats([0.9, 2.2, 200], [3, 1])],
        [0],
      );
      expect(found.whole!.data).to.be.instanceOf(Int32Array);
      expectClose(found.whole!, [0, 2, 200], [3, 1]);
      expectClose(found.bytes!, [0, 2, 200], [3, 1]);
      expectClose(found.zeros!, [0, 0, 0], [3, 1]);
      expectClose(found.table!, [1, 2, 3, 4], [2, 2]);
      expectClose(found.stopped!, [0.9, 2.2, 200], [3, 1]);
    });
  });

  it("sizes that are read when the graph runs", async () => {
    for (const n of BATCHES) {
      const found = await values(
        (x) => ({
          whole: shapeOf(x),
          first: sizeOf(x, 0),
          last: sizeOf(x, -1),
          rows: indicesAlong(x, 0),
          columns: indicesAlong(x, -1),
        }),
        [normals([n, 3], n)],
        [0],
      );
      expectClose(found.whole!, [n, 3], [2]);
      expectClose(found.first!, [n], [1]);
      expectClose(found.last!, [3], [1]);
      expectClose(
        found.rows!,
        Array.from({ length: n }, (_, i) => i),
        [n],
      );
      expectClose(found.columns!, [0, 1, 2], [3]);
    }
  });
});
