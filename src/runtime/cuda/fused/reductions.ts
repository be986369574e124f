/** Sums, means and extremes over the last axes of a tensor, or over its first ones. */

import type { NodeProto } from "onnx-buf";
import type { Body, Reduction, Rows } from "./ir.ts";
import { type Family, outputOf, type Surroundings } from "./member.ts";
import { settingsOf } from "./sizes.ts";
import { count } from "./views.ts";

const HOW: Readonly<Record<string, Reduction>> = {
  ReduceSum: "sum",
  ReduceMean: "sum",
  ReduceMax: "max",
  ReduceMin: "min",
};

export const reductions: Family = (node, of) => {
  const how = HOW[node.opType];
  const value = outputOf(node, of);
  const view = of.viewOf(node.input[0]!);
  // A state's next value may be written over it: not while other places of the launch still read it.
  if (!how || !view || value?.dtype !== "float32" || of.outputs.has(node.output[0]!)) return undefined;
  const rows = rowsOf(view.shape, axesOf(node, view.shape.length, of));
  if (!rows) return undefined;
  const scale = node.opType === "ReduceMean" ? 1 / rows.length : 1;
  const build = (body: Body, [x]: readonly number[]) => body.reduce(how, x!, scale);
  return { node, count: count(view.shape), rows, reduced: true, reads: [view], build };
};

/** From 0, in order; all where the node names none. */
function axesOf(node: NodeProto, rank: number, { known }: Surroundings): readonly number[] | undefined {
  const all = Array.from({ length: rank }, (_, i) => i);
  const given = node.input[1]
    ? known.get(node.input[1])?.data
    : ((settingsOf(node).axes as number[] | undefined) ?? all);
  return given?.map((axis) => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b);
}

/** Undefined where the axes are neither the last nor the first, or hold one place or none. */
export function rowsOf(shape: readonly number[], axes: readonly number[] | undefined): Rows | undefined {
  if (!axes || axes.length === 0) return undefined;
  const length = count(axes.map((axis) => shape[axis]!));
  const rows = count(shape) / length;
  if (length <= 1 || rows === 0) return undefined;
  const from = shape.length - axes.length;
  if (axes.every((axis, i) => axis === from + i)) return { along: "last", rows, length, parts: 1 };
  return axes.every((axis, i) => axis === i) ? { along: "first", rows, length, parts: 1 } : undefined;
}
