import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { buildModel, decodeModel, encodeModel } from "../../../../src/graph/model.ts";
import { input, scalar, type Tensor } from "../../../../src/graph/tensor.ts";
import * as on from "../../../../src/ops/elementwise.ts";
import { matmul } from "../../../../src/ops/matmul.ts";
import { cast, chunk, expand, reshape, slice, transpose } from "../../../../src/ops/movement.ts";
import { perChannel } from "../../../../src/ops/normalization.ts";
import {
  divideByCount,
  logSoftmaxOp,
  reduceMax,
  reduceMean,
  reduceMin,
  reduceSum,
  softmax,
} from "../../../../src/ops/reduce.ts";
import { randomFor } from "../../../../src/random.ts";
import { DOMAIN, fused, type Lowered, lowered } from "../../../../src/runtime/cuda/fused/lower.ts";
import { operations } from "../../../../src/runtime/cuda/fused/operations.ts";
import { temporaryFolder } from "../../../data/folder.ts";
import { openGraph } from "../../../methods/stepping.ts";
import { compiled, compilerOr, type Run } from "./compiled.ts";
import { evaluate } from "./evaluate.ts";
import { arithmetic, interpret } from "./interpreter.ts";

type Tensors = Readonly<Record<string, Tensor>>;
type Shapes = Readonly<Record<string, readonly number[]>>;

interface Case {
  readonly name: string;
  readonly shapes: readonly Shapes[];
  readonly outputs: (inputs: { readonly [name: string]: Tensor } & { x: Tensor; y: Tensor }) => Tensors;
  /** Nodes in all, custom operators and those left. */
  readonly nodes: number;
}

const odd = [1, 3, 7, 17, 33];
const pair = (a: readonly number[], b = a): Shapes => ({ x: a, y: b });

/** More than a block for each multiprocessor would be needed for: few long rows are reduced in parts. */
const long = 2 ** 15 + 4;

