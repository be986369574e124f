import { toJson } from "@bufbuild/protobuf";
import { expect } from "chai";
import { ModelProtoSchema } from "onnx-buf";
import { compile } from "../../src/artifact/compile.ts";
import { changeNodes, type Kept } from "../../src/graph/edit.ts";
import { decodeModel, tensorProto } from "../../src/graph/model.ts";

const { graphs } = compile({ method: "simclr", encoder: "resnet20", imageSize: 16 });
const NOTHING = { initializers: [], domain: "some.domain", version: 3 };

const typeOf = (node: Kept) => (node instanceof Uint8Array ? "" : node.opType);

describe("changes to the nodes of a model", () => {
  it("leave all else as it is", () => {
    const changed = decodeModel(changeNodes(graphs.step, "Conv", (nodes) => ({ nodes, ...NOTHING })));
    const [last] = changed.opsetImport.splice(-1);
    expect([last!.domain, last!.version]).to.deep.equal(["some.domain", 3n]);
    const text = (model: typeof changed) => JSON.stringify(toJson(ModelProtoSchema, model));
    expect(text(changed) === text(decodeModel(graphs.step))).to.equal(true);
  });

  it("see the nodes of a type, all of them and no others", () => {
    const wanted = decodeModel(graphs.step).graph!.node.filter(({ opType }) => opType === "Conv");
    let seen: string[] = [];
    changeNodes(graphs.step, "Conv", (nodes) => {
      seen = nodes.map(typeOf).filter((type) => type !== "");
      return { nodes, ...NOTHING };
    });
    expect(wanted).to.have.length.above(30);
    expect(seen).to.deep.equal(wanted.map(() => "Conv"));
  });

  it("take nodes out and constants in", () => {
    const bytes = changeNodes(graphs.step, "Conv", (nodes) => ({
      ...NOTHING,
      nodes: nodes.filter((node) => typeOf(node) !== "Conv"),
      initializers: [tensorProto("seven", Float32Array.of(7), [1])],
    }));
    const { node, initializer } = decodeModel(bytes).graph!;
    expect(node.some(({ opType }) => opType === "Conv")).to.equal(false);
    expect(initializer.at(-1)!.name).to.equal("seven");
  });

  it("refuse bytes that are no model", () => {
    const change = (nodes: readonly Kept[]) => ({ nodes, ...NOTHING });
    expect(() => changeNodes(graphs.step.subarray(0, 1000), "Conv", change)).to.throw();
    const { byteLength } = graphs.encode;
    expect(() => changeNodes(new Uint8Array(byteLength).fill(255), "Conv", change)).to.throw();
  });
});
