/** Edits the nodes of an encoded model. What stays is copied as bytes: decoding it would take longer than the edit. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  ValueInfoProtoSchema,
} from "onnx-buf";
import type { Shape } from "../spec.ts";
import { once } from "./once.ts";
import { attributesFrom, opsetOf, shapeFrom, valueInfo } from "./protos.ts";
import type { Attributes } from "./tensor.ts";

/** Field numbers of a model, a graph, a node and a value in onnx.proto. */
const MODEL = { graph: 7, opsetImport: 8 };
const GRAPH = { node: 1, initializer: 5, input: 11, output: 12, valueInfo: 13 };
const NODE = { input: 1, output: 2, name: 3, opType: 4, attribute: 5, domain: 7 };
const VALUE = { name: 1, type: 2 };

/** A field's byte offsets: its tag, the start of its content, and its end. */
interface Field {
  readonly number: number;
  readonly tag: number;
  readonly start: number;
  readonly end: number;
}

/** What differs from node to node. */
interface Names {
  readonly name: string;
  readonly input: readonly string[];
  readonly output: readonly string[];
}

/** A node of an encoded model. */
export interface EncodedNode extends Names {
  readonly opType: string;
  readonly domain: string;
  readonly field: Field;
  /** Byte range of its attributes; empty, with the start behind the end, where it has none. */
  readonly attributesStart: number;
  readonly attributesEnd: number;
}

/** A node to be written. `rest` holds its other fields, encoded: many nodes share them. */
export interface NewNode extends Names {
  readonly rest: Uint8Array;
}

/** What a change can look at. */
export interface Known {
  readonly nodes: readonly EncodedNode[];
  readonly initializers: readonly TensorProto[];
  /** Names of the graph's outputs. */
  readonly outputs: readonly string[];
  /** Of values whose shape the graph states. */
  readonly shapes: ReadonlyMap<string, Shape>;
  attributesOf(node: EncodedNode): Attributes;
}

export interface Change {
  readonly nodes: Iterable<EncodedNode | NewNode>;
  /** Added to those of the model. */
  readonly initializers: Iterable<TensorProto>;
  /** Inner values, float32, whose shape the new model states. It states no others: see `late` of `buildModel`. */
  readonly shapes: ReadonlyMap<string, Shape>;
  /** A further operator set that the nodes need. */
  readonly operators?: { readonly domain: string; readonly version: number };
}

/**
 * The bytes of a model with its nodes changed.
 * @throws Error on bytes that are no model
 */
export function changeNodes(bytes: Uint8Array, change: (known: Known) => Change): Uint8Array {
  const read = new Reading(bytes);
  const model = read.fields(0, bytes.length);
  const graph = model.find(({ number }) => number === MODEL.graph);
  if (!graph) return bytes;
  const fields = read.fields(graph.start, graph.end);
  const of = (number: number) => fields.filter((field) => field.number === number);
  const outputs = of(GRAPH.output).map((field) => read.value(field));
  const values = [
    ...[GRAPH.input, GRAPH.valueInfo].flatMap(of).map((field) => read.value(field)),
    ...outputs,
  ];
  const { nodes, initializers, shapes, operators } = change({
    nodes: of(GRAPH.node).map((field) => read.node(field)),
    initializers: of(GRAPH.initializer).map((field) => fromBinary(TensorProtoSchema, read.content(field))),
    outputs: outputs.map(({ name }) => name),
    shapes: new Map(values.flatMap(({ name, shape }) => (shape ? [[name, shape]] : []))),
    attributesOf: (node) => read.attributes(node),
  });
  const write = new Writing(bytes);
  for (const field of model) if (field !== graph) write.copy(field);
  if (operators) {
    const { domain, version } = operators;
    write.message(MODEL.opsetImport, toBinary(OperatorSetIdProtoSchema, opsetOf(domain, version)));
  }
  write.open(MODEL.graph);
  for (const field of fields) {
    if (field.number !== GRAPH.node && field.number !== GRAPH.valueInfo) write.copy(field);
  }
  for (const tensor of initializers) write.message(GRAPH.initializer, toBinary(TensorProtoSchema, tensor));
  for (const [name, shape] of shapes) write.value(name, shape);
  for (const node of nodes) {
    if ("field" in node) write.copy(node.field);
    else write.node(node);
  }
  write.close();
  return write.finish();
}

/** Writes a model from the bytes of another. Adjacent fields are copied together. */
class Writing {
  private readonly from: Uint8Array;
  private readonly writer = new BinaryWriter();
  private readonly types = new Map<string, Uint8Array>();
  /** The range that is still to be copied. */
  private start = 0;
  private end = 0;

  constructor(from: Uint8Array) {
    this.from = from;
  }

  copy({ tag, end }: Field): void {
    if (tag !== this.end) {
      this.flush();
      this.start = tag;
    }
    this.end = end;
  }