const cases: readonly Case[] = [
  {
    name: "chains of all operators",
    shapes: [...odd.map((size) => pair([size, 5])), pair([4, 9, 8]), pair([])],
    nodes: 2,
    outputs: ({ x, y }) => {
      const positive = on.add(on.abs(x), 0.5);
      const sums: readonly (() => Tensor)[] = [
        () => on.div(on.sub(x, y), positive),
        () => on.sqrt(positive),
        () => on.log(positive),
        () => on.exp(on.neg(positive)),
        () => on.reciprocal(positive),
        () => on.tanh(x),
        () => on.sigmoid(y),
        () => on.erf(x),
        () => on.relu(y),
        () => on.isPositive(x),
        () => on.sign(y),
        () => on.floor(on.mul(x, 3)),
        () => on.clip(x, -0.5, 0.75),
        () => on.maximum(x, y),
        () => on.minimum(x, y),
        () => cast(on.equal(x, y), "float32"),
        () => cast(on.greaterOrEqual(x, y), "float32"),
        () => on.where(on.greater(x, y), x, on.mul(y, 2)),
        () => on.where(on.less(x, y), 3, on.square(x)),
      ];
      return { all: sums.reduce((all, next) => on.add(on.mul(all, 0.7), next()), x) };
    },
  },
  {
    name: "broadcasting along any axes",
    shapes: [
      ...odd.map((size) => pair([2, size, 3], [size, 1])),
      pair([3, 1, 7], [1, 17, 1]),
      pair([33, 4], [1, 4]),
      pair([5, 4], [5, 1]),
      pair([8], []),
    ],
    nodes: 1,
    outputs: ({ x, y }) => ({ z: on.mul(on.add(on.mul(x, y), y), 0.5), kept: on.add(on.mul(x, y), y) }),
  },
  {
    name: "an affine function for each channel, and the ReLU after it",
    shapes: odd.map((size) => pair([2, size, 3, 3], [size])),
    nodes: 2,
    outputs: ({ x, y }) => ({
      z: on.relu(on.add(on.mul(x, perChannel(y, x)), perChannel(on.mul(y, 2), x))),
    }),
  },
  {
    name: "views: reshaped, expanded, in parts",
    shapes: [pair([4, 6], [2, 12]), pair([2, 12], [8, 3])],
    nodes: 2,
    outputs: ({ x, y }) => {
      const chain = on.mul(on.add(reshape(x, [24]), reshape(y, [24])), 0.5); // [24]
      const [a, b] = chunk(reshape(chain, [2, 12]), 1, 2) as [Tensor, Tensor]; // [2, 6] each
      const last = slice(reshape(chain, [4, 6]), { 1: [2, 6] }); // [4, 4]
      const wide = expand(reshape(slice(chain, { 0: [0, 1] }), [1, 1]), [4, 4]);
      return { z: on.sub(on.mul(a, 2), b), w: on.add(on.mul(last, 3), wide) };
    },
  },
  {
    name: "sums, means and extremes over the last axes, with the chain before them",
    shapes: [...odd.map((size) => pair([3, 5, size + 1])), pair([2, 2, 1030]), pair([300, 2, 8])],
    nodes: 1 + 4,
    outputs: ({ x, y }) => {
      const z = on.square(on.sub(x, y));
      const sum = reduceSum(z, { axes: [-1] });
      const mean = reduceMean(x, { axes: [-1], keep: true });
      const [high, low] = [reduceMax(z, { axes: [-1] }), reduceMin(on.mul(x, y), { axes: [-1] })];
      return Object.fromEntries(
        Object.entries({ sum, mean, high, low }).map(([name, t]) => [name, reshape(t, [-1])]),
      );
    },
  },
  {
    name: "values of no places",
    shapes: [pair([0, 7], [1, 7])],
    nodes: 2,
    outputs: ({ x, y }) => ({ z: on.mul(on.add(x, y), x) }),
  },
  {
    name: "sums over the first axes",
    shapes: [...odd.map((size) => pair([size + 1, 1, 35])), pair([17, 3, 3]), pair([5, 2, 64])],
    nodes: 1 + 2,
    outputs: ({ x, y }) => {
      const z = on.mul(x, y);
      return {
        z,
        sum: reshape(reduceSum(z, { axes: [0] }), [-1]),
        mean: reshape(reduceMean(x, { axes: [0] }), [-1]),
      };
    },
  },
  {
    name: "few long rows, in parts",
    shapes: [pair([2, long]), pair([1, long + 1])],
    nodes: 2 + 2,
    outputs: ({ x, y }) => {
      const z = on.mul(x, y);
      const sum = reshape(reduceMean(z, { axes: [1] }), [-1]);
      return { z, sum, high: reshape(reduceMax(z, { axes: [1] }), [-1]) };
    },
  },
  {
    name: "few long columns, in parts",
    shapes: [pair([long / 4, 3]), pair([long / 4 + 1, 33])],
    nodes: 2 + 1,
    outputs: ({ x, y }) => ({ sum: reshape(reduceSum(on.mul(x, y), { axes: [0] }), [-1]) }),
  },
  {
    name: "rows that are normalised by their own mean and variance",
    shapes: [...odd.slice(1).map((size) => pair([5, 2, size], [size])), pair([2, 2, 1200], [1200])],
    nodes: 1,
    outputs: ({ x, y }) => {
      const last = { axes: [-1], keep: true };
      const centred = on.sub(x, reduceMean(x, last));
      const variance = reduceMean(on.square(centred), last);
      return { z: on.add(on.mul(centred, y), expand(variance, x.shape)) };
    },
  },
  {
    name: "rows too long to be gone through twice",
    shapes: [pair([2, 8196])],
    nodes: 3,
    outputs: ({ x, y }) => {
      const mean = reduceMean(on.mul(x, y), { axes: [-1], keep: true });
      return { z: on.mul(on.sub(x, mean), y) };
    },
  },
  {
    name: "softmax and its logarithm, with what comes before and after",
    shapes: [...odd.slice(1).map((size) => pair([3, size])), pair([40, 4]), pair([2, 2000])],
    nodes: 1,
    outputs: ({ x, y }) => {
      const logits = on.mul(x, 20);
      const p = softmax(logits);
      const dx = on.mul(p, on.sub(y, reduceSum(on.mul(y, p), { axes: [-1], keep: true })));
      return { p, dx, log: on.mul(logSoftmaxOp(logits), y) };
    },
  },
  {
    name: "reductions of other rows by themselves",
    shapes: [pair([4, 8, 6])],
    nodes: 3 + 3,
    outputs: ({ x, y }) => {
      const z = on.mul(on.add(x, y), y);
      const [a, b, c] = [[2], [1, 2], [0]].map((axes) => reshape(reduceSum(z, { axes }), [-1]));
      return {
        a: a!,
        b: b!,
        c: c!,
        d: on.add(on.mul(z, 2), expand(reduceMean(z, { axes: [2], keep: true }), z.shape)),
      };
    },
  },
  {
    name: "a value that a node of another kind reads",
    shapes: [pair([3, 4])],
    nodes: 4,
    outputs: ({ x, y }) => {
      const z = on.relu(on.add(x, y));
      return { z: on.mul(on.add(matmul(z, transpose(z)), 1), 2) };
    },
  },
  {
    name: "a chain of more nodes and values than a kernel has",
    shapes: [pair([3, 40], [40, 1])],
    nodes: 4,
    outputs: ({ x, y }) => {
      const rows = chunk(y, 0, 40).map((row) => reshape(row, [1]));
      return { z: rows.reduce((all, row) => on.add(on.mul(all, 0.5), on.mul(x, row)), x) };
    },
  },
];

