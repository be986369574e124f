/** A step whose sizes are numbers: shapes of its values, and what is computed of sizes alone. */
import type { NodeProto, TensorProto } from "onnx-buf";
import { evaluateDim } from "../../../graph/dims.ts";
import type { ModelProto } from "../../../graph/model.ts";
import { attributesFrom, DATA_TYPES, decodeModel, shapeFrom, tensorProto } from "../../../graph/protos.ts";
import { sizesOf } from "../../../graph/signature.ts";
import type { Attributes } from "../../../graph/tensor.ts";
import type { DType } from "../../../spec.ts";
import { count } from "./views.ts";

/** What a value is for the step. */
export interface Typed {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** A small tensor that is known before a step runs. */
export interface Known extends Typed {
  readonly data: readonly number[];
}

export interface Sized {
  readonly model: ModelProto;
  /** Without those that were computed. */
  readonly nodes: readonly NodeProto[];
  /** By name; without those whose sizes a step computes. */
  readonly values: ReadonlyMap<string, Typed>;
  readonly known: ReadonlyMap<string, Known>;
  /** What was computed, as initializers. */
  readonly computed: ReadonlyMap<string, TensorProto>;
  /** Names of inputs and outputs. */
  readonly inputs: ReadonlySet<string>;
  readonly outputs: ReadonlySet<string>;
}

/** Larger ones are not computed here. */
const MOST_VALUES = 4096;

/** @param fed sizes of the inputs */
export function sized(bytes: Uint8Array, fed: ReadonlyMap<string, readonly number[]>): Sized {
  const model = decodeModel(bytes);
  const graph = model.graph!;
  const declared = [...graph.input, ...graph.output, ...graph.valueInfo].flatMap((info) => {
    const dtype =
      info.type?.value.case === "tensorType" ? dtypeOf(info.type.value.value.elemType) : undefined;
    const shape = shapeFrom(info);
    return dtype && shape ? [{ name: info.name, dtype, shape }] : [];
  });
  const { symbols } = sizesOf(declared, fed);
  const values = new Map<string, Typed>();
  for (const { name, dtype, shape } of declared) {
    const isKnown = shape.every(
      (dim) => typeof dim === "number" || symbolsIn(dim).every((s) => s in symbols),
    );
    if (isKnown) values.set(name, { dtype, shape: shape.map((dim) => evaluateDim(dim, symbols)) });
  }
  const known = new Map<string, Known>();
  for (const tensor of graph.initializer) {
    const value = { dtype: dtypeOf(tensor.dataType)!, shape: tensor.dims.map(Number) };
    values.set(tensor.name, value);
    if (count(value.shape) <= MOST_VALUES)
      known.set(tensor.name, { ...value, data: numbersOf(tensor, value.dtype) });
  }
  const outputs = new Set(graph.output.map(({ name }) => name));
  const computed = new Map<string, TensorProto>();
  const nodes = graph.node.filter((node) => {
    const found = outputs.has(node.output[0]!) ? undefined : compute(node, values, known);
    if (!found) return true;
    const name = node.output[0]!;
    known.set(name, found);
    values.set(name, found);
    computed.set(name, tensorProto(name, dataOf(found), found.shape, found.dtype));
    return false;
  });
  return {
    model,
    nodes,
    values,
    known,
    computed,
    inputs: new Set(graph.input.map(({ name }) => name)),
    outputs,
  };
}

/** The nodes that the outputs depend on. */
export function live(nodes: readonly NodeProto[], outputs: ReadonlySet<string>): readonly NodeProto[] {
  const needed = new Set(outputs);
  const kept = nodes.toReversed().filter(({ input, output }) => {
    if (!output.some((name) => needed.has(name))) return false;
    for (const name of input) needed.add(name);
    return true;
  });
  return kept.toReversed();
}

const symbolsIn = (dim: string): readonly string[] =>
  dim.match(/[^\s*+-]+/g)!.filter((part) => !/^\d/.test(part));

const dtypeOf = (code: number): DType | undefined =>
  (Object.keys(DATA_TYPES) as DType[]).find((dtype) => DATA_TYPES[dtype] === code);

const ARRAYS = {
  float32: Float32Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int32: Int32Array,
  int64: BigInt64Array,
};

const numbersOf = ({ rawData }: TensorProto, dtype: DType): number[] =>
  Array.from(new ARRAYS[dtype](rawData.slice().buffer) as ArrayLike<number | bigint>, Number);

const dataOf = ({ dtype, data }: Known) =>
  dtype === "int64" ? BigInt64Array.from(data, BigInt) : ARRAYS[dtype as "float32"].from(data);

export const settingsOf = (node: NodeProto): Attributes => attributesFrom(node.attribute);

/** The node's value, if it can be told from sizes and small constants. */
function compute(
  node: NodeProto,
  values: ReadonlyMap<string, Typed>,
  known: ReadonlyMap<string, Known>,
): Known | undefined {
  const settings = settingsOf(node);
  if (node.opType === "Shape") {
    const shape = values.get(node.input[0]!)?.shape;
    if (!shape) return undefined;
    const data = shape.slice(settings.start as number | undefined, settings.end as number | undefined);
    return { dtype: "int64", shape: [data.length], data };
  }
  const rule = RULES[node.opType];
  const inputs = node.input.map((name) => known.get(name));
  if (!rule || node.output.length !== 1 || inputs.some((input) => !input)) return undefined;
  const data = rule(inputs as Known[]);
  const first = inputs[0]!;
  const shape =
    values.get(node.output[0]!)?.shape ?? (node.opType === "Range" ? [data?.length ?? 0] : undefined);
  if (!data || !shape || data.length !== count(shape) || data.length > MOST_VALUES) return undefined;
  const dtype = node.opType === "Cast" ? dtypeOf(settings.to as number)! : first.dtype;
  if (dtype === "bool") return undefined;
  return { dtype, shape, data: dtype === "float32" ? data.map(Math.fround) : data.map(Math.trunc) };
}

type Rule = (inputs: readonly Known[]) => readonly number[] | undefined;

const same: Rule = ([x]) => x!.data;

/** Of two tensors of which one is a scalar, or both have one size. */
const each =
  (f: (a: number, b: number) => number): Rule =>
  (inputs) => {
    const [a, b] = inputs.map(({ data }) => data) as [readonly number[], readonly number[]];
    const size = Math.max(a.length, b.length);
    if (![a, b].every(({ length }) => length === 1 || length === size)) return undefined;
    return Array.from({ length: size }, (_, i) => f(a[a.length === 1 ? 0 : i]!, b[b.length === 1 ? 0 : i]!));
  };

const RULES: Readonly<Record<string, Rule>> = {
  Cast: same,
  Identity: same,
  Reshape: same,
  Squeeze: same,
  Unsqueeze: same,
  Concat: (inputs) =>
    inputs.every(({ shape }) => shape.length === 1) ? inputs.flatMap(({ data }) => data) : undefined,
  Range: (inputs) => {
    const [start, end, by] = inputs.map(({ data }) => data[0]!) as [number, number, number];
    const length = Math.max(0, Math.ceil((end - start) / by));
    return length > MOST_VALUES ? undefined : Array.from({ length }, (_, i) => start + i * by);
  },
  Add: each((a, b) => a + b),
  Sub: each((a, b) => a - b),
  Mul: each((a, b) => a * b),
  Div: each((a, b) => a / b),
};
