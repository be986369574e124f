/**
 * Which gradients wait for others. The runtime goes back from each output of a step, and so would compute the
 * gradients with respect to a layer's kernel for all chunks of the batch before it goes on with the first chunk,
 * which is no longer in the processor's cache by then. Here they wait until the backward pass of their chunk has
 * reached the next gradient that is summed over the batch, such as that of a batch normalisation's scale.
 */
import type { Node, Tensor } from "../../graph/tensor.ts";
import { isShared } from "../../ops/gradients.ts";

/**
 * For each node that applies a kernel to one of several chunks: the node, before it in the forward pass, whose
 * gradient is next summed over the batch.
 */
export function nextSumsOf(
  nodes: readonly Node[],
  wanted: ReadonlySet<Tensor>,
): ReadonlyMap<Node, Node | undefined> {
  const takers = new Map<Tensor, number>();
  const kernels = new Map(nodes.map((node) => [node, kernelOf(node)]));
  for (const kernel of kernels.values()) if (kernel) takers.set(kernel, (takers.get(kernel) ?? 0) + 1);
  const inPieces = nodes.filter((node) => takers.get(kernels.get(node)!)! > 1);
  return new Map(inPieces.map((node) => [node, nextSumOf(node, wanted)]));
}

/** The kernel that a convolution or a product applies, before it was transposed or reshaped for this chunk. */
function kernelOf({ op, inputs: [, kernel] }: Node): Tensor | undefined {
  if (!kernel || !isShared(kernel) || (op.type !== "Conv" && op.type !== "MatMul")) return undefined;
  let origin = kernel;
  while (origin.source.kind === "node" && ["Transpose", "Reshape"].includes(origin.source.op.type))
    origin = origin.source.inputs[0]!;
  return origin;
}

function nextSumOf({ inputs: [x, kernel] }: Node, wanted: ReadonlySet<Tensor>): Node | undefined {
  if (!wanted.has(kernel!)) return undefined;
  const leading = (all: readonly (Tensor | null)[]) => all.filter((t) => t !== null && wanted.has(t));
  let next = leading([x!])[0];
  while (next?.source.kind === "node" && !isShared(next)) {
    const above = leading(next.source.inputs) as Tensor[];
    if (above.some(isShared)) return next.source;
    next = above[0];
  }
  return undefined;
}
