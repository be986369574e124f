import { expect } from "chai";
import { input, type Tensor } from "../../../src/graph/tensor.ts";
import { add, mul, relu } from "../../../src/ops/elementwise.ts";
import { gradients } from "../../../src/ops/gradients.ts";
import { batchNorm, batchNormTraining } from "../../../src/ops/normalization.ts";
import { reduceSum } from "../../../src/ops/reduce.ts";
import { inBlocks } from "../../../src/runtime/cpu/fitted.ts";
import type { Dim } from "../../../src/spec.ts";
import { blockOrSkip, countOf, expectSame, graphOf } from "./same.ts";

const onBlocks = (graph: Uint8Array) => countOf(graph, "Conv", "com.microsoft.nchwc");
const left = (graph: Uint8Array) =>
  ["BatchNormalization", "Relu", "Add"].map((opType) => countOf(graph, opType));

const C = 5;
const vectors = { scale: [C], bias: [C] };
const [scale, bias] = ["scale", "bias"].map((name) => input(name, "float32", [C])) as [Tensor, Tensor];
const map = (name: string, ...sizes: Dim[]) => input(name, "float32", ["n", C, ...sizes]);
/** A map normalised: a x + b per channel. */
const normal = (x: Tensor) => batchNormTraining(x, scale, bias).y;

describe("affine transformations per channel in NCHWc", () => {
  let block = 0;
  before(async function () {
    block = await blockOrSkip(this);
  });
  const [x, y] = [map("x", 4, 8), map("x2", 4, 8)];
  const sizes = { x: [3, C, 4, 8], x2: [3, C, 4, 8], ...vectors };
  const { x: ofX } = sizes;

  it("are as they were, with the ReLU that follows", async () => {
    const graph = graphOf({ y: relu(normal(x)) });
    expect([onBlocks(inBlocks(graph, block)), left(inBlocks(graph, block))[1]]).to.deep.equal([1, 0]);
    await expectSame(graph, block, { x: ofX, ...vectors });
  });

  it("keep what others read too", async () => {
    const z = normal(x); // as x
    const graph = graphOf({ y: relu(z), z: mul(z, 2) });
    expect([onBlocks(inBlocks(graph, block)), left(inBlocks(graph, block))[1]]).to.deep.equal([1, 1]);
    await expectSame(graph, block, { x: ofX, ...vectors });
    const out = graphOf({ y: relu(z), z });
    expect(left(inBlocks(out, block))[1]).to.equal(1);
    await expectSame(out, block, { x: ofX, ...vectors });
  });

  for (const [what, of] of [
    ["two of them", (z: Tensor) => add(z, normal(y))],
    ["one and another map", (z: Tensor) => add(z, relu(y))],
    ["another map and one", (z: Tensor) => add(relu(y), z)],
    ["one and itself", (z: Tensor) => add(z, z)],
    ["one and a map in the shape of the first", (z: Tensor) => add(z, x)],
  ] as const) {
    it(`are summed, with ReLU and without: ${what}`, async () => {
      const sum = of(normal(x)); // as x
      const reads = what.includes("another") || what.includes("two") ? sizes : { x: ofX, ...vectors };
      await expectSame(graphOf({ y: sum }), block, reads);
      await expectSame(graphOf({ y: relu(sum) }), block, reads);
      await expectSame(graphOf({ y: relu(add(sum, x)), z: mul(sum, 3) }), block, reads);
    });
  }

  it("of sums take those alone whose sizes are the same", async () => {
    const joined = inBlocks(graphOf({ y: relu(add(normal(x), normal(y))) }), block);
    expect([onBlocks(joined), ...left(joined).slice(0, 2)]).to.deep.equal([2, 0, 0]);
    const graph = graphOf({ y: relu(add(normal(x), map("row", 1, 8))) });
    expect(left(inBlocks(graph, block)).slice(0, 2)).to.deep.equal([0, 1]);
    await expectSame(graph, block, { x: ofX, ...vectors, row: [3, C, 1, 8] });
  });

  it("and their gradients", async () => {
    const z = relu(add(relu(normal(x)), normal(y))); // as x
    const by = [x, y, scale, bias];
    const found = gradients(reduceSum(mul(z, z)), by);
    const graph = graphOf(Object.fromEntries(found.map((g, i) => [`g${i}`, g])));
    expect(left(inBlocks(graph, block))[0]).to.equal(0);
    await expectSame(graph, block, sizes);
  });

  it("of one axis and of three", async () => {
    await expectSame(graphOf({ y: relu(normal(map("x", 32))) }), block, { x: [2, C, 32], ...vectors });
    await expectSame(graphOf({ y: normal(map("x", 2, 4, 4)) }), block, { x: [2, C, 2, 4, 4], ...vectors });
  });

  it("are left alone where a channel fills no blocks, sizes are free or there is more to do", async () => {
    const given = ["mean", "variance"].map((name) => input(name, "float32", [C])) as [Tensor, Tensor];
    for (const graph of [
      graphOf({ y: normal(map("x", 5, 5)) }),
      graphOf({ y: normal(map("x", "h", 8)) }),
      graphOf({ y: normal(map("x")) }),
      graphOf({ y: batchNorm(x, scale, bias, ...given) }),
    ]) {
      expect([onBlocks(inBlocks(graph, block)), left(inBlocks(graph, block))[0]]).to.deep.equal([0, 1]);
    }
    await expectSame(graphOf({ y: normal(map("x", 5, 5)) }), block, { x: [2, C, 5, 5], ...vectors });
  });
});
