/** Cut points of a graph: single values through which all that comes later depends on the image, as between blocks. */
import type { GraphProto } from "onnx-buf";
import { countUses } from "./unused.ts";

/** Operators whose outputs tell an input's sizes alone. */
const SIZES = new Set(["Shape", "Size"]);

/**
 * The values, in the order of the nodes, after which no earlier value that depends on the image is read: outputs of a
 * residual network's stem and blocks, or of a transformer's residual sums. What depends on its sizes alone does not count.
 *
 * @param image the model's input for images
 */
export function cutPointsOf({ node: nodes }: GraphProto, image: string): readonly string[] {
  const reads = nodes.map((node) => [...countUses({ node: [node], output: [] }).keys()]);
  const lastRead = new Map(reads.flatMap((names, i) => names.map((name) => [name, i] as const)));
  const depending = new Set([image]);
  const open = new Set([image]); // made, and read by a later node
  const found: string[] = [];
  nodes.forEach(({ opType, output }, i) => {
    for (const name of reads[i]!) if (lastRead.get(name) === i) open.delete(name);
    if (SIZES.has(opType) || !reads[i]!.some((name) => depending.has(name))) return;
    for (const name of output) {
      depending.add(name);
      if (lastRead.has(name)) open.add(name);
    }
    const [only] = open;
    if (open.size === 1 && output.includes(only!)) found.push(only!);
  });
  return found;
}
