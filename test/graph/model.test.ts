import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { buildModel, type ModelProto, OPSET } from "../../src/graph/model.ts";
import { decodeModel, encodeModel, shapeFrom } from "../../src/graph/protos.ts";
import { constant, input, inScope, scalar } from "../../src/graph/tensor.ts";
import { conv } from "../../src/ops/conv.ts";
import { add, mul, neg, relu } from "../../src/ops/elementwise.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { reshape } from "../../src/ops/movement.ts";
import { reduceSum } from "../../src/ops/reduce.ts";
import { compile, floats } from "../support/run.ts";

const build = (
  outputs: Parameters<typeof buildModel>[0],
  inputs: Parameters<typeof buildModel>[1]["inputs"] = [],
) => buildModel(outputs, { name: "test", inputs });
const nodeNames = (model: ModelProto) => model.graph!.node.map((node) => node.name);
const inputNames = (model: ModelProto) => model.graph!.input.map((value) => value.name);

/** A graph of several scopes, operators and constants. */
function sample() {
  const x = input("x", "float32", ["n", 2]);
  const w = input("w", "float32", [2, 2]);
  const y = inScope("encoder", () =>
    inScope("layer1", () => add(relu(matmul(x, w)), constant(new Float32Array([1, 2]), [2]))),
  );
  const loss = reduceSum(mul(y, y));
  return { x, w, y, loss, dw: gradients(loss, [w])[0]! };
}

