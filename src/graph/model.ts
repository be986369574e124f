/** From tensors to the bytes of an ONNX model, and from bytes to a ModelProto. */
import { create } from "@bufbuild/protobuf";
import { type ModelProto, ModelProtoSchema, type NodeProto, type TensorProto } from "onnx-buf";
import type { Shape } from "../spec.ts";
import { noteOf } from "./notes.ts";
import { once } from "./once.ts";
import { nodeProto, opsetOf, tensorProto, valueInfo } from "./protos.ts";
import type { Node, Tensor, TensorData } from "./tensor.ts";

export type { ModelProto } from "onnx-buf";

/** The one operator set of all our graphs. LayerNormalization came with 17; nothing of ours needs a newer one. */
export const OPSET = 17;
export const IR_VERSION = 8;

export interface BuildOptions {
  readonly name: string;
  /** Declared even where nothing reads them, in this order; other inputs follow as they are met. */
  readonly inputs?: readonly Tensor[];
  /** Tensors that are fed by these names in place of being computed. */
  readonly given?: ReadonlyMap<Tensor, string>;
  readonly metadata?: Readonly<Record<string, string>>;
  /**
   * Whether the runtime learns the sizes of reshaped values only when it runs the graph. When it plans a graph it
   * compares each value whose size it knows in part with all values before it: 25 s for 13,000 of them, 1 s without.
   * It also keeps a buffer from one value to the next of the same size, such as that of a kernel in the Winograd
   * domain from the forward to the backward pass. A graph of few nodes opens as fast with its sizes. @default false
   */
  readonly late?: boolean;
  /** Whether the shapes of all values are stated, rather than of those that `valuesWithShapes` names. @default false */
  readonly stated?: boolean;
}

/** The model with the named outputs: only the nodes that they depend on, in order of creation, named by scope. */
export function buildModel(outputs: Readonly<Record<string, Tensor>>, options: BuildOptions): ModelProto {
  const given = options.given ?? new Map<Tensor, string>();
  const reached = reach(Object.values(outputs), given);
  const names = new Map<Tensor, string>(given);
  const inputs = new Set<Tensor>([...(options.inputs ?? []), ...given.keys()]);
  const constants = new ConstantPool();
  const counts = new Map<string, number>();
  for (const tensor of reached.leaves) if (tensor.source.kind === "input") inputs.add(tensor);
  for (const tensor of inputs) if (tensor.source.kind === "input") names.set(tensor, tensor.source.name);
  for (const [name, tensor] of Object.entries(outputs)) {
    if (tensor.source.kind === "node" && !names.has(tensor)) names.set(tensor, name);
  }
  let values = 0;
  const nodes = reached.nodes.map((node) => {
    const prefix = node.scope ? `${node.scope}/` : "";
    const index = counts.get(prefix + node.op.name) ?? 0;
    counts.set(prefix + node.op.name, index + 1);
    const label = `${prefix}${node.op.name}${index ? `_${index}` : ""}`;
    // Short: a name is written where its value is produced and wherever it is read. Long names nearly doubled a
    // graph.
    for (const out of node.outputs) if (!names.has(out)) names.set(out, `_${values++}`);
    const used = takenBy(node).map((t) => {
      if (t === null) return "";
      return t.source.kind === "constant" ? constants.nameOf(t.source.data, t.shape) : names.get(t)!;
    });
    const made = node.outputs.map((t) => names.get(t)!);
    if (!node.op.noted) return nodeProto(node.op.type, label, used, made, node.attributes);
    const of = node.inputs.slice(node.op.taken).map((t) => names.get(t!)!);
    return { ...nodeProto(node.op.type, label, used, made), metadataProps: [noteOf(node, of)] };
  });
  const batch = [...inputs].find(isSymbolic);
  if (options.late && batch) nodes.unshift(...tellLate(reached.nodes, nodes, names.get(batch)!, constants));
  // An output that already has another name (an input, or a value that is two outputs) gets its own by an Identity.
  for (const [name, tensor] of Object.entries(outputs)) {
    const from =
      tensor.source.kind === "constant"
        ? constants.nameOf(tensor.source.data, tensor.shape)
        : names.get(tensor)!;
    if (from !== name) {
      nodes.push(nodeProto("Identity", `${name}/Identity`, [from], [name]));
    }
  }
  const declared = new Set<Tensor>([...inputs, ...Object.values(outputs)]);
  const shaped = options.stated
    ? reached.nodes.flatMap((node) => node.outputs)
    : valuesWithShapes(reached.nodes, options.late);
  const inner = [...shaped].filter((t) => !declared.has(t));
  return create(ModelProtoSchema, {
    irVersion: BigInt(IR_VERSION),
    producerName: "ort-pretrain",
    opsetImport: [opsetOf("", OPSET)],
    metadataProps: Object.entries(options.metadata ?? {}).map(([key, value]) => ({ key, value })),
    graph: {
      name: options.name,
      node: nodes,
      initializer: constants.protos,
      input: [...inputs].map((t) => valueInfo(names.get(t)!, t.dtype, t.shape)),
      output: Object.entries(outputs).map(([name, t]) => valueInfo(name, t.dtype, t.shape)),
      valueInfo: inner.map((t) => valueInfo(names.get(t)!, t.dtype, t.shape)),
    },
  });
}