/** Of float32, in sums of thousands of values. */
const ROUNDING = 1e-5;

/** Of some values all are halves, for comparisons. */
function drawn(name: string, shape: readonly number[]): ort.Tensor {
  const random = randomFor("values", name, shape.join());
  const size = shape.reduce((a, b) => a * b, 1);
  const data = Float32Array.from({ length: size }, (_, i) => {
    const value = random.normal();
    return i % 3 === 0 ? Math.round(2 * value) / 2 : value;
  });
  return new ort.Tensor("float32", data, shape);
}

interface Prepared {
  readonly step: Lowered;
  readonly graph: Uint8Array;
  readonly feeds: Record<string, ort.Tensor>;
  readonly names: readonly string[];
}

function prepared({ outputs }: Pick<Case, "outputs">, shapes: Shapes): Prepared {
  const inputs = Object.entries(shapes).map(
    ([name, shape]) => [name, input(name, "float32", shape)] as const,
  );
  const made = outputs(Object.fromEntries(inputs) as never);
  const graph = encodeModel(buildModel(made, { name: "test", stated: true }));
  const feeds = Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, drawn(name, shape)]));
  const step = lowered(graph, new Map(Object.entries(shapes)));
  return { step, graph, feeds, names: Object.keys(made) };
}

/** The largest difference of any value, as a share of the largest value of its output. */
async function differences({ step, graph, feeds, names }: Prepared, run: Run) {
  const session = await openGraph(graph);
  const plain = await session.run(feeds);
  await session.release();
  const found = await evaluate(step, feeds, names, run);
  return names.map((name) => {
    const [is, was] = [found.get(name) as Float32Array, plain[name]!.data as Float32Array];
    expect(is).to.have.length(was.length);
    const largest = was.reduce((all, value) => Math.max(all, Math.abs(value)), 1);
    return { name, by: is.reduce((all, value, i) => Math.max(all, Math.abs(value - was[i]!)), 0) / largest };
  });
}