describe("models", () => {
  it("carry the scope in the names of nodes", () => {
    const { y } = sample();
    const model = build({ y });
    expect(nodeNames(model)).to.deep.equal([
      "encoder.layer1/MatMul",
      "encoder.layer1/Relu",
      "encoder.layer1/Add",
    ]);
    expect(model.graph!.node[1]!.input).to.deep.equal(model.graph!.node[0]!.output);
  });

  it("put the gradient's nodes into the scope gradient, under that of the node they belong to", () => {
    const { loss, dw } = sample();
    const own = new Set(nodeNames(build({ loss })));
    const added = nodeNames(build({ dw })).filter((name) => !own.has(name));
    expect(added).to.include("gradient.encoder.layer1/MatMul");
    for (const name of added) expect(name).to.match(/^gradient(\.encoder\.layer1)?\//);
  });

  it("number nodes of one operator in one scope, so that no two share a name", () => {
    const x = input("x", "float32", [2]);
    const names = inScope("a", () => nodeNames(build({ y: neg(neg(neg(x))) })));
    expect(names).to.deep.equal(["a/Neg", "a/Neg_1", "a/Neg_2"]);
    const { loss, dw, y } = sample();
    const all = nodeNames(build({ loss, dw, y }));
    expect(new Set(all).size).to.equal(all.length);
  });

  it("hold only what the outputs reach", () => {
    const x = input("x", "float32", [2]);
    const unused = input("unused", "float32", [2]);
    mul(x, unused);
    const model = build({ y: neg(x) });
    expect(nodeNames(model)).to.deep.equal(["Neg"]);
    expect(inputNames(model)).to.deep.equal(["x"]);
    expect(model.graph!.initializer).to.have.length(0);
  });

  it("declare the inputs that were asked for, first and in that order, even if nothing reads them", () => {
    const [a, b, c] = ["a", "b", "c"].map((name) => input(name, "uint8", ["n", 3])) as [never, never, never];
    const x = input("x", "float32", ["n"]);
    const model = build({ y: neg(x) }, [c, a, b]);
    expect(inputNames(model)).to.deep.equal(["c", "a", "b", "x"]);
    const type = model.graph!.input[0]!.type!.value;
    if (type.case !== "tensorType") throw new Error("expected a tensor");
    expect(type.value.elemType).to.equal(2); // uint8
    expect(type.value.shape!.dim.map((dim) => dim.value.value)).to.deep.equal(["n", 3n]);
  });

  it("hold equal constants once; other shapes, types and values apart", () => {
    const x = input("x", "float32", [2]);
    const parts = [scalar(2), scalar(2), scalar(3), constant(new Float32Array([2]), [1])];
    const model = build({ y: parts.reduce((sum, part) => mul(sum, part), x) });
    expect(model.graph!.initializer.map((t) => t.dims.map(Number))).to.deep.equal([[], [], [1]]);
    const used = model.graph!.node.map((node) => node.input[1]);
    expect(used[0]).to.equal(used[1]);
    expect(new Set(used).size).to.equal(3);
    // -0 and 0 differ in their bytes; int64 0 and two float32 0 do not.
    expect(build({ y: mul(mul(x, 0), -0) }).graph!.initializer).to.have.length(2);
  });

  it("are the same bytes when built again", () => {
    const bytes = [0, 1].map(() => {
      const { loss, dw, y } = sample();
      return encodeModel(build({ loss, dw, y }));
    });
    expect(bytes[0]).to.deep.equal(bytes[1]);
  });

  it("come back from their bytes", () => {
    const { loss, dw } = sample();
    const model = buildModel({ loss, dw }, { name: "sample", metadata: { key: "value" } });
    const back = decodeModel(encodeModel(model));
    expect(back).to.deep.equal(model);
    expect(back.graph!.name).to.equal("sample");
    expect(back.opsetImport.map(({ version }) => Number(version))).to.deep.equal([OPSET]);
    expect(back.metadataProps.map(({ key, value }) => [key, value])).to.deep.equal([["key", "value"]]);
    expect(encodeModel(back)).to.deep.equal(encodeModel(model));
  });

  it("refuse bytes that are no model", () => {
    expect(() => decodeModel(new Uint8Array([0xff, 0xff, 0xff]))).to.throw();
  });

  it("put out a value twice, an input, a constant", async () => {
    const x = input("x", "float32", ["n"]);
    const y = neg(x);
    const run = await compile({ y, again: y, same: x, sum: add(y, 1), one: scalar(1) });
    const out = await run({ x: floats([1, -2], [2]) });
    const values = Object.fromEntries(
      Object.entries(out).map(([name, t]) => [name, Array.from(t.data, Number)]),
    );
    expect(values).to.deep.equal({ y: [-1, 2], again: [-1, 2], same: [1, -2], sum: [0, 3], one: [1] });
    expect(out.one!.shape).to.deep.equal([]);
  });

  it("accept an input under its own name as an output", async () => {
    const x = input("x", "float32", [1]);
    const model = build({ y: neg(x), x });
    expect(model.graph!.output.map((value) => value.name)).to.deep.equal(["y", "x"]);
    const session = await ort.InferenceSession.create(encodeModel(model));
    const out = await session.run({ x: new ort.Tensor("float32", new Float32Array([3]), [1]) });
    expect(Array.from(out.x!.data as Float32Array)).to.deep.equal([3]);
  });

  it("keep sizes from the runtime until late: to the same values, by targets that no initializer holds", async () => {
    const [x, w] = [input("x", "float32", ["n", 4]), input("w", "float32", [4, 1])];
    const outputs = {
      y: neg(reshape(x, ["n", 2, 2])),
      rows: neg(reshape(matmul(x, w), ["n"])),
      flat: neg(reshape(w, [4])),
    };
    const models = [true, false].map((late) => buildModel(outputs, { name: "test", late }));
    const targets = models.map(({ graph }) => {
      const held = new Set(graph!.initializer.map(({ name }) => name));
      return graph!.node.filter((n) => n.opType === "Reshape").map(({ input }) => held.has(input[1]!));
    });
    expect(targets).to.deep.equal([
      [false, false, false],
      [true, true, true],
    ]);
    for (const model of models) {
      const session = await ort.InferenceSession.create(encodeModel(model), { logSeverityLevel: 3 });
      const tensor = (values: number[], shape: number[]) =>
        new ort.Tensor("float32", Float32Array.from(values), shape);
      for (const n of [1, 3]) {
        const ones = tensor(Array(4 * n).fill(1), [n, 4]);
        const out = await session.run({ x: ones, w: tensor([1, 2, 3, 4], [4, 1]) });
        expect([out.y!.dims, out.rows!.dims, out.flat!.dims]).to.deep.equal([[n, 2, 2], [n], [4]]);
        expect(Array.from(out.rows!.data as Float32Array)).to.deep.equal(Array(n).fill(-10));
      }
    }
  });

  it("state the shapes of kernels that nodes compute and, unless late, of feature maps that convolutions read", () => {
    const [x, w] = [input("x", "float32", ["n", 2, 5, 4]), input("w", "float32", [3, 2, 3, 3])];
    const y = neg(conv(conv(neg(x), neg(w)), constant(new Float32Array(6), [2, 3, 1, 1])));
    const told = [false, true].map((late) => {
      const { graph } = buildModel({ y }, { name: "test", late });
      return graph!.valueInfo.map((info) => shapeFrom(info));
    });
    const kernel = [3, 2, 3, 3];
    expect(told).to.deep.equal([[["n", 2, 5, 4], kernel, ["n", 3, 3, 2]], [kernel]]);
  });

  it("keep a symbolic size", async () => {
    const { y } = sample();
    const run = await compile({ y });
    for (const n of [1, 2, 5]) {
      const out = await run({ x: floats(Array(2 * n).fill(1), [n, 2]), w: floats([1, 2, 3, 4], [2, 2]) });
      expect(out.y!.shape).to.deep.equal([n, 2]);
      expect(Array.from(out.y!.data, Number)).to.deep.equal(Array(n).fill([5, 8]).flat());
    }
  });
});
