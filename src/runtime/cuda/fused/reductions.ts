/** Sums, means and extremes over neighbouring axes of a tensor. */

import type { NodeProto } from "onnx-buf";
import type { Body, Reduction, Rows } from "./ir.ts";
import { type Family, outputOf, type Surroundings } from "./member.ts";
import { settingsOf } from "./sizes.ts";
import { orderIn, permuted } from "./storage.ts";
import { count, type View } from "./views.ts";

const HOW: Readonly<Record<string, Reduction>> = {
  GlobalAveragePool: "sum",
  ReduceSum: "sum",
  ReduceMean: "sum",
  ReduceMax: "max",
  ReduceMin: "min",
};

const MEANS = new Set(["GlobalAveragePool", "ReduceMean"]);

export const reductions: Family = (node, of) => {
  const how = HOW[node.opType];
  const value = outputOf(node, of);
  const view = of.viewOf(node.input[0]!);
  // A state's next value may be written over it: not while other places of the launch still read it.
  if (!how || !view || value?.dtype !== "float32" || of.outputs.has(node.output[0]!)) return undefined;
  const axes = axesOf(node, view.shape.length, of);
  const order = axes && orderFor(view, axes, of);
  if (!order) return undefined;
  const read = permuted(view, order);
  const rows = rowsOf(
    read.shape,
    axes.map((axis) => order.indexOf(axis)),
  );
  if (!rows) return undefined;
  const scale = MEANS.has(node.opType) ? 1 / rows.length : 1;
  const build = (body: Body, [x]: readonly number[]) => body.reduce(how, x!, scale);
  return { node, count: count(view.shape), rows, reduced: true, reads: [read], build };
};

/** That of memory, where what is left has its axes in their own order. */
function orderFor(view: View, axes: readonly number[], { orderOf }: Surroundings): readonly number[] {
  const own = view.shape.map((_, axis) => axis);
  const order = orderOf(view.base) && orderIn(view);
  const left = order?.filter((axis) => !axes.includes(axis) && view.shape[axis] !== 1);
  return order && left!.every((axis, i) => i === 0 || axis > left![i - 1]!) ? order : own;
}

/** From 0, in order; all where the node names none. */
function axesOf(node: NodeProto, rank: number, { known }: Surroundings): readonly number[] | undefined {
  if (node.opType === "GlobalAveragePool") return [2, 3];
  const all = Array.from({ length: rank }, (_, i) => i);
  const given = node.input[1]
    ? known.get(node.input[1])?.data
    : ((settingsOf(node).axes as number[] | undefined) ?? all);
  return given?.map((axis) => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b);
}

/** Undefined where the axes are not neighbours, or hold one place or none. */
export function rowsOf(shape: readonly number[], given: readonly number[]): Rows | undefined {
  const axes = given.filter((axis) => shape[axis] !== 1).sort((a, b) => a - b);
  if (axes.length === 0) return undefined;
  const length = count(axes.map((axis) => shape[axis]!));
  const [first, end] = [axes[0]!, axes.at(-1)! + 1];
  if (length <= 1 || count(shape) === 0 || end - first !== axes.length) return undefined;
  return { outer: count(shape.slice(0, first)), length, inner: count(shape.slice(end)), parts: 1 };
}
