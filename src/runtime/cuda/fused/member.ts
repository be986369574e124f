/** A node that can be part of a kernel: a family of them is a function from nodes to members. */
import type { NodeProto } from "onnx-buf";
import type { Value } from "../kernel.ts";
import type { Body, Rows } from "./ir.ts";
import type { Sized } from "./sizes.ts";
import { expandedView, type View } from "./views.ts";

export interface Member {
  readonly node: NodeProto;
  /** Places of the iteration space. */
  readonly count: number;
  /** What it reduces. */
  readonly rows?: Rows;
  /** Whether its output has a value for each row, rather than for each place. */
  readonly reduced?: boolean;
  readonly reads: readonly View[];
  /** Adds the steps of its output, of the steps that read; gives the last. */
  readonly build: (body: Body, args: readonly number[]) => number;
}

/** What a family can look at. */
export interface Surroundings extends Sized {
  /** The view that a value is; undefined where its shape is not known. */
  viewOf(name: string): View | undefined;
}

export type Family = (node: NodeProto, of: Surroundings) => Member | undefined;

/** Views of the inputs as the output's shape has them; undefined where one is not known. */
export function readsOf(names: readonly string[], shape: readonly number[], of: Surroundings) {
  const views = names.map((name) => of.viewOf(name));
  if (views.some((view) => !view || view.shape.length > shape.length)) return undefined;
  return views.map((view) => expandedView(view!, shape));
}

/** The value of the node's only output, if it is of a type that kernels write. */
export function outputOf(node: NodeProto, of: Surroundings): Value | undefined {
  const value = of.values.get(node.output[0]!);
  const isWritten = value?.dtype === "float32" || value?.dtype === "bool";
  return isWritten && node.output.filter(Boolean).length === 1 ? value : undefined;
}
