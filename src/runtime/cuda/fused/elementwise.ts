/** Element-wise nodes, with broadcasting. */
import type { NodeProto } from "onnx-buf";
import type { DType } from "../../../spec.ts";
import type { Body } from "./ir.ts";
import { type Family, outputOf, readsOf } from "./member.ts";
import { operations } from "./operations.ts";
import { type Sized, settingsOf } from "./sizes.ts";
import { count } from "./views.ts";

/** Of each operator that has attributes, their names and defaults. */
const SETTINGS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  HardSigmoid: { alpha: 0.2, beta: 0.5 },
};
/** How many arguments those take that may take others in ONNX. */
const NUMBERS: Readonly<Record<string, number>> = { Clip: 3, Max: 2, Min: 2 };
/** Their arguments may be of any type; those of others are float32. */
const OF_ANY = new Set(["Equal", "Greater", "GreaterOrEqual", "Less", "Cast"]);

/** Whether a node is one that a kernel computes. */
export function isElementwise(node: NodeProto, of: Sized): boolean {
  const { opType, input } = node;
  const value = outputOf(node, of);
  if (!value || !(opType === "Cast" || opType in operations)) return false;
  const given = input.filter(Boolean);
  const types = given.map((name) => of.values.get(name)?.dtype);
  const isMask = (i: number) => opType === "Where" && i === 0;
  const fits = (type: DType | undefined, i: number) =>
    type === (isMask(i) ? "bool" : "float32") || (type && OF_ANY.has(opType));
  if (!types.every(fits) || given.some((name) => of.values.get(name)!.shape.length > value.shape.length))
    return false;
  if (opType === "Cast" && value.dtype !== "float32") return false;
  return given.length === (NUMBERS[opType] ?? input.length);
}

export const elementwise: Family = (node, of) => {
  if (!isElementwise(node, of)) return undefined;
  const value = outputOf(node, of)!;
  const attributes = settingsOf(node);
  const settings = Object.entries(SETTINGS[node.opType] ?? {}).map(([name, standard]) => {
    const given = attributes[name] as { float: number } | undefined;
    return given?.float ?? standard;
  });
  const build = (body: Body, args: readonly number[]) =>
    body.apply(node.opType === "Cast" ? "Float" : node.opType, args, value.dtype, settings);
  return { node, count: count(value.shape), reads: readsOf(node, value.shape, of), build };
};
