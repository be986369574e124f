/** Floating-point operations of a graph's matrix products and convolutions, two for a multiply-add. */
import { elements, evaluateDim } from "../../src/graph/dims.ts";
import { reach } from "../../src/graph/model.ts";
import type { Node, Tensor } from "../../src/graph/tensor.ts";
import type { Dim } from "../../src/spec.ts";

/** Pixels of a window that large views are resampled from, where a box is as large as its view. */
const WINDOW = 36;

/** With the symbolic sizes as given. Element-wise work and reductions are not counted. */
export function flopsOf(outputs: readonly Tensor[], sizes: Readonly<Record<string, number>>): number {
  const value = (dim: Dim) => {
    const windows = `${dim}`.match(/\w+\.\w+\.window/g) ?? [];
    return evaluateDim(dim, { ...sizes, ...Object.fromEntries(windows.map((name) => [name, WINDOW])) });
  };
  const count = (t: Tensor) => value(elements(t.shape));
  const ofNode = ({ op, inputs: [a, b], outputs: [y], attributes }: Node): number => {
    switch (op.type) {
      case "Conv":
        return (2 * count(y!) * count(b!)) / value(b!.shape[0]!);
      case "ConvTranspose":
        return (2 * count(a!) * count(b!)) / value(b!.shape[0]!);
      case "MatMul":
        return 2 * count(y!) * value(a!.shape.at(-1)!);
      case "Gemm":
        return 2 * count(y!) * value(attributes.transA ? a!.shape[0]! : a!.shape[1]!);
      default:
        return 0;
    }
  };
  return reach(outputs).nodes.reduce((sum, node) => sum + ofNode(node), 0);
}
