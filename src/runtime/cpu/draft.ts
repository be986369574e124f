/** The nodes of a graph that uses the blocked layout (NCHWc), as they are written. */
import { toBinary } from "@bufbuild/protobuf";
import { NodeProtoSchema, type TensorProto } from "onnx-buf";
import type { EncodedNode, NewNode } from "../../graph/edit.ts";
import { once } from "../../graph/once.ts";
import { nodeProto, tensorProto } from "../../graph/protos.ts";
import type { Attributes, TensorData } from "../../graph/tensor.ts";
import type { DType, Shape } from "../../spec.ts";
import { OPERATORS } from "./layout.ts";

/** The operators of the layout that we write; all others are standard ones. */
const ON_BLOCKS: readonly string[] = ["Conv", "ReorderInput", "ReorderOutput"];

export class Draft {
  readonly nodes: (EncodedNode | NewNode)[] = [];
  readonly constants = new Map<string, TensorProto>();
  /** Values whose shape the graph states. */
  readonly shapes = new Map<string, Shape>();
  private readonly targets = new Map<string, string>();
  private readonly kinds = new Map<string, Uint8Array>();

  /** Adds a node. Gives the name of its output: the one given, or a new one. `of` names the node that it is for. */
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

  /**
   * Adds a reshape. The runtime learns its sizes as late as those of the graph's own reshapes: see `late` of
   * `buildModel`.
   */
  reshape(of: string, x: string, sizes: readonly number[], made?: string): string {
    const label = sizes.join("x");
    const rank = [sizes.length];
    const target = once(this.targets, label, () => {
      const values = this.constant(`sizes.${label}`, () => BigInt64Array.from(sizes, BigInt), rank);
      const all = this.constant(`all.${rank}`, () => new Uint8Array(sizes.length).fill(1), rank, "bool");
      // How many values it lets through is known only when the graph runs.
      return this.add("Compress", "late", [values, all]);
    });
    return this.add("Reshape", of, [x, target], {}, made);
  }

  constant(label: string, data: () => TensorData, shape: readonly number[], dtype?: DType): string {
    const name = `blocks.${label}`;
    return once(this.constants, name, () => tensorProto(name, data(), shape, dtype)).name;
  }
}
