import { expect } from "chai";
import { reach } from "../../src/graph/model.ts";
import { constant, input, integers, operators, type Tensor, transient } from "../../src/graph/tensor.ts";
import { cpu } from "../../src/lowering/cpu/index.ts";
import { winogradConv } from "../../src/lowering/cpu/winograd.ts";
import { cuda } from "../../src/lowering/cuda.ts";
import { type ConvOptions, conv } from "../../src/ops/conv.ts";
import * as e from "../../src/ops/elementwise.ts";
import { gradients } from "../../src/ops/gradients.ts";
import * as indexing from "../../src/ops/indexing.ts";
import { gemm, matmul } from "../../src/ops/matmul.ts";
import * as m from "../../src/ops/movement.ts";
import { affine, batchNorm, batchNormTraining, groupNorm, layerNorm } from "../../src/ops/normalization.ts";
import { byPieces, cut, inFewer, inPieces } from "../../src/ops/pieces.ts";
import { averagePool, globalAveragePool, maxPool } from "../../src/ops/pool.ts";
import * as r from "../../src/ops/reduce.ts";
import { subsample } from "../../src/ops/subsample.ts";
import { builtFor, portable, type Target } from "../../src/ops/target.ts";
import { randomFor } from "../../src/random.ts";
import type { Dim } from "../../src/spec.ts";
import { apart } from "../apart.ts";
import { type Check, checkGradient } from "../support/gradient.ts";
import { compile, floats } from "../support/run.ts";

const positive = (x: number) => 0.5 + Math.abs(x);
/** Keeps values away from the kink of relu, abs and the like. */
const offZero = (x: number) => x + Math.sign(x) * 0.1;

// Distinct values, so that no perturbation changes which is the greatest.
const spaced = () => {
  let k = 0;
  return () => ((k++ * 7) % 31) * 0.1;
};

/** Shapes that broadcast in every way an element-wise operator can. */
const pairs = [
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3], [3]],
  [
    [2, 1, 3],
    [4, 1],
  ],
  [[1], [2, 2]],
  [[], [3]],
] as const;
const binaries = (build: (a: Tensor, b: Tensor) => Tensor, draw?: (x: number) => number): Check[] =>
  pairs.map((shapes) => ({ shapes, build, ...(draw && { draw }) }));
const unaries = (build: (x: Tensor) => Tensor, draw?: (x: number) => number): Check[] =>
  [[3, 2], [1], []].map((shape) => ({ shapes: [shape], build, ...(draw && { draw }) }));
const convs = (x: number[], w: number[], options: ConvOptions): Check[] =>
  [portable, cuda].map((target) => ({
    shapes: [x, w],
    build: (a, b) => conv(a, b, options),
    symbolic: "first",
    target,
  }));
const maxPools = (target: Target): Check[] =>
  [
    { shapes: [[2, 2, 4, 4]], build: (x: Tensor) => maxPool(x, { kernel: 2 }), draw: spaced() },
    {
      shapes: [[2, 1, 5, 5]],
      build: (x: Tensor) => maxPool(x, { kernel: 3, stride: 2, pad: 1 }),
      draw: spaced(),
      symbolic: "all" as const,
    },
    { shapes: [[1, 1, 1, 1]], build: (x: Tensor) => maxPool(x, { kernel: 1 }) },
  ].map((check) => ({ ...check, target }));
const both = (check: Check): Check[] => [check, { ...check, symbolic: "all" }];

