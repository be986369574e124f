import { create } from "@bufbuild/protobuf";
import { expect } from "chai";
import { AttributeProtoSchema, type GraphProto, GraphProtoSchema, NodeProtoSchema } from "onnx-buf";
import { cutPointsOf } from "../../src/export/cut-points.ts";

/** Nodes written as "Type in,in -> out,out". */
function graphOf(...lines: readonly string[]): GraphProto {
  const node = lines.map((line) => {
    const [, opType, input, output] = /^(\S+) (\S+) -> (\S+)$/.exec(line)!;
    return create(NodeProtoSchema, { opType: opType!, input: input!.split(","), output: output!.split(",") });
  });
  return create(GraphProtoSchema, { node });
}

describe("export/cut-points", () => {
  it("are the values that all later ones depend on the image through", () => {
    const residual = graphOf(
      "Conv x,w -> a",
      "Relu a -> b",
      "Conv b,w -> c",
      "Relu c -> d",
      "Add d,b -> e",
      "GlobalAveragePool e -> f",
      "Gemm f,w -> y",
    );
    expect(cutPointsOf(residual, "x")).to.deep.equal(["a", "b", "e", "f"]);
    const late = graphOf("Conv x,w -> a", "Relu a -> b", "Concat b,x -> c", "Relu c -> y");
    expect(cutPointsOf(late, "x")).to.deep.equal(["c"]);
  });

  it("do not mind what depends on the image's sizes alone, nor outputs that nothing reads", () => {
    const sized = graphOf(
      "Conv x,w -> a,unread",
      "Shape x -> s",
      "ConstantOfShape s -> zeros",
      "Concat a,zeros -> b",
      "Relu b -> c",
      "Reshape c,s -> y",
    );
    expect(cutPointsOf(sized, "x")).to.deep.equal(["b", "c"]);
  });

  it("mind what a nested graph reads", () => {
    const graph = graphOf("Conv x,w -> a", "Relu a -> b", "If cond -> c", "Relu c -> y");
    const g = graphOf("Add b,a -> inner");
    graph.node[2]!.attribute = [create(AttributeProtoSchema, { name: "then_branch", g })];
    expect(cutPointsOf(graph, "x")).to.deep.equal(["a", "c"]);
  });
});
