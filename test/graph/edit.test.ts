import { toBinary, toJson } from "@bufbuild/protobuf";
import { expect } from "chai";
import { ModelProtoSchema, NodeProtoSchema } from "onnx-buf";
import { compile } from "../../src/artifact/compile.ts";
import { changeNodes, type Known } from "../../src/graph/edit.ts";
import { type ModelProto, OPSET } from "../../src/graph/model.ts";
import { decodeModel, nodeProto, tensorProto, valueInfo } from "../../src/graph/protos.ts";
import type { Shape } from "../../src/spec.ts";

const { graphs } = compile({ method: "simclr", encoder: "resnet20", imageSize: 16 });
const NOTHING = { initializers: [], shapes: new Map<string, Shape>() };

const before = decodeModel(graphs.step);

describe("changes to the nodes of a model", () => {
  it("leave all else as it is, but the stated shapes of inner values", () => {
    const changed = decodeModel(changeNodes(graphs.step, ({ nodes }) => ({ ...NOTHING, nodes })));
    const text = (model: ModelProto) => JSON.stringify(toJson(ModelProtoSchema, model));
    const untold = decodeModel(graphs.step);
    expect(untold.graph!.valueInfo).to.have.length.above(30);
    untold.graph!.valueInfo = [];
    expect(text(changed) === text(untold)).to.equal(true);
  });

  it("import operators that nodes need besides", () => {
    const operators = { domain: "some.domain", version: 3 };
    const changed = decodeModel(changeNodes(graphs.step, ({ nodes }) => ({ ...NOTHING, nodes, operators })));
    const imports = changed.opsetImport.map(({ domain, version }) => ({ domain, version: Number(version) }));
    expect(imports).to.deep.equal([{ domain: "", version: OPSET }, operators]);
  });

  it("go by nodes, constants, outputs and shapes as they are", () => {
    let seen: Known | undefined;
    changeNodes(graphs.step, (known) => {
      seen = known;
      const again = known.nodes.map((node) => nodeProto("", "", [], [], known.attributesOf(node)).attribute);
      expect(again).to.deep.equal(before.graph!.node.map(({ attribute }) => attribute));
      return { ...NOTHING, nodes: known.nodes };
    });
    const { nodes, initializers, outputs, shapes } = seen!;
    const graph = before.graph!;
    expect(nodes.map(({ field, attributesStart, attributesEnd, ...rest }) => rest)).to.deep.equal(
      graph.node.map(({ name, opType, domain, input, output }) => ({ name, opType, domain, input, output })),
    );
    expect(initializers).to.deep.equal(graph.initializer);
    expect(outputs).to.deep.equal(graph.output.map(({ name }) => name));
    const { stem, images } = { stem: shapes.get("encoder.conv1.weight"), images: shapes.get("images") };
    expect([stem, images]).to.deep.equal([
      [16, 3, 3, 3],
      ["n", "h", "w", 3],
    ]);
  });

  it("take nodes out, and nodes, constants and shapes in", () => {
    const rest = toBinary(NodeProtoSchema, nodeProto("Conv", "", [], [], { group: 2 }));
    const added = { rest, name: "name", input: ["a", "", "ünder"], output: ["y"] };
    const bytes = changeNodes(graphs.step, ({ nodes }) => ({
      ...NOTHING,
      nodes: [...nodes.filter(({ opType }) => opType !== "Conv"), added],
      initializers: [tensorProto("seven", Float32Array.of(7), [1])],
      shapes: new Map([["y", ["n", 3]]]),
    }));
    const { node, initializer, valueInfo: values } = decodeModel(bytes).graph!;
    expect(node.filter(({ opType }) => opType === "Conv")).to.deep.equal([
      nodeProto("Conv", "name", ["a", "", "ünder"], ["y"], { group: 2 }),
    ]);
    expect(initializer.at(-1)!.name).to.equal("seven");
    expect(values).to.deep.equal([valueInfo("y", "float32", ["n", 3])]);
  });

  it("refuse bytes that are no model", () => {
    const change = ({ nodes }: Known) => ({ ...NOTHING, nodes });
    expect(() => changeNodes(graphs.step.subarray(0, 1000), change)).to.throw();
    expect(() => changeNodes(new Uint8Array(graphs.encode.byteLength).fill(255), change)).to.throw();
  });
});
