/** Takes out of a graph what nothing reads. */
import type { GraphProto, NodeProto } from "onnx-buf";

/** Operators whose outputs behind the first may be left out. */
const FIRST_SUFFICES = new Set(["LayerNormalization", "MaxPool"]);

/**
 * Changes `graph` in place: nodes of which nothing is read, optional outputs (the statistics of a layer normalisation,
 * say, whose types tools that convert a model to float16 get wrong) and initializers.
 */
export function dropUnused(graph: GraphProto): void {
  let uses = countUses(graph);
  for (let before = Number.POSITIVE_INFINITY; graph.node.length < before; uses = countUses(graph)) {
    before = graph.node.length;
    graph.node = graph.node.filter(({ output }) => output.some((name) => uses.has(name)));
  }
  for (const node of graph.node) {
    if (node.domain !== "" || !FIRST_SUFFICES.has(node.opType)) continue;
    while (node.output.length > 1 && !uses.has(node.output.at(-1)!)) node.output.pop();
  }
  graph.initializer = graph.initializer.filter(({ name }) => uses.has(name));
  const made = new Set(graph.node.flatMap(({ output }: NodeProto) => output));
  graph.valueInfo = graph.valueInfo.filter(({ name }) => made.has(name));
}

/** How often each value is read: by nodes, those of nested graphs too, and as an output. */
export function countUses(
  graph: Pick<GraphProto, "node" | "output">,
  uses = new Map<string, number>(),
): Map<string, number> {
  const read = (name: string) => uses.set(name, (uses.get(name) ?? 0) + 1);
  for (const node of graph.node) {
    for (const name of node.input) if (name) read(name);
    for (const { g, graphs } of node.attribute)
      for (const inner of g ? [g, ...graphs] : graphs) countUses(inner, uses);
  }
  for (const { name } of graph.output) read(name);
  return uses;
}
