/**
 * The runtime's blocked layout (NCHWc): a feature map [n, c, h, w] as [n, c / 16, h, w, 16], or with 8 channels in a
 * block.
 */
import { create } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "onnx-buf";
import * as ort from "onnxruntime-node";
import { IR_VERSION, OPSET } from "../../graph/model.ts";
import { encodeModel, nodeProto, opsetOf, valueInfo } from "../../graph/protos.ts";
import { openStateful } from "../stateful.ts";

/** The runtime's operators on this layout. No graph on disk has them. */
export const OPERATORS = { domain: "com.microsoft.nchwc", version: 1 };

let found: Promise<number | undefined> | undefined;

/** Channels in a block on this processor; undefined where the runtime has no such layout. */
export function blockSize(): Promise<number | undefined> {
  found ??= observed().catch(() => undefined);
  return found;
}

/**
 * Found with a feature map of two pixels: the second pixel of the first channel comes after as many values as a block
 * has.
 */
async function observed(): Promise<number | undefined> {
  const sizes = [1, 64, 1, 2];
  const [x, y] = ["x", "y"].map((name) => valueInfo(name, "float32", sizes));
  const model = create(ModelProtoSchema, {
    irVersion: BigInt(IR_VERSION),
    opsetImport: [opsetOf("", OPSET), opsetOf(OPERATORS.domain, OPERATORS.version)],
    graph: {
      name: "blocks",
      node: [{ ...nodeProto("ReorderInput", "turn", ["x"], ["y"]), domain: OPERATORS.domain }],
      input: [x!],
      output: [y!],
    },
  });
  const session = await openStateful(encodeModel(model), "blocks", [], () => ({}), { threads: 1 });
  const data = Float32Array.from({ length: 128 }, (_, i) => i); // [1, 64, 1, 2]
  const { y: turned } = await session.run({ x: new ort.Tensor("float32", data, sizes) }, ["y"]);
  await session.close();
  const block = (turned!.data as Float32Array).indexOf(1);
  return block > 1 ? block : undefined;
}
