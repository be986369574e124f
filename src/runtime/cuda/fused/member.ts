/** A node that can be part of a kernel: a family of them is a function from nodes to members. */
import type { NodeProto } from "onnx-buf";
import type { Body, Rows } from "./ir.ts";
import type { Sized, Typed } from "./sizes.ts";
import { permuted, type Storage } from "./storage.ts";
import { expandedView, type View } from "./views.ts";

export interface Member {
  readonly node: NodeProto;
  /** Places of the iteration space. */
  readonly count: number;
  /** What it reduces. */
  readonly rows?: Rows;
  /** Whether its output has a value for each row, rather than for each place. */
  readonly reduced?: boolean;
  /** Their axes as the space has them. */
  readonly reads: readonly View[];
  /** Adds the steps of its output, of the steps that read; gives the last. */
  readonly build: (body: Body, args: readonly number[]) => number;
}

/** What a family can look at. */
export interface Surroundings extends Sized {
  /** The view that a value is; undefined where its shape is not known. */
  viewOf(name: string): View | undefined;
  /** How a value lies in memory, and its type there. */
  storageOf(name: string): Storage;
  /** The order of its axes in memory; undefined where that is their own. */
  orderOf(name: string): readonly number[] | undefined;
}

export type Family = (node: NodeProto, of: Surroundings) => Member | undefined;

/** Views of the inputs as the output has them, with its order of axes. */
export function readsOf(node: NodeProto, shape: readonly number[], of: Surroundings): readonly View[] {
  const order = of.orderOf(node.output[0]!) ?? shape.map((_, axis) => axis);
  return node.input.map((name) => permuted(expandedView(of.viewOf(name)!, shape), order));
}

/** The value of the node's only output, if it is of a type that kernels write. */
export function outputOf(node: NodeProto, of: Sized): Typed | undefined {
  const value = of.values.get(node.output[0]!);
  const isWritten = value?.dtype === "float32" || value?.dtype === "bool";
  return isWritten && node.output.filter(Boolean).length === 1 ? value : undefined;
}
