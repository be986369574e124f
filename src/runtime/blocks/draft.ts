/** The nodes of a graph on blocks, as they are written. */
import { toBinary } from "@bufbuild/protobuf";
import { type AttributeProto, type NodeProto, NodeProtoSchema, type TensorProto } from "onnx-buf";
import type { EncodedNode, NewNode } from "../../graph/edit.ts";
import { nodeProto, tensorProto } from "../../graph/model.ts";
import type { Attributes, TensorData } from "../../graph/tensor.ts";
import type { DType, Shape } from "../../spec.ts";
import { OPERATORS } from "./layout.ts";

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
    domain = "",
  ): string {
    const rest = this.restOf(`${domain} ${type} ${JSON.stringify(attributes)}`, () => ({
      ...nodeProto(type, "", [], [], attributes),
      domain,
    }));
    this.nodes.push({ rest, name: `${of}.${this.nodes.length}`, input, output: [made] });
    return made;
  }

  /** The same of an operator on blocks. */
  addOnBlocks(
    type: string,
    of: string,
    input: readonly string[],
    attributes?: Attributes,
    made?: string,
  ): string {
    return this.add(type, of, input, attributes, made, OPERATORS.domain);
  }

  /** What the operator on blocks makes in place of a node, whose attributes are whole numbers. */
  likeOnBlocks(
    { name, opType }: EncodedNode,
    attribute: readonly AttributeProto[],
    input: readonly string[],
  ): string {
    const made = `blocks.${this.nodes.length}`;
    const kind = attribute.map(({ name, i, ints }) => `${name} ${i} ${ints}`);
    const rest = this.restOf(`like ${opType} ${kind}`, () => ({
      ...nodeProto(opType, "", [], []),
      attribute: [...attribute],
      domain: OPERATORS.domain,
    }));
    this.nodes.push({ rest, name, input, output: [made] });
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

  /** Encoded once for all nodes of a kind. */
  private restOf(kind: string, make: () => NodeProto): Uint8Array {
    const rest = this.kinds.get(kind) ?? toBinary(NodeProtoSchema, make());
    this.kinds.set(kind, rest);
    return rest;
  }

  constant(label: string, data: () => TensorData, shape: readonly number[], dtype?: DType): string {
    const name = `blocks.${label}`;
    if (!this.constants.has(name)) this.constants.set(name, tensorProto(name, data(), shape, dtype));
    return name;
  }
}

/** What is made once for all that ask for it. */
export function once<K>(known: Map<K, string>, key: K, make: () => string): string {
  const value = known.get(key) ?? make();
  known.set(key, value);
  return value;
}
