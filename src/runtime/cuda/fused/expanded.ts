/** LayerNormalization as sums and element-wise nodes, which are fused with what is around them. */
import type { NodeProto } from "onnx-buf";
import { nodeProto, tensorProto } from "../../../graph/protos.ts";
import { type Known, type Sized, settingsOf, type Typed } from "./sizes.ts";

export function expanded(of: Sized): Sized {
  const values = new Map(of.values);
  const known = new Map(of.known);
  const computed = new Map(of.computed);
  const nodes = of.nodes.flatMap((node) => {
    const [x, scale, bias] = node.input as [string, string, string];
    const value = values.get(x);
    const { axis = -1, epsilon } = settingsOf(node) as { axis?: number; epsilon?: { float: number } };
    const isLast = value && (axis === -1 || axis === value.shape.length - 1);
    if (node.opType !== "LayerNormalization" || !isLast || value.dtype !== "float32") return [node];
    const row: Typed = {
      dtype: "float32",
      shape: value.shape.map((size, i) => (i === axis + value.shape.length || i === axis ? 1 : size)),
    };
    const made: NodeProto[] = [];
    const apply = (
      op: string,
      inputs: readonly string[],
      like: Typed,
      name = `${node.output[0]}/${made.length}`,
    ) => {
      made.push(nodeProto(op, name, [...inputs], [name], op === "ReduceMean" ? { axes: [-1] } : {}));
      values.set(name, like);
      return name;
    };
    const constant = `${node.output[0]}/epsilon`;
    const least: Known = { dtype: "float32", shape: [], data: [epsilon?.float ?? 1e-5] };
    known.set(constant, least);
    values.set(constant, least);
    computed.set(constant, tensorProto(constant, Float32Array.from(least.data), [], "float32"));
    const [y, mean, inverse] = node.output as [string, string?, string?];
    const m = apply("ReduceMean", [x], row, mean || undefined);
    const centred = apply("Sub", [x, m], value);
    const variance = apply("ReduceMean", [apply("Mul", [centred, centred], value)], row);
    const deviation = apply("Sqrt", [apply("Add", [variance, constant], row)], row);
    const factor = apply("Reciprocal", [deviation], row, inverse || undefined);
    const normal = apply("Mul", [apply("Mul", [centred, factor], value), scale], value);
    apply("Add", [normal, bias], value, y);
    return made;
  });
  return { ...of, nodes, values, known, computed };
}
