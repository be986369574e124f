/** A graph as a provider runs it fastest. Artifacts keep to standard operators. */
import { changeNodes } from "../../graph/edit.ts";
import type { Provider } from "../session.ts";
import { Channels } from "./channels.ts";
import { Convolutions } from "./convolutions.ts";
import { Draft } from "./draft.ts";
import { blockSize, OPERATORS } from "./layout.ts";

/** The bytes of a graph for a provider. */
export async function fitted(graph: Uint8Array, provider: Provider = "cpu"): Promise<Uint8Array> {
  const block = provider === "cpu" ? await blockSize() : undefined;
  try {
    return block === undefined ? graph : inBlocks(graph, block);
  } catch {
    return graph; // damaged, as the runtime will tell
  }
}

/** The bytes of a graph with what is faster on blocks of so many channels put on them. */
export function inBlocks(bytes: Uint8Array, block: number): Uint8Array {
  return changeNodes(bytes, (known) => {
    const draft = new Draft();
    const writers = [new Convolutions(draft, block, known), new Channels(draft, block, known)];
    for (const node of known.nodes) {
      if (!writers.some((writer) => writer.takes(node))) draft.nodes.push(node);
    }
    return {
      nodes: draft.nodes,
      initializers: draft.constants.values(),
      shapes: draft.shapes,
      operators: OPERATORS,
    };
  });
}
