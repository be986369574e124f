import { expect } from "chai";
import { compile, targetNamed } from "../../../src/artifact/compile.ts";
import { decodeModel } from "../../../src/graph/protos.ts";
import { input, type Tensor } from "../../../src/graph/tensor.ts";
import { cpu } from "../../../src/lowering/cpu/index.ts";
import { type ConvOptions, conv } from "../../../src/ops/conv.ts";
import { add, mul, relu } from "../../../src/ops/elementwise.ts";
import { gradients } from "../../../src/ops/gradients.ts";
import { reduceSum } from "../../../src/ops/reduce.ts";
import { builtFor } from "../../../src/ops/target.ts";
import { fitted, inBlocks } from "../../../src/runtime/cpu/fitted.ts";
import { apart } from "../../apart.ts";
import { batchOf, stepperOf } from "../../methods/stepping.ts";
import { blockOrSkip, countOf, expectSame, graphOf } from "./same.ts";

/** Of all channels together: those of one channel each have files of their own. */
const onBlocks = (graph: Uint8Array) =>
  decodeModel(graph).graph!.node.filter(
    ({ domain, attribute }) => domain && attribute.some(({ name, i }) => name === "group" && i === 1n),
  ).length;
const plain = (graph: Uint8Array) => countOf(graph, "Conv", "");

describe("convolutions in NCHWc", () => {
  let block = 0;
  before(async function () {
    block = await blockOrSkip(this);
  });

  const windows: readonly (ConvOptions & { c: number; out: number; kernel: readonly [number, number] })[] = [
    { c: 32, out: 16, kernel: [3, 3], pad: 1 },
    { c: 16, out: 64, kernel: [1, 1] },
    { c: 48, out: 32, kernel: [3, 3], pad: 1, stride: 2 },
    { c: 16, out: 32, kernel: [1, 1], stride: 2 },
    { c: 32, out: 32, kernel: [3, 3], pad: 2, dilation: 2 },
    { c: 16, out: 16, kernel: [1, 3] },
    { c: 3, out: 32, kernel: [7, 7], pad: 3, stride: 2 },
    { c: 1, out: 16, kernel: [3, 3] },
  ];
  for (const { c, out, kernel, ...options } of windows) {
    it(`are as they were: ${JSON.stringify({ c, out, kernel, ...options })}`, async () => {
      const w = input("w", "float32", [out, c, ...kernel]);
      const graph = graphOf({ y: conv(input("x", "float32", ["n", c, 9, 11]), w, options) });
      expect(onBlocks(inBlocks(graph, block))).to.equal(1);
      await expectSame(graph, block, { x: [3, c, 9, 11], w: [out, c, ...kernel] });
    });
  }

  it("and their gradients, with kernels that nodes compute", async () => {
    const x = input("x", "float32", ["n", 16, 8, 8]); // [n, 16, 8, 8]
    const w = input("w", "float32", [32, 16, 3, 3]);
    const y = relu(conv(x, w, { pad: 1 })); // [n, 32, 8, 8]
    const loss = reduceSum(mul(y, y)); // []
    const [dx, dw] = builtFor(cpu(), () => gradients(loss, [x, w])) as [Tensor, Tensor];
    const graph = graphOf({ y, dx, dw });
    expect(onBlocks(inBlocks(graph, block))).to.equal(2);
    await expectSame(graph, block, { x: [4, 16, 8, 8], w: [32, 16, 3, 3] });
  });

  it("reorder a feature map and a kernel once for all that read them", async () => {
    const x = input("x", "float32", ["n", 16, 6, 6]);
    const [v, w] = ["v", "w"].map((name) => input(name, "float32", [16, 16, 3, 3])) as [Tensor, Tensor];
    const first = conv(x, w, { pad: 1 }); // [n, 16, 6, 6]
    const graph = graphOf({ y: add(first, conv(x, v, { pad: 1 })), z: conv(first, w, { pad: 1 }) });
    const turned = inBlocks(graph, block);
    expect(countOf(turned, "ReorderInput", "com.microsoft.nchwc")).to.equal(4); // x, first, v and w
    const sizes = { v: [16, 16, 3, 3], w: [16, 16, 3, 3] };
    await expectSame(graph, block, { x: [2, 16, 6, 6], ...sizes });
  });

  it("take a value as a feature map here and as a kernel there", async () => {
    const x = input("x", "float32", [16, 16, 3, 3]);
    const graph = graphOf({ y: conv(x, x, { pad: 1 }) });
    await expectSame(graph, block, { x: [16, 16, 3, 3] });
  });

  it("are left alone where channels fill no blocks, or are in groups", async () => {
    const y = conv(input("x", "float32", ["n", 40, 5, 5]), input("w", "float32", [16, 40, 1, 1]));
    const grouped = conv(y, input("g", "float32", [16, 8, 1, 1]), { groups: 2 });
    const odd = conv(y, input("o", "float32", [20, 16, 1, 1]));
    const graph = graphOf({ y, grouped, odd });
    const turned = inBlocks(graph, 16);
    expect([plain(turned), onBlocks(turned)]).to.deep.equal([3, 0]);
    await expectSame(graph, 16, { x: [2, 40, 5, 5], w: [16, 40, 1, 1], g: [16, 8, 1, 1], o: [20, 16, 1, 1] });
  });

  it("train as they did: a step of SimCLR, to 1e-4 of the gradients' size", async () => {
    const spec = { method: "simclr", encoder: "resnet20", imageSize: 16, config: { projection: 16 } };
    const whole = compile({ ...spec, optimizer: "sgd" }, targetNamed("cpu", 2));
    const step = inBlocks(whole.graphs.step, block);
    expect([plain(whole.graphs.step), plain(step)]).to.deep.equal([onBlocks(step), 0]);
    const batch = batchOf(whole, 8, 16);
    const scalars = { lr: 0.1, weightDecay: 0, momentum: 0.9, temperature: 0.5 };
    const results = [];
    for (const graph of [whole.graphs.step, step]) {
      const stepper = await stepperOf({ ...whole, graphs: { ...whole.graphs, step: graph } });
      results.push(await stepper.step(stepper.state(1), batch, scalars));
    }
    const [a, b] = results as [(typeof results)[0], (typeof results)[0]];
    expect(b!.metrics.loss).to.be.closeTo(a!.metrics.loss!, 1e-6);
    const momenta = [...a!.next].filter(([name]) => name.startsWith("momentum."));
    expect(momenta).to.have.length.above(20);
    for (const [name, { data }] of momenta) {
      const found = b!.next.get(name)!.data as Float32Array;
      expect(apart(found, data as Float32Array, 1e-3), name).to.be.below(1e-4);
    }
  });

  it("are for the CPU alone, and of whole graphs", async () => {
    const w = input("w", "float32", [16, 16, 1, 1]);
    const graph = graphOf({ y: conv(input("x", "float32", ["n", 16, 4, 4]), w) });
    expect(await fitted(graph, "webgpu")).to.equal(graph);
    expect(onBlocks(await fitted(graph))).to.equal(1);
    const damaged = graph.subarray(0, graph.length - 9);
    expect(await fitted(damaged)).to.equal(damaged);
  });
});