const checks: Record<string, Check[]> = {
  Add: binaries(e.add),
  Sub: binaries(e.sub),
  Mul: binaries(e.mul),
  Div: binaries(e.div, positive),
  Max: binaries(e.maximum, spaced()),
  Min: binaries(e.minimum, spaced()),
  Where: [
    {
      shapes: [[2, 3], [3]],
      build: (a, b) => e.where(e.greater(constant(new Float32Array([1, 0, 1]), [3]), 0.5), a, b),
    },
    {
      shapes: [[1], [2, 1]],
      build: (a, b) => e.where(e.less(constant(new Float32Array([1, 0]), [2, 1]), 0.5), a, b),
    },
  ],
  Neg: unaries(e.neg),
  Abs: unaries(e.abs, offZero),
  Exp: unaries(e.exp),
  Log: unaries(e.log, positive),
  Sqrt: unaries(e.sqrt, positive),
  Reciprocal: unaries(e.reciprocal, positive),
  Tanh: unaries(e.tanh),
  Sigmoid: unaries(e.sigmoid),
  Erf: unaries(e.erf),
  Gelu: unaries(e.gelu),
  Relu: unaries(e.relu, offZero),
  Clip: unaries(
    (x) => e.clip(x, -0.5, 0.5),
    (x) => (Math.abs(Math.abs(x) - 0.5) < 0.05 ? 0 : x),
  ),
  ReduceSum: [
    ...both({ shapes: [[2, 3, 2]], build: (x) => r.reduceSum(x, { axes: [0, 2] }) }),
    ...both({ shapes: [[2, 3]], build: (x) => r.reduceSum(x) }),
    { shapes: [[2, 1, 3]], build: (x) => r.reduceSum(x, { axes: [1], keep: true }) },
  ],
  ReduceMean: [
    ...both({ shapes: [[2, 3, 2]], build: (x) => r.reduceMean(x, { axes: [0, -1], keep: true }) }),
    ...both({ shapes: [[3, 3]], build: (x) => r.reduceMean(x) }),
    { shapes: [[1, 4]], build: (x) => r.reduceMean(x, { axes: [1] }) },
  ],
  ReduceMax: [{ shapes: [[3, 4]], build: (x) => r.reduceMax(x, { axes: [1] }), draw: spaced() }],
  ReduceMin: [{ shapes: [[3, 4]], build: (x) => r.reduceMin(x, { axes: [0], keep: true }), draw: spaced() }],
  Softmax: both({ shapes: [[3, 4]], build: (x) => r.softmax(x) }).concat({
    shapes: [[2, 3, 2]],
    build: (x) => r.softmax(x, 1),
  }),
  LogSoftmax: [portable, cuda].flatMap((target) =>
    both({ shapes: [[3, 4]], build: (x) => r.logSoftmax(x, 1), target }),
  ),
  LogSumExp: both({ shapes: [[3, 4]], build: (x) => r.logSumExp(x) }),
  Normalize: both({ shapes: [[3, 4]], build: (x) => r.normalize(x) }),
  MatMul: [
    ...both({
      shapes: [
        [3, 4],
        [4, 2],
      ],
      build: matmul,
    }),
    ...both({
      shapes: [
        [2, 3, 4],
        [4, 2],
      ],
      build: matmul,
    }),
    ...both({
      shapes: [
        [2, 3, 4],
        [2, 4, 2],
      ],
      build: matmul,
    }),
    ...both({
      shapes: [
        [2, 1, 3, 4],
        [2, 4, 1],
      ],
      build: matmul,
    }),
    {
      shapes: [
        [1, 1],
        [1, 1],
      ],
      build: matmul,
    },
  ],
  Gemm: [
    ...both({ shapes: [[3, 4], [4, 2], [2]], build: (a, b, c) => gemm(a, b, c) }),
    ...both({
      shapes: [
        [3, 4],
        [2, 4],
        [1, 2],
      ],
      build: (a, b, c) => gemm(a, b, c, { transB: true }),
    }),
    {
      shapes: [
        [4, 3],
        [4, 2],
      ],
      build: (a, b) => gemm(a, b, null, { transA: true, alpha: 0.5 }),
    },
    {
      shapes: [
        [4, 3],
        [2, 4],
        [3, 1],
      ],
      build: (a, b, c) => gemm(a, b, c, { transA: true, transB: true }),
    },
  ],
  Reshape: both({ shapes: [[2, 6]], build: (x) => m.reshape(x, [x.shape[0]!, 3, 2]) }),
  Transpose: both({ shapes: [[2, 3, 4]], build: (x) => m.transpose(x, [1, 2, 0]) }),
  Expand: both({ shapes: [[2, 1]], build: (x) => m.expand(x, [3, x.shape[0]!, 4], x) }),
  Slice: [
    ...both({ shapes: [[2, 7]], build: (x) => m.slice(x, { 1: [1, 6, 2] }) }),
    { shapes: [[5, 4]], build: (x) => m.slice(x, { 0: [0, 5, 3], 1: [2, 4] }) },
    { shapes: [[2, 1]], build: (x) => m.slice(x, { 0: [1, 2] }) },
  ],
  Flip: [
    ...both({ shapes: [[2, 3]], build: (x) => m.flip(x, 1) }),
    { shapes: [[4, 1, 2]], build: (x) => m.flip(x, 0) },
  ],
  Pad: both({ shapes: [[2, 3]], build: (x) => m.pad(x, [0, 2], [0, 1], 0.5) }),
  Concat: [
    ...both({
      shapes: [
        [2, 3],
        [2, 1],
      ],
      build: (a, b) => m.concat([a, b], 1),
    }),
    ...both({
      shapes: [
        [2, 3],
        [2, 3],
      ],
      build: (a, b) => m.concat([a, b], 0),
    }),
    {
      shapes: [
        [2, 3],
        [2, 3],
      ],
      build: (a, b) => m.concat([a, b, a], 0),
      symbolic: "all",
    },
  ],
  Split: [
    ...both({ shapes: [[2, 6]], build: (x) => e.mul(m.chunk(x, 1, 3)[0]!, m.chunk(x, 1, 3)[2]!) }),
    { shapes: [[4, 1]], build: (x) => m.chunk(x, 0, 2)[1]! },
  ],
  Gather: [
    { shapes: [[3, 2]], build: (x) => indexing.gather(x, integers([2, 0, 2])) },
    ...both({ shapes: [[2, 3, 2]], build: (x) => indexing.gather(x, integers([1, 1]), 1) }),
    {
      shapes: [[2, 3]],
      build: (x) => indexing.gather(x, constant(new BigInt64Array([0n, 2n, 1n, 0n]), [2, 2]), 1),
    },
  ],
  Conv: [
    ...convs([2, 3, 5, 4], [4, 3, 3, 3], { pad: 1 }),
    ...convs([2, 3, 5, 7], [2, 3, 3, 3], { pad: 1, stride: 2 }),
    ...convs([2, 2, 6, 6], [3, 2, 3, 3], { pad: 1, stride: 2 }),
    ...convs([2, 4, 5, 5], [4, 2, 3, 3], { pad: 1, groups: 2 }),
    ...convs([2, 3, 7, 7], [2, 3, 3, 3], { pad: 2, dilation: 2 }),
    ...convs([2, 3, 4, 4], [2, 3, 1, 1], {}),
    ...convs([2, 3, 5, 5], [2, 3, 1, 1], { stride: 2 }),
    ...convs([1, 1, 1, 1], [1, 1, 1, 1], {}),
    ...convs([1, 2, 4, 4], [2, 2, 2, 2], { stride: 2 }),
    ...convs([1, 2, 3, 3], [2, 2, 1, 1], { pad: 1 }),
    ...convs([2, 9, 3, 3], [2, 9, 3, 3], { pad: 1 }),
    ...convs([1, 5, 2, 18], [2, 5, 3, 3], { pad: 1 }),
    ...convs([3, 5, 2, 17], [2, 5, 3, 3], { pad: 1 }),
    ...convs([1, 5, 2, 20], [2, 5, 1, 3], { pad: 1, dilation: 2 }),
    ...convs([2, 5, 4, 6], [2, 5, 3, 3], { pad: 1, stride: 2 }),
    ...convs([1, 1, 5, 5], [2, 1, 3, 2], { stride: 2 }),
    ...convs([2, 3, 6, 8], [2, 3, 7, 7], { pad: 3, stride: 2 }),
    ...convs([1, 2, 6, 3], [2, 2, 3, 2], { stride: 3, dilation: 2, pad: 1 }),
    ...convs([2, 6, 5, 4], [3, 6, 1, 1], { stride: 3 }),
  ],
  WinogradConv: (
    [
      [2, 3, 4, 4],
      [2, 2, 5, 7],
      [1, 2, 1, 9],
    ] as const
  ).flatMap((shape) => both({ shapes: [[...shape], [3, shape[1], 3, 3]], build: winogradConv })),
  Transient: both({
    shapes: [
      [3, 4],
      [4, 2],
    ],
    build: (a, b) => {
      const [x, y] = transient(() => [e.exp(e.relu(m.transpose(a))), e.tanh(b)]);
      return e.mul(matmul(m.transpose(x!), y!), e.reciprocal(e.add(e.square(matmul(a, b)), 1)));
    },
    draw: offZero,
  }),
  MaxPool: maxPools(portable),
  MaxPoolWithPlaces: maxPools(cuda),
  AveragePool: [
    ...both({ shapes: [[2, 2, 4, 4]], build: (x) => averagePool(x, { kernel: 2 }) }),
    ...both({ shapes: [[2, 1, 5, 4]], build: (x) => averagePool(x, { kernel: 3, stride: 2, pad: 1 }) }),
  ],
  Subsample: [
    ...both({ shapes: [[2, 3, 4, 6]], build: (x) => subsample(x, 2) }),
    ...both({ shapes: [[1, 2, 5, 7]], build: (x) => subsample(x, 3) }),
    { shapes: [[1, 1, 3, 3]], build: (x) => subsample(x, 1) },
  ],
  GlobalAveragePool: both({ shapes: [[2, 3, 2, 3]], build: globalAveragePool }),
  Pieces: [
    {
      shapes: [[4, 2, 3]],
      build: (x) =>
        r.reduceSum(
          byPieces([cut(x, 2)], (piece) => e.mul(piece, piece)),
          { axes: [1] },
        ),
    },
    {
      shapes: [
        [2, 3],
        [2, 3],
      ],
      build: (a, b) => e.square(inPieces([a, b])),
    },
  ],
  Rows: [{ shapes: [[8, 2]], build: (x) => e.square(inFewer(cut(x, 4), 2)) }],
  BatchStatistics: [
    {
      shapes: [[4, 2, 2, 2], [2], [2]],
      build: (x, s, b) => batchNormTraining(cut(x, 2), s, b).y,
    },
  ],
  BatchNormTraining: [
    ...both({ shapes: [[3, 2, 2, 2], [2], [2]], build: (x, s, b) => batchNormTraining(x, s, b).y }),
    ...both({ shapes: [[4, 3], [3], [3]], build: (x, s, b) => batchNormTraining(x, s, b).y }),
    {
      shapes: [[3, 2, 2, 2], [2], [2]],
      build: (x, s, b) => batchNormTraining(x, s, b).y,
      target: cuda,
    },
  ],
  BatchNormalization: both({
    shapes: [[3, 2, 2, 2], [2], [2]],
    build: (x, s, b) =>
      batchNorm(
        x,
        s,
        b,
        constant(new Float32Array([0.3, -0.2]), [2]),
        constant(new Float32Array([0.5, 2]), [2]),
      ),
  }),
  MapStatistics: [
    ...both({ shapes: [[2, 4, 2, 3], [4], [4]], build: (x, s, b) => groupNorm(x, s, b, 2) }),
    { shapes: [[3, 3, 2, 2], [3], [3], [3]], build: (x, s, b, shift) => groupNorm(x, s, b, 1, shift) },
  ],
  LayerNormalization: [
    ...both({ shapes: [[2, 5], [5], [5]], build: (x, s, b) => layerNorm(x, s, b) }),
    { shapes: [[2, 2, 4], [4], [4]], build: (x, s, b) => layerNorm(x, s, b) },
  ],
};

