/** A graph in the form that a provider runs fastest. Artifacts keep to standard operators. */
import { changeNodes } from "../../graph/edit.ts";
import type { Provider } from "../session.ts";
import { Channels } from "./channels.ts";
import { Convolutions } from "./convolutions.ts";
import { Draft } from "./draft.ts";
import { blockSize, OPERATORS } from "./layout.ts";

/** The bytes of a graph in the form for a provider. */
export async function fitted(graph: Uint8Array, provider: Provider = "cpu"): Promise<Uint8Array> {
  const block = provider === "cpu" ? await blockSize() : undefined;
  try {
    return block === undefined ? graph : inBlocks(graph, block);
  } catch {
    return graph; // damaged: the runtime will report it
  }
}

/** The bytes of a graph with NCHWc operators, of so many channels in a block, where they are faster. */
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
