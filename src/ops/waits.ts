/**
 * Which gradients wait for others. The runtime goes back from each of a step's outputs, and so would make the gradients by
 * a layer's kernel of all pieces of a batch before it goes on with the first piece's map, by then out of the processor's
 * cache. Here they wait until their piece has gone on to where the batch is next summed.
 */
import type { Node, Tensor } from "../graph/tensor.ts";
import { later, transpose } from "./movement.ts";

/** Whether all of a batch have it: what varies with the batch has a size that does. */
export const isShared = (t: Tensor): boolean => t.shape.every((size) => typeof size === "number");

/** For nodes that take a kernel with one of several pieces: where their piece is next summed, a node before them. */
export function meetingsOf(
  nodes: readonly Node[],
  wanted: ReadonlySet<Tensor>,
): ReadonlyMap<Node, Node | undefined> {
  const takers = new Map<Tensor, number>();
  const kernels = new Map(nodes.map((node) => [node, kernelOf(node)]));
  for (const kernel of kernels.values()) if (kernel) takers.set(kernel, (takers.get(kernel) ?? 0) + 1);
  const inPieces = nodes.filter((node) => takers.get(kernels.get(node)!)! > 1);
  return new Map(inPieces.map((node) => [node, meetingOf(node, wanted)]));
}

/** What all of a batch share, before it was turned or reshaped for this piece. */
function kernelOf({ op, inputs: [, kernel] }: Node): Tensor | undefined {
  if (!kernel || !isShared(kernel) || (op.type !== "Conv" && op.type !== "MatMul")) return undefined;
  let origin = kernel;
  while (origin.source.kind === "node" && ["Transpose", "Reshape"].includes(origin.source.op.type))
    origin = origin.source.inputs[0]!;
  return origin;
}

function meetingOf({ inputs: [x, kernel] }: Node, wanted: ReadonlySet<Tensor>): Node | undefined {
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

/** A part of a gradient, made once another is; what would be transposed after its sum still is. */
export function onceMade(first: Tensor, part: Tensor): Tensor {
  const { source } = part;
  if (source.kind !== "node" || source.op.type !== "Transpose") return later(part, first);
  return transpose(later(source.inputs[0]!, first), source.attributes.perm as readonly number[]);
}