/**
 * Inner values whose shape is stated, for the code that later replaces nodes by faster ones: inputs of convolutions,
 * kernels that nodes compute, and outputs of BatchNormalization with constant statistics. If all shapes were stated
 * the runtime would keep a buffer for each size: views of 224 px would take half as long again. `late` leaves out the
 * inputs of convolutions: a step has thousands.
 */
const valuesWithShapes = (nodes: readonly Node[], late = false): ReadonlySet<Tensor> =>
  new Set(
    nodes
      .flatMap(({ op: { type }, inputs: [x, w, , mean], outputs: [y] }) => {
        if (type === "Conv") return late ? [w!] : [x!, w!];
        return type === "BatchNormalization" && mean!.source.kind === "constant" ? [y!] : [];
      })
      .filter(({ source }) => source.kind === "node"),
  );

const isSymbolic = ({ shape }: Tensor): boolean => shape.some((size) => typeof size === "string");

/** More axes than any tensor of ours has. */
const MOST_AXES = 16;

/**
 * Passes the targets of reshapes through slices whose length the runtime cannot tell when it plans: a slice ends at a
 * number that is computed from the sizes of `batch` and lies beyond the target's end. A vector from which a target is
 * computed goes through a reshape as well: then not even the number of its axes is known. Returns the nodes for this,
 * which go first.
 */
function tellLate(
  nodes: readonly Node[],
  protos: readonly NodeProto[],
  batch: string,
  constants: ConstantPool,
): NodeProto[] {
  const number = (value: number) => constants.nameOf(BigInt64Array.of(BigInt(value)), [1]);
  const made: NodeProto[] = [];
  const make = (type: string, input: string[], output: string) => {
    made.push(nodeProto(type, `${output}/${type}`, input, [output]));
    return output;
  };
  make("Shape", [batch], "late.sizes");
  make("ReduceMax", ["late.sizes"], "late.size"); // [1]
  make("Max", ["late.size", number(MOST_AXES)], "late.end"); // [1]
  const known = new Map<string, string>();
  const late = (target: string) =>
    once(known, target, () => make("Slice", [target, number(0), "late.end"], `late.${target}`));
  nodes.forEach(({ op, inputs }, i) => {
    const { input } = protos[i]!;
    const isConstant = (at: number) => inputs[at]!.source.kind === "constant";
    if (op.type === "Reshape" && isConstant(1)) input[1] = late(input[1]!);
    if (op.name === "SizesOnce" && isConstant(0)) {
      const [rest, rank] = [input[0]!, inputs[0]!.shape[0] as number];
      const name = `rest.${rest}`;
      input[0] = once(known, name, () => make("Reshape", [rest, late(number(rank))], name));
    }
  });
  return made;
}

/** The inputs that the ONNX operator takes. */
export const takenBy = ({ op, inputs }: Node) =>
  op.taken === undefined ? inputs : inputs.slice(0, op.taken);

/**
 * Nodes and leaves that the outputs depend on, in order of creation. The walk stops at the tensors in `given`, which
 * are left out.
 */
export function reach(
  outputs: readonly Tensor[],
  given: ReadonlyMap<Tensor, string> = new Map(),
): { nodes: Node[]; leaves: Tensor[] } {
  const nodes = new Set<Node>();
  const leaves = new Set<Tensor>();
  const stack = [...outputs];
  while (stack.length > 0) {
    const tensor = stack.pop()!;
    if (given.has(tensor)) continue;
    if (tensor.source.kind !== "node") leaves.add(tensor);
    else if (!nodes.has(tensor.source)) {
      nodes.add(tensor.source);
      for (const t of takenBy(tensor.source)) if (t) stack.push(t);
    }
  }
  const byId = (a: Tensor, b: Tensor) => a.id - b.id;
  return {
    nodes: [...nodes].sort((a, b) => byId(a.outputs[0]!, b.outputs[0]!)),
    leaves: [...leaves].sort(byId),
  };
}

/** Initializers, one for each distinct constant. */
class ConstantPool {
  readonly protos: TensorProto[] = [];
  private readonly names = new Map<string, string>();

  nameOf(data: TensorData, shape: Shape): string {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const key = `${data.constructor.name}${shape.join(",")}:${bytes.toString("base64")}`;
    let name = this.names.get(key);
    if (name === undefined) {
      name = `constant_${this.protos.length}`;
      this.names.set(key, name);
      this.protos.push(tensorProto(name, data, shape as readonly number[]));
    }
    return name;
  }
}
