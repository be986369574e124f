/** Softmax and its logarithm along the last axis: each row's largest value, then its sum of exponentials, then the values. */
import type { Body } from "./ir.ts";
import { type Family, outputOf } from "./member.ts";
import { rowsOf } from "./reductions.ts";
import { settingsOf } from "./sizes.ts";
import { count } from "./views.ts";

export const softmax: Family = (node, of) => {
  const { opType } = node;
  const view = of.viewOf(node.input[0]!);
  if (!view || !outputOf(node, of) || !["Softmax", "LogSoftmax"].includes(opType)) return undefined;
  const rank = view.shape.length;
  const axis = (settingsOf(node).axis as number | undefined) ?? -1;
  const rows = rowsOf(view.shape, [axis < 0 ? axis + rank : axis]);
  if (rows?.inner !== 1) return undefined;
  const build = (body: Body, [x]: readonly number[]) => {
    const below = body.apply("Sub", [x!, body.reduce("max", x!)]);
    const power = body.apply("Exp", [below]);
    const sum = body.reduce("sum", power);
    return opType === "Softmax"
      ? body.apply("Div", [power, sum])
      : body.apply("Sub", [below, body.apply("Log", [sum])]);
  };
  return { node, count: count(view.shape), rows, reads: [view], build };
};