describe("gradient rules agree with central differences", () => {
  const covered = new Set<string>();
  for (const [name, cases] of Object.entries(checks)) {
    it(name, async () => {
      for (const [i, check] of cases.entries()) {
        for (const op of await checkGradient(check, i)) covered.add(op);
      }
    });
  }
  it("gradients that are transposed alike are summed before", async () => {
    const build = (x: Tensor) => e.mul(m.transpose(x), e.exp(m.transpose(x)));
    await checkGradient({ shapes: [[2, 3]], build }, 0);
    const x = input("x", "float32", [2, 3]);
    const loss = r.reduceSum(build(x));
    const transposes = reach(gradients(loss, [x])).nodes.filter(({ op }) => op.type === "Transpose");
    expect(transposes.length).to.equal(3); // two of the forward pass
  });
  it("sums over pieces go image by image, and are added before the last sum", async () => {
    const build = (x: Tensor, scale: Tensor) => byPieces([cut(x, 2)], (piece) => affine(piece, scale)); // as x
    await checkGradient({ shapes: [[4, 3, 2, 2], [3]], build }, 0);
    // Of another number of images, as other views are: these cannot be added before.
    const ofTwo = (x: Tensor, y: Tensor, scale: Tensor) => m.concat([build(x, scale), affine(y, scale)], 0);
    await checkGradient({ shapes: [[4, 3, 2, 2], [1, 3, 2, 2], [3]], build: ofTwo }, 1);
    const [x, scale] = [input("x", "float32", ["2*n", 3, 2, 2]), input("scale", "float32", [3])];
    const loss = r.reduceSum(build(x, scale));
    const sums = reach(gradients(loss, [scale])).nodes.filter(
      ({ op, scope }) => op.type === "ReduceSum" && scope.startsWith("gradient"),
    );
    expect(sums.map(({ outputs: [y] }) => y!.shape)).to.deep.equal([["n", 3], ["n", 3], [3]]);
  });
  it("what several passes compute alike from parameters is recomputed once for all", async () => {
    const pass = (w: Tensor) =>
      m.reshape(
        transient(() => e.exp(m.reshape(w, [3, 2]))),
        [2, 3],
      );
    const build = (w: Tensor) => e.mul(e.square(pass(w)), pass(w));
    await checkGradient({ shapes: [[2, 3]], build }, 0);
    const w = input("w", "float32", [2, 3]);
    const made = reach(gradients(r.reduceSum(build(w)), [w])).nodes.filter(({ op }) => op.type === "Exp");
    expect(made).to.have.length(2); // one of the forward pass
  });
  it("gradients with respect to tensors larger than the parameter they are computed from go on to it before they are summed", async () => {
    const w = input("w", "float32", [1, 2 ** 16]);
    const rows = constant(
      Float32Array.from({ length: 64 }, (_, i) => i),
      [64, 1],
    );
    const large = m.reshape(matmul(rows, w), [2 ** 16, 64]);
    const loss = [2, 3, 5].map((k) => r.reduceSum(e.mul(large, k))).reduce((a, b) => e.add(a, b)); // []
    const grads = gradients(loss, [w]);
    const sums = reach(grads).nodes.filter(({ op }) => op.type === "Add");
    expect(sums.map(({ outputs: [y] }) => y!.shape)).to.deep.equal([w.shape, w.shape]);
    const { dw, dLarge } = await (await compile({ dw: grads[0]!, dLarge: gradients(loss, [large])[0]! }))({});
    expect(new Set(dLarge!.data as Float32Array)).to.deep.equal(new Set([10]));
    expect(new Set(dw!.data as Float32Array)).to.deep.equal(new Set([10 * (63 * 32)]));
  });
  it("gradients with respect to kernels wait until their piece has reached the next sum over the batch, and lose nothing", async () => {
    const [c, side] = [6, 4];
    const [w1, w2] = [1, 2].map((i) => input(`w${i}`, "float32", [c, c, 3, 3])) as [Tensor, Tensor];
    const [scale, bias] = ["scale", "bias"].map((name) => input(name, "float32", [c])) as [Tensor, Tensor];
    const by = [w1, scale, bias, w2];
    const gradientsIn = (rows: Dim, pieces: number) => {
      const x = cut(input("x", "float32", [rows, c, side, side]), pieces); // [n, c, s, s]
      const first = byPieces([x], (piece) => conv(piece, w1, { pad: 1 })); // as x
      const y = byPieces([batchNormTraining(first, scale, bias).y], e.relu); // as x
      const kernel = e.mul(w2, w2); // no piece goes through it, yet its gradient comes from all
      const z = byPieces([y], (piece) => conv(piece, kernel, { pad: 1 })); // as x
      const all = m.reshape(z, [rows, c * side * side]); // [n, c s s]
      return gradients(r.reduceSum(e.square(all)), by);
    };
    const random = randomFor("waiting");
    const values = Object.fromEntries(
      [input("x", "float32", [4, c, side, side]), ...by].map(({ shape, source }) => {
        const count = (shape as number[]).reduce((a, b) => a * b);
        return [
          (source as { name: string }).name,
          floats(
            Array.from({ length: count }, () => random.normal()),
            shape as number[],
          ),
        ];
      }),
    );
    const named = (found: readonly Tensor[]) => Object.fromEntries(found.map((g, i) => [`g${i}`, g]));
    const pieces = builtFor(cpu(2), () => gradientsIn("2*n", 2));
    const expected = await (await compile(named(gradientsIn(4, 1))))(values);
    const found = await (await compile(named(pieces)))(values);
    for (const name of Object.keys(expected)) {
      expect(
        apart(found[name]!.data as Float32Array, expected[name]!.data as Float32Array),
        name,
      ).to.be.below(1e-5);
    }
    const waits = reach([pieces[3]!]).nodes.filter(({ op }) => op.name === "SizesOnce");
    const sums = waits.map(({ inputs: [, size] }) =>
      reach([size!]).nodes.filter(({ op, scope }) => op.type === "ReduceSum" && scope.startsWith("gradient")),
    );
    expect(sums.map((nodes) => nodes.length > 0)).to.deep.equal([true, true]);
    expect(sums[0]).to.not.deep.equal(sums[1]);
  });

  it("every operator with a rule is checked", () => {
    const unchecked = [...operators.values()].filter(
      (op) => !("none" in op.gradient) && !covered.has(op.name),
    );
    expect(unchecked.map((op) => op.name)).to.deep.equal([]);
  });
  it("every operator without one says why", () => {
    for (const op of operators.values())
      if ("none" in op.gradient) expect(op.gradient.none).to.have.length.above(5);
  });
});