describe("runtime/cuda/fused: families of nodes", () => {
  const folder = temporaryFolder();
  const all = cases.map((one) => ({ ...one, sizes: one.shapes.map((shapes) => prepared(one, shapes)) }));

  for (const { name, sizes, nodes } of all) {
    it(`${name}: as the plain graph, in so many nodes`, async () => {
      for (const size of sizes) {
        const far = await differences(size, interpret);
        expect(far.filter(({ by }) => !(by < ROUNDING))).to.deep.equal([]);
        expect(size.step.model.graph!.node.map(({ opType }) => opType)).to.have.length(nodes);
      }
    });
  }

  it("does the same as C", async function () {
    const compiler = compilerOr() ?? this.skip();
    const steps = all.flatMap(({ name, sizes }) => sizes.map((size) => ({ name, size })));
    const run = compiled(
      compiler,
      folder.path,
      steps.map(({ size }) => size.step),
    );
    for (const { name, size } of steps) {
      const far = await differences(size, run);
      expect(
        far.filter(({ by }) => !(by < ROUNDING)),
        name,
      ).to.deep.equal([]);
    }
  });

  it("updates many parameters in one launch, whatever their shapes", async () => {
    const shapes = Object.fromEntries(
      odd.flatMap((size, i) => ["w", "v", "g"].map((kind) => [`${kind}${i}`, [size, 2]])),
    );
    const update = prepared(
      {
        outputs: (inputs) =>
          Object.fromEntries(
            odd.flatMap((_, i) => {
              const [w, v, g] = ["w", "v", "g"].map((kind) => inputs[`${kind}${i}`]!) as [
                Tensor,
                Tensor,
                Tensor,
              ];
              const next = on.add(on.mul(v, 0.9), g);
              return [
                [`v${i}.next`, next],
                [`w${i}.next`, on.sub(w, on.mul(next, scalar(0.1)))],
              ];
            }),
          ),
      },
      shapes,
    );
    expect(update.step.model.graph!.node).to.have.length(1);
    expect((await differences(update, interpret)).filter(({ by }) => !(by < 1e-6))).to.deep.equal([]);
  });

  it("computes again what it would read besides what this is made of", async () => {
    const step = prepared(
      {
        outputs: ({ x, y }) => {
          const normal = on.add(on.erf(on.mul(x!, Math.SQRT1_2)), 1);
          const later = matmul(on.mul(x!, normal), y!);
          return { dx: on.mul(on.mul(later, normal), on.square(x!)) };
        },
      },
      pair([16, 16]),
    );
    expect((await differences(step, interpret)).filter(({ by }) => !(by < ROUNDING))).to.deep.equal([]);
    const [first, second] = step.step.launches;
    expect(first!.outputs).to.have.length(1);
    expect(second!.inputs).to.have.length(2).and.include("x");
  });

  it("writes no value twice", async () => {
    const twice = ({ x, y }: { [name: string]: Tensor }) => on.relu(on.mul(x!, y!));
    const step = prepared(
      { outputs: (inputs) => ({ z: on.add(matmul(twice(inputs), transpose(twice(inputs))), 1) }) },
      pair([3, 4]),
    );
    expect((await differences(step, interpret)).filter(({ by }) => !(by < ROUNDING))).to.deep.equal([]);
    expect(step.step.launches[0]!.outputs).to.have.length(1);
  });

  it("holds no feature maps for the end of a step", async () => {
    const size = [4, 2 ** 15];
    const step = prepared(
      {
        outputs: ({ x, y, v, w }) =>
          Object.fromEntries(
            [x!, y!].map((map, i) => {
              const sum = reduceSum(on.square(transpose(map)), { axes: [0] });
              return [`w${i}.next`, on.sub(on.mul([v!, w!][i]!, 0.9), sum)];
            }),
          ),
      },
      { x: size, y: size, v: [4], w: [4] },
    );
    expect((await differences(step, interpret)).filter(({ by }) => !(by < ROUNDING))).to.deep.equal([]);
    const together = step.step.launches.map(({ kernels }) => kernels.length);
    expect(together.sort()).to.deep.equal([1, 1, 1, 1, 2]);
  });

  it("computes what depends on sizes alone beforehand", async () => {
    const x = input("x", "float32", ["2*n", 3]);
    const outputs = { z: on.mul(on.add(x, 1), divideByCount(scalar(1), x, [0, 1])) };
    const graph = encodeModel(buildModel(outputs, { name: "test", stated: true }));
    const feeds = { x: drawn("x", [8, 3]) };
    const step = lowered(graph, new Map([["x", [8, 3]]]));
    const found = await evaluate(step, feeds, ["z"]);
    expect(step.model.graph!.node).to.have.length(1);
    expect(step.launches[0]!.inputs).to.deep.equal(["x"]);
    const wanted = Array.from(feeds.x.data as Float32Array, (value) => (value + 1) / 24);
    expect(Math.max(...wanted.map((value, i) => Math.abs(value - Number(found.get("z")![i]))))).to.be.below(
      1e-6,
    );
  });

  it("leaves values alone whose shapes are not stated", () => {
    const [x, y] = [input("x", "float32", [4]), input("y", "float32", [4])];
    const graph = encodeModel(buildModel({ z: on.exp(on.mul(on.add(x, y), y)) }, { name: "test" }));
    const sizes = new Map([x, y].map((_, i) => [["x", "y"][i]!, [4]]));
    const { model, launches } = lowered(graph, sizes);
    expect(launches).to.deep.equal([]);
    expect(model.graph!.node.map(({ opType }) => opType)).to.deep.equal(["Add", "Mul", "Exp"]);
  });

  it("gives an operator for each node of its domain", () => {
    const { graph, step } = all[0]!.sizes[0]!;
    const { model, operators } = fused(graph, new Map(Object.entries(all[0]!.shapes[0]!)));
    const nodes = decodeModel(model).graph!.node.filter(({ domain }) => domain === DOMAIN);
    expect(nodes).to.have.length(step.launches.length);
    expect(
      nodes.map(({ opType, input, output }) => [opType, input.length, output.length]),
    ).to.have.deep.members(
      operators.map(({ type, inputs, outputs }) => [type, inputs.length, outputs.length]),
    );
  });

  it("knows the same operations as C and as arithmetic", () => {
    expect(Object.keys(arithmetic)).to.have.members(Object.keys(operations));
  });
});
