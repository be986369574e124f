/** Matrix products, which the runtime computes: with transposed inputs where they are, and of layers in half precision. */
import type { NodeProto } from "onnx-buf";
import { type HalfType, nodeProto } from "../../../graph/protos.ts";
import { live, type Sized, settingsOf } from "./sizes.ts";
import { type Placement, plainStorage } from "./storage.ts";

/** The runtime's own operators. */
export const RUNTIME_DOMAIN = "com.microsoft";

/** The step with products that read the inputs of transposes, and how they read and write memory. */
export function withProducts(
  of: Sized,
  half?: HalfType,
): { readonly sized: Sized; readonly placements: ReadonlyMap<NodeProto, Placement> } {
  const makers = new Map(of.nodes.flatMap((node) => node.output.map((name) => [name, node] as const)));
  const placements = new Map<NodeProto, Placement>();
  const nodes = of.nodes.map((node) => {
    if (node.opType !== "MatMul" && node.opType !== "Gemm") return node;
    const product = node.opType === "MatMul" ? untransposed(node, makers, of) : node;
    const all = [...product.input, ...product.output].map((name) => of.values.get(name));
    if (all.some((value) => value?.dtype !== "float32")) return product;
    const isRounded = half && isOfLayer(node) && !of.outputs.has(node.output[0]!);
    const storages = all.map((value) => plainStorage({ ...value!, dtype: isRounded ? half : "float32" }));
    placements.set(product, { inputs: storages.slice(0, -1), output: storages.at(-1)! });
    return product;
  });
  return { sized: { ...of, nodes: live(nodes, of.outputs) }, placements };
}

/** Products of views and of losses have no scope of a layer, and stay in float32. */
const isOfLayer = ({ name }: NodeProto): boolean => /^(gradient\.)?(?!gradient\/|views\/)[^/]+\//.test(name);

function untransposed(
  node: NodeProto,
  makers: ReadonlyMap<string, NodeProto>,
  { inputs, values }: Sized,
): NodeProto {
  const given = node.input.map((name) => {
    const maker = makers.get(name);
    const order = maker?.opType === "Transpose" ? (settingsOf(maker).perm as readonly number[]) : undefined;
    const rank = values.get(name)?.shape.length ?? 0;
    const isSwap =
      order && rank >= 2 && order.every((axis, i) => axis === (i < rank - 2 ? i : 2 * rank - 3 - i));
    // The state is read where it was, for it may be overwritten later.
    return isSwap && !inputs.has(maker!.input[0]!)
      ? { name: maker!.input[0]!, swapped: 1 }
      : { name, swapped: 0 };
  });
  if (given.every(({ swapped }) => swapped === 0)) return node;
  const [transA, transB] = given.map(({ swapped }) => swapped) as [number, number];
  const input = given.map(({ name }) => name);
  return {
    ...nodeProto("FusedMatMul", node.name, input, node.output, { transA, transB }),
    domain: RUNTIME_DOMAIN,
  };
}
