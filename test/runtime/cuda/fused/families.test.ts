import { expect } from "chai";
import { buildModel } from "../../../../src/graph/model.ts";
import { decodeModel, encodeModel } from "../../../../src/graph/protos.ts";
import { input, scalar, type Tensor } from "../../../../src/graph/tensor.ts";
import * as on from "../../../../src/ops/elementwise.ts";
import { matmul } from "../../../../src/ops/matmul.ts";
import { transpose } from "../../../../src/ops/movement.ts";
import { divideByCount, reduceSum } from "../../../../src/ops/reduce.ts";
import { fused, lowered } from "../../../../src/runtime/cuda/fused/lower.ts";
import { operations } from "../../../../src/runtime/cuda/fused/operations.ts";
import { DOMAIN } from "../../../../src/runtime/cuda/fused/written.ts";
import { temporaryFolder } from "../../../data/folder.ts";
import { cases, differences, drawn, odd, pair, prepared, ROUNDING } from "./cases.ts";
import { compiled, compilerOr } from "./compiled.ts";
import { evaluate } from "./evaluate.ts";
import { arithmetic, interpret } from "./interpreter.ts";

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
    const size = [5, 2 ** 16];
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
      { x: size, y: size, v: [5], w: [5] },
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