  message(number: number, content: Uint8Array): void {
    this.flush();
    this.writer.tag(number, WireType.LengthDelimited).bytes(content);
  }

  open(number: number): void {
    this.flush();
    this.writer.tag(number, WireType.LengthDelimited).fork();
  }

  close(): void {
    this.flush();
    this.writer.join();
  }

  /** A message's fields may come in any order. */
  node({ rest, name, input, output }: NewNode): void {
    this.open(GRAPH.node);
    this.writer.raw(rest);
    for (const value of input) this.writer.tag(NODE.input, WireType.LengthDelimited).string(value);
    for (const value of output) this.writer.tag(NODE.output, WireType.LengthDelimited).string(value);
    this.writer.tag(NODE.name, WireType.LengthDelimited).string(name);
    this.close();
  }

  value(name: string, shape: Shape): void {
    const type = once(this.types, shape.join(), () =>
      toBinary(ValueInfoProtoSchema, valueInfo("", "float32", shape)),
    );
    this.open(GRAPH.valueInfo);
    this.writer.raw(type).tag(VALUE.name, WireType.LengthDelimited).string(name);
    this.close();
  }

  finish(): Uint8Array {
    this.flush();
    return this.writer.finish();
  }

  private flush(): void {
    if (this.end > this.start) this.writer.raw(this.from.subarray(this.start, this.end));
    this.start = this.end;
  }
}

/** Reads a model's bytes without creating a view and an object for each string. */
class Reading {
  private readonly bytes: Uint8Array;
  private readonly text: Buffer;
  private readonly reader: BinaryReader;
  /** Start of the content of the field that was read last. */
  private start = 0;
  private readonly types = new Map<string, { shape: Shape | undefined }>();
  private readonly known = new Map<string, Attributes>();

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.reader = new BinaryReader(bytes);
  }

  content({ start, end }: Field): Uint8Array {
    return this.bytes.subarray(start, end);
  }

  /** The fields of a message in [start, end). The content of a field without a length is its value. */
  fields(start: number, end: number): Field[] {
    const fields: Field[] = [];
    for (let at = start; at < end; at = this.reader.pos) {
      const number = this.field(at, end);
      fields.push({ number, tag: at, start: this.start, end: this.reader.pos });
    }
    return fields;
  }

  /** Steps over the field at an offset and returns its number. Its content is then [this.start, this.reader.pos). */
  private field(at: number, end: number): number {
    const { reader } = this;
    reader.pos = at;
    const tag = reader.uint32();
    const [number, type] = [tag >>> 3, tag & 7];
    if (type === WireType.LengthDelimited) {
      const length = reader.uint32();
      this.start = reader.pos;
      reader.pos += length;
    } else {
      this.start = reader.pos;
      reader.skip(type, number);
    }
    if (reader.pos > end) throw new RangeError("a field is cut off");
    return number;
  }

  private string(): string {
    return this.text.toString("utf8", this.start, this.reader.pos);
  }

  node(field: Field): EncodedNode {
    const [input, output]: [string[], string[]] = [[], []];
    let [name, opType, domain] = ["", "", ""];
    let [attributesStart, attributesEnd] = [field.end, field.start];
    for (let at = field.start; at < field.end; at = this.reader.pos) {
      const number = this.field(at, field.end);
      if (number === NODE.input) input.push(this.string());
      else if (number === NODE.output) output.push(this.string());
      else if (number === NODE.name) name = this.string();
      else if (number === NODE.opType) opType = this.string();
      else if (number === NODE.domain) domain = this.string();
      else if (number === NODE.attribute) {
        attributesStart = Math.min(attributesStart, at);
        attributesEnd = this.reader.pos;
      }
    }
    return { name, opType, domain, input, output, field, attributesStart, attributesEnd };
  }

  /** Decoded once for all nodes that have the same attributes. */
  attributes({ attributesStart: start, attributesEnd: end }: EncodedNode): Attributes {
    if (start >= end) return {};
    return once(this.known, this.text.toString("latin1", start, end), () =>
      attributesFrom(fromBinary(NodeProtoSchema, this.bytes.subarray(start, end)).attribute),
    );
  }

  /** A value's name, and its shape if each size is stated, as a number or a symbol. */
  value(field: Field): { name: string; shape: Shape | undefined } {
    let [name, type] = ["", ""];
    for (let at = field.start; at < field.end; at = this.reader.pos) {
      const number = this.field(at, field.end);
      if (number === VALUE.name) name = this.string();
      else if (number === VALUE.type) type = this.text.toString("latin1", at, this.reader.pos);
    }
    // Thousands of values share a few types.
    return {
      name,
      ...once(this.types, type, () => ({
        shape: shapeFrom(fromBinary(ValueInfoProtoSchema, Buffer.from(type, "latin1"))),
      })),
    };
  }
}
