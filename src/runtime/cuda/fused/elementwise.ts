/** Element-wise nodes, with broadcasting. */
import type { DType } from "../../../spec.ts";
import type { Body } from "./ir.ts";
import { type Family, outputOf, readsOf } from "./member.ts";
import { operations } from "./operations.ts";
import { settingsOf } from "./sizes.ts";
import { count } from "./views.ts";

/** Of each operator that has attributes, their names and defaults. */
const SETTINGS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  HardSigmoid: { alpha: 0.2, beta: 0.5 },
};
/** How many arguments those take that may take others in ONNX. */
const NUMBERS: Readonly<Record<string, number>> = { Clip: 3, Max: 2, Min: 2 };
/** Their arguments may be of any type; those of others are float32. */
const OF_ANY = new Set(["Equal", "Greater", "GreaterOrEqual", "Less", "Cast"]);

export const elementwise: Family = (node, of) => {
  const { opType, input } = node;
  const value = outputOf(node, of);
  if (!value || !(opType === "Cast" || opType in operations)) return undefined;
  const types = input.filter(Boolean).map((name) => of.values.get(name)?.dtype);
  const isMask = (i: number) => opType === "Where" && i === 0;
  const fits = (type: DType | undefined, i: number) =>
    type === (isMask(i) ? "bool" : "float32") || (type && OF_ANY.has(opType));
  if (!types.every(fits)) return undefined;
  if (opType === "Cast" && value.dtype !== "float32") return undefined;
  if (input.filter(Boolean).length !== (NUMBERS[opType] ?? input.length)) return undefined;
  const reads = readsOf(input, value.shape, of);
  if (!reads) return undefined;
  const attributes = settingsOf(node);
  const settings = Object.entries(SETTINGS[opType] ?? {}).map(([name, standard]) => {
    const given = attributes[name] as { float: number } | undefined;
    return given?.float ?? standard;
  });
  const build = (body: Body, args: readonly number[]) =>
    body.apply(opType === "Cast" ? "Float" : opType, args, value.dtype, settings);
  return { node, count: count(value.shape), reads, build };
};
