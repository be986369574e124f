/** Small graphs for each family of nodes, over odd sizes, and how they are held to the plain graph. */
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { buildModel } from "../../../../src/graph/model.ts";
import { encodeModel } from "../../../../src/graph/protos.ts";
import { input, type Tensor } from "../../../../src/graph/tensor.ts";
import { cuda } from "../../../../src/lowering/cuda.ts";
import { conv } from "../../../../src/ops/conv.ts";
import * as on from "../../../../src/ops/elementwise.ts";
import { gradients } from "../../../../src/ops/gradients.ts";
import { matmul } from "../../../../src/ops/matmul.ts";
import { cast, chunk, expand, reshape, slice, transpose } from "../../../../src/ops/movement.ts";
import { perChannel } from "../../../../src/ops/normalization.ts";
import {
  logSoftmaxOp,
  reduceMax,
  reduceMean,
  reduceMin,
  reduceSum,
  softmax,
} from "../../../../src/ops/reduce.ts";
import { builtFor } from "../../../../src/ops/target.ts";
import { randomFor } from "../../../../src/random.ts";
import { type Lowered, lowered } from "../../../../src/runtime/cuda/fused/lower.ts";
import { openGraph } from "../../../methods/stepping.ts";
import type { Run } from "./compiled.ts";
import { evaluate } from "./evaluate.ts";

type Tensors = Readonly<Record<string, Tensor>>;
type Shapes = Readonly<Record<string, readonly number[]>>;

export interface Case {
  readonly name: string;
  readonly shapes: readonly Shapes[];
  readonly outputs: (inputs: { readonly [name: string]: Tensor } & { x: Tensor; y: Tensor }) => Tensors;
  /** Nodes in all, custom operators and those left. */
  readonly nodes: number;
}

export const odd = [1, 3, 7, 17, 33];
export const pair = (a: readonly number[], b = a): Shapes => ({ x: a, y: b });

/** More than a block for each multiprocessor would be needed for: few long rows are reduced in parts. */
const long = 2 ** 15 + 4;

export const cases: readonly Case[] = [
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
    nodes: 3,
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
  {
    name: "convolutions, of images and by single places, and their gradients",
    shapes: [
      [3, 5],
      [4, 9],
    ].map(([height, width]) => ({
      x: [2, 3, height!, width!],
      y: [8, 3, 3, 3],
      v: [16, 8, 1, 1],
      w: [8, 16, 1, 1],
    })),
    nodes: 19,
    outputs: ({ x, y, v, w }) =>
      builtFor(cuda, () => {
        const first = on.relu(conv(x, y, { pad: 1 })); // [2, 8, h, w]
        const half = on.tanh(conv(first, v!, { stride: 2 })); // [2, 16, h / 2, w / 2]
        const last = on.square(conv(half, w!)); // [2, 8, h / 2, w / 2]
        const loss = reduceSum(last);
        const [dy, dv, dw] = gradients(loss, [y, v!, w!]) as [Tensor, Tensor, Tensor];
        return { loss, dy: on.mul(dy, 2), dv: on.mul(dv, 2), dw: on.mul(dw, 2) };
      }),
  },
];

/** Of float32, in sums of thousands of values. */
export const ROUNDING = 1e-5;

/** Of some values all are halves, for comparisons. */
export function drawn(name: string, shape: readonly number[]): ort.Tensor {
  const random = randomFor("values", name, shape.join());
  const size = shape.reduce((a, b) => a * b, 1);
  const data = Float32Array.from({ length: size }, (_, i) => {
    const value = random.normal();
    return i % 3 === 0 ? Math.round(2 * value) / 2 : value;
  });
  return new ort.Tensor("float32", data, shape);
}

export interface Prepared {
  readonly step: Lowered;
  readonly graph: Uint8Array;
  readonly feeds: Record<string, ort.Tensor>;
  readonly names: readonly string[];
}

export function prepared({ outputs }: Pick<Case, "outputs">, shapes: Shapes): Prepared {
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
export async function differences({ step, graph, feeds, names }: Prepared, run: Run) {
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
