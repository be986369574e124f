/** A step as a model again. */
import type { NodeProto, TensorProto, ValueInfoProto } from "onnx-buf";
import type { ModelProto } from "../../../graph/model.ts";
import { nodeProto, opsetOf, valueInfo } from "../../../graph/protos.ts";
import type { Value } from "../kernel.ts";
import type { Surroundings } from "./member.ts";
import { RUNTIME_DOMAIN } from "./products.ts";

export const DOMAIN = "ort.pretrain";

/** The node of a custom operator. */
export function custom(type: string, inputs: readonly string[], outputs: readonly string[]): NodeProto {
  return { ...nodeProto(type, `fused/${type}`, [...inputs], [...outputs]), domain: DOMAIN };
}

/** A node to be written, and its place in the step as it was. */
export interface Unit {
  readonly node: NodeProto;
  readonly place: number;
}

/** Near their old order, each behind what it reads. */
function inOrder(units: readonly Unit[]): readonly NodeProto[] {
  const makers = new Map(units.flatMap((unit) => unit.node.output.map((name) => [name, unit] as const)));
  const placed = new Map<Unit, boolean>();
  const ordered: NodeProto[] = [];
  const place = (unit: Unit) => {
    if (placed.get(unit)) return;
    if (placed.has(unit)) throw new Error(`${unit.node.name} waits for itself`);
    placed.set(unit, false);
    for (const name of unit.node.input) {
      const maker = makers.get(name);
      if (maker) place(maker);
    }
    placed.set(unit, true);
    ordered.push(unit.node);
  };
  for (const unit of units.toSorted((a, b) => a.place - b.place)) place(unit);
  return ordered;
}

/** The step with these nodes, each behind what it reads, and sizes as numbers; `more` are initializers that they read. */
export function modelOf(
  { model, outputs, computed }: Surroundings,
  units: readonly Unit[],
  values: ReadonlyMap<string, Value>,
  more: Iterable<TensorProto>,
): ModelProto {
  const graph = model.graph!;
  const nodes = inOrder(units);
  const read = new Set(nodes.flatMap(({ input }) => input));
  const declare = (name: string) => {
    const value = values.get(name);
    return value ? [valueInfo(name, value.dtype, value.shape)] : [];
  };
  const stated = (all: readonly ValueInfoProto[]) => all.flatMap((info) => declare(info.name)[0] ?? info);
  const inner = nodes.flatMap(({ output }) => output).filter((name) => !outputs.has(name));
  return {
    ...model,
    opsetImport: [...model.opsetImport, opsetOf(DOMAIN, 1), opsetOf(RUNTIME_DOMAIN, 1)],
    graph: {
      ...graph,
      node: [...nodes],
      initializer: [...graph.initializer, ...computed.values(), ...more].filter(({ name }) => read.has(name)),
      input: stated(graph.input),
      output: stated(graph.output),
      valueInfo: inner.flatMap(declare),
    },
  };
}
