/** Graphs for batches of one size. */
import { decodeModel, encodeModel } from "../../graph/protos.ts";

/**
 * The graph of a step, for batches of `batch` images alone. What a step computes of its sizes runs on the host, and
 * most of it depends on the batch: the runtime then computes it once, when it opens the graph.
 *
 * @throws Error on bytes that are no model
 */
export function forBatch(graph: Uint8Array, batch: number): Uint8Array {
  const model = decodeModel(graph);
  const dims = (model.graph?.input ?? []).map(({ name, type }) => ({
    name,
    dims: type?.value.case === "tensorType" ? (type.value.value.shape?.dim ?? []) : [],
  }));
  const [n] = dims.find(({ name }) => name === "images")?.dims ?? [];
  const symbol = n?.value.case === "dimParam" ? n.value.value : undefined;
  for (const { dims: own } of dims)
    for (const dim of own)
      if (dim.value.case === "dimParam" && dim.value.value === symbol)
        dim.value = { case: "dimValue", value: BigInt(batch) };
  return encodeModel(model);
}
