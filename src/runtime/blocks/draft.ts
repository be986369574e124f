/** The nodes of a graph on blocks, as they are written. */
import { toBinary } from "@bufbuild/protobuf";
import { NodeProtoSchema, type TensorProto } from "onnx-buf";
import type { EncodedNode, NewNode } from "../../graph/edit.ts";
import { nodeProto, tensorProto } from "../../graph/model.ts";
import { once } from "../../graph/once.ts";
import type { Attributes, TensorData } from "../../graph/tensor.ts";
import type { DType, Shape } from "../../spec.ts";
import { OPERATORS } from "./layout.ts";

/** What we write of the operators on blocks; other operators are standard ones. */
const ON_BLOCKS: readonly string[] = ["Conv", "ReorderInput", "ReorderOutput"];

export class Draft {
  readonly nodes: (EncodedNode | NewNode)[] = [];
  readonly constants = new Map<string, TensorProto>();
  /** Values whose sizes the runtime learns beforehand. */
  readonly shapes = new Map<string, Shape>();
  private readonly targets = new Map<string, string>();
  private readonly kinds = new Map<string, Uint8Array>();

  /** The value that a node more makes, under the name given or one of its own; `of` names the node that it is for. */
  add(
    type: string,
    of: string,
    input: readonly string[],
    attributes: Attributes = {},
    made = `blocks.${this.nodes.length}`,
  ): string {
    const rest = once(this.kinds, `${type} ${JSON.stringify(attributes)}`, () => {
      const domain = ON_BLOCKS.includes(type) ? OPERATORS.domain : "";
      return toBinary(NodeProtoSchema, { ...nodeProto(type, "", [], [], attributes), domain });
    });
    this.nodes.push({ rest, name: `${of}.${this.nodes.length}`, input, output: [made] });
    return made;
  }

  /** The runtime learns the sizes as late as it does those of the graph's own reshapes: see `late` of `buildModel`. */
  reshape(of: string, x: string, sizes: readonly number[], made?: string): string {
    const label = sizes.join("x");
    const rank = [sizes.length];
    const target = once(this.targets, label, () => {
      const values = this.constant(`sizes.${label}`, () => BigInt64Array.from(sizes, BigInt), rank);
      const all = this.constant(`all.${rank}`, () => new Uint8Array(sizes.length).fill(1), rank, "bool");
      // How many it lets through shows only then.
      return this.add("Compress", "late", [values, all]);
    });
    return this.add("Reshape", of, [x, target], {}, made);
  }

  constant(label: string, data: () => TensorData, shape: readonly number[], dtype?: DType): string {
    const name = `blocks.${label}`;
    return once(this.constants, name, () => tensorProto(name, data(), shape, dtype)).name;
  }
}
