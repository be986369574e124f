/** Changes to the nodes of a model in its bytes: what is left alone is not decoded, which takes longer than the change. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "onnx-buf";
import { opsetOf } from "./model.ts";

/** Numbers of fields that onnx.proto gives a model, a graph and a node. */
const MODEL = { graph: 7, opsetImport: 8 };
const GRAPH = { node: 1, initializer: 5, input: 11, output: 12, valueInfo: 13 };
const NODE = { opType: 4 };

/** A node, or the bytes of one that is left alone. */
export type Kept = NodeProto | Uint8Array;

export interface Change {
  readonly nodes: readonly Kept[];
  readonly initializers: Iterable<TensorProto>;
  /** A domain of operators that the nodes need. */
  readonly domain: string;
  readonly version: number;
}

/**
 * The bytes of a model with its nodes changed. `change` sees nodes of one operator type, others in their bytes, and the
 * values whose types the graph declares.
 * @throws Error on bytes that are no model
 */
export function changeNodes(
  bytes: Uint8Array,
  opType: string,
  change: (nodes: readonly Kept[], values: readonly ValueInfoProto[]) => Change,
): Uint8Array {
  const model = fieldsOf(bytes);
  const graph = model.find(({ number }) => number === MODEL.graph);
  if (!graph) return bytes;
  const fields = fieldsOf(graph.content);
  const contents = (...wanted: readonly number[]) =>
    fields.filter(({ number }) => wanted.includes(number)).map(({ content }) => content);
  const values = contents(GRAPH.input, GRAPH.output, GRAPH.valueInfo);
  const changed = change(
    contents(GRAPH.node).map(decoderOf(opType)),
    values.map((content) => fromBinary(ValueInfoProtoSchema, content)),
  );
  const writer = new BinaryWriter();
  for (const field of model) if (field !== graph) writer.raw(field.raw);
  const opset = toBinary(OperatorSetIdProtoSchema, opsetOf(changed.domain, changed.version));
  writer.tag(MODEL.opsetImport, WireType.LengthDelimited).bytes(opset);
  writer.tag(MODEL.graph, WireType.LengthDelimited).fork();
  for (const { number, raw } of fields) if (number !== GRAPH.node) writer.raw(raw);
  for (const tensor of changed.initializers) {
    writer.tag(GRAPH.initializer, WireType.LengthDelimited).bytes(toBinary(TensorProtoSchema, tensor));
  }
  for (const node of changed.nodes) {
    const content = node instanceof Uint8Array ? node : toBinary(NodeProtoSchema, node);
    writer.tag(GRAPH.node, WireType.LengthDelimited).bytes(content);
  }
  return writer.join().finish();
}

/** To decode a node that is of an operator type; others stay bytes. */
function decoderOf(opType: string): (bytes: Uint8Array) => Kept {
  const type = new BinaryWriter().tag(NODE.opType, WireType.LengthDelimited).string(opType).finish();
  const wanted = Buffer.from(type);
  return (bytes) => {
    if (!Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).includes(wanted)) return bytes;
    const node = fromBinary(NodeProtoSchema, bytes);
    return node.opType === opType ? node : bytes;
  };
}

interface Field {
  readonly number: number;
  /** With its tag. */
  readonly raw: Uint8Array;
  /** Of a field that has a length. */
  readonly content: Uint8Array;
}

function fieldsOf(bytes: Uint8Array): Field[] {
  const reader = new BinaryReader(bytes);
  const fields: Field[] = [];
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const [number, type] = reader.tag();
    const content = type === WireType.LengthDelimited ? reader.bytes() : reader.skip(type, number);
    fields.push({ number, raw: bytes.subarray(start, reader.pos), content });
  }
  return fields;
}
