/**
 * Tensors and the operators that compute them. A graph is no object of its own: a tensor knows the node that computes
 * it, and `buildModel` (model.ts) keeps the nodes that its outputs depend on.
 */
import type { Dim, DType, Shape } from "../spec.ts";
import { showShape } from "./dims.ts";

export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

export type TensorData = Float32Array | Uint8Array | Int32Array | BigInt64Array;

export interface Tensor extends TensorType {
  /** Order of creation: inputs of a node have lower ids than its outputs. */
  readonly id: number;
  /** Where its value comes from. */
  readonly source: { kind: "input"; name: string } | { kind: "constant"; data: TensorData } | Node;
}

export interface Node {
  readonly kind: "node";
  readonly op: Operator;
  readonly inputs: readonly (Tensor | null)[];
  readonly attributes: Attributes;
  readonly outputs: readonly Tensor[];
  /** The name scope it was made in, such as "encoder.layer1.0.conv2". */
  readonly scope: string;
  /** Whether its outputs are recomputed where a gradient rule reads them; see `transient`. */
  readonly transient: boolean;
}

export type Attribute = number | string | readonly number[] | { readonly float: number };
export type Attributes = Readonly<Record<string, Attribute>>;

/**
 * What a gradient rule sees: the node's values and the gradients of the loss with respect to its outputs (null: none
 * reached it).
 */
export interface RuleContext {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly grads: readonly (Tensor | null)[];
  /** With respect to the first output. */
  readonly grad: Tensor;
  readonly attributes: Attributes;
  /** Whether the gradient with respect to input i is needed; a rule may skip the others. */
  wants(i: number): boolean;
  /** A tensor that the rules of one backward pass share: built by the first that asks for it. */
  once(key: string, make: () => Tensor): Tensor;
}

/**
 * Gradients with respect to the inputs, in their order (null: none). They may have the broadcast shape; `gradients`
 * sums them.
 */
export type GradientRule = (context: RuleContext) => readonly (Tensor | null)[];

export interface Operator {
  /** ONNX operator type. */
  readonly type: string;
  /** Our name: the type, unless one type serves two purposes (stop-gradient is an Identity). */
  readonly name: string;
  /** The types of the outputs; throws `ShapeError` on inputs that do not fit. */
  readonly infer: (inputs: readonly Tensor[], attributes: Attributes) => readonly TensorType[];
  /** How many inputs the ONNX operator takes; further ones are for the gradient rule alone. @default all */
  readonly taken?: number;
  /** Whether those further inputs, and the attributes, are noted in the node's metadata, for code that replaces nodes. */
  readonly noted?: boolean;
  /** The rule, or why there is none. */
  readonly gradient: GradientRule | { readonly none: string };
}

/** Inputs that do not fit an operator; `apply` adds the name scope. */
export class ShapeError extends Error {
  override readonly name = "ShapeError";
}

const registry = new Map<string, Operator>();

/** Every operator that was defined, by name; the tests hold each to a numeric check. */
export const operators: ReadonlyMap<string, Operator> = registry;

/** Defines an operator and returns the function that applies it. */
export function operator(
  definition: Omit<Operator, "name"> & { readonly name?: string },
): (inputs: readonly (Tensor | null)[], attributes?: Attributes) => readonly Tensor[] {
  const op: Operator = { name: definition.type, ...definition };
  if (registry.has(op.name)) throw new Error(`operator ${op.name} is defined twice`);
  registry.set(op.name, op);
  return (inputs, attributes = {}) => apply(op, inputs, attributes);
}

let nextId = 0;
let path: readonly string[] = [];

/** Runs `body` with `name` added to the scope that its nodes, and its errors, carry. */
export function inScope<T>(name: string, body: () => T): T {
  const outer = path;
  path = name === "" ? [] : [...outer, name];
  try {
    return body();
  } finally {
    path = outer;
  }
}

let recomputed = false;

/**
 * What `body` computes is recomputed for the backward pass rather than held in memory until then (activation
 * checkpointing, Chen et al. 2016, arXiv 1604.06174): for what is large and takes little to compute.
 */
export function transient<T>(body: () => T): T {
  const outer = recomputed;
  recomputed = true;
  try {
    return body();
  } finally {
    recomputed = outer;
  }
}

/** The current name scope. */
export const currentScope = (): string => path.join(".");

/** The outputs of a new node. */
export function apply(
  op: Operator,
  inputs: readonly (Tensor | null)[],
  attributes: Attributes,
): readonly Tensor[] {
  const present = inputs.filter((t) => t !== null);
  let types: readonly TensorType[];
  try {
    types = op.infer(present, attributes);
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    const shapes = present.map((t) => showShape(t.shape)).join(", ");
    throw new ShapeError(`${op.name} "${currentScope()}": ${error.message} (inputs ${shapes})`);
  }
  const outputs: Tensor[] = [];
  const scope = currentScope();
  const node: Node = { kind: "node", op, inputs, attributes, outputs, scope, transient: recomputed };
  for (const type of types)
    outputs.push({ id: nextId++, dtype: type.dtype, shape: type.shape, source: node });
  return outputs;
}

/** A graph input. */
export function input(name: string, dtype: DType, shape: Shape): Tensor {
  return { id: nextId++, dtype, shape, source: { kind: "input", name } };
}

/** A constant tensor. */
export function constant(data: TensorData, shape: readonly number[]): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  if (size !== data.length) {
    throw new ShapeError(`constant "${currentScope()}": ${data.length} values for shape ${showShape(shape)}`);
  }
  return { id: nextId++, dtype: dtypeOf(data), shape, source: { kind: "constant", data } };
}

/** A float32 scalar constant. */
export const scalar = (value: number): Tensor => constant(new Float32Array([value]), []);

/** An int64 constant vector. */
export const integers = (values: readonly number[]): Tensor =>
  constant(BigInt64Array.from(values, BigInt), [values.length]);

export function dtypeOf(data: TensorData): DType {
  if (data instanceof Float32Array) return "float32";
  if (data instanceof Uint8Array) return "uint8";
  return data instanceof Int32Array ? "int32" : "int64";
}

/** An axis counted from the front, for axes that may be counted from the back. */
export function axisOf(axis: number, rank: number): number {
  const from0 = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || from0 < 0 || from0 >= rank) {
    throw new ShapeError(`expected an axis of a tensor with ${rank} axes, found ${axis}`);
  }
  return from0;
}

/** A size that must be known when the graph is built. */
export function fixed(dim: Dim | undefined, what: string): number {
  if (typeof dim !== "number")
    throw new ShapeError(`expected a fixed ${what}, found ${dim ?? "no such axis"}`);
  return dim;
}
