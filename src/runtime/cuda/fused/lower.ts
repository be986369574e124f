/** A step for known sizes, with chains of its nodes as kernels: fewer passes over memory, the same values. */
import type { NodeProto, ValueInfoProto } from "onnx-buf";
import { encodeModel, type ModelProto, nodeProto, opsetOf, valueInfo } from "../../../graph/model.ts";
import type { Fused, Value } from "../kernel.ts";
import { operatorOf } from "./cuda-c.ts";
import { elementwise } from "./elementwise.ts";
import { type Group, groupsOf } from "./groups.ts";
import type { Kernel, Launch } from "./ir.ts";
import { inParts, kernelOf } from "./kernels.ts";
import { endOf, launchOf, sideBySide } from "./launches.ts";
import type { Surroundings } from "./member.ts";
import { reductions } from "./reductions.ts";
import { sized } from "./sizes.ts";
import { softmax } from "./softmax.ts";
import { surroundingsOf } from "./surroundings.ts";

export const DOMAIN = "ort.pretrain";

export interface Lowered {
  readonly model: ModelProto;
  readonly launches: readonly Launch[];
  /** Of all values whose sizes are known. */
  readonly values: ReadonlyMap<string, Value>;
}

/**
 * The step with custom operators in place of nodes, and their kernels. Nodes whose sizes are not known stay.
 *
 * @param graph a step of the cuda target, which states the shapes of its values
 * @param fed sizes of its inputs
 * @throws Error on bytes that are no model
 */
export function fused(graph: Uint8Array, fed: ReadonlyMap<string, readonly number[]>): Fused {
  const { model, launches, values } = lowered(graph, fed);
  return {
    model: encodeModel(model),
    operators: launches.map((launch) => operatorOf(launch, (name) => values.get(name)!)),
  };
}

/** The same, with the kernels as expressions. */
export function lowered(graph: Uint8Array, fed: ReadonlyMap<string, readonly number[]>): Lowered {
  const of = surroundingsOf(sized(graph, fed));
  const found = groupsOf(of, [elementwise, reductions, softmax]);
  const ends = [...endOf(of, found)];
  // A node by itself is as fast as it is.
  const others = found.groups.filter((group) => group.length > 1 && !ends.includes(group));
  const places = new Map(of.nodes.map((node, i) => [node, i]));
  const groups = [...others, ...ends];
  const { needed, plain } = liveIn(of, groups);
  const kernelIn = (group: Group) => kernelOf(group, needed, of);
  const units: Unit[] = plain.map((node) => ({ node, place: places.get(node)! }));
  const launches: Launch[] = [];
  const add = (kernels: readonly Kernel[], place: number) => {
    const launch = launchOf(`Fused_${launches.length}`, kernels);
    launches.push(launch);
    const outputs = launch.outputs.map(({ name }) => name);
    const node = nodeProto(launch.type, `fused/${launch.type}`, [...launch.inputs], outputs);
    node.domain = DOMAIN;
    units.push({ node, place });
  };
  const placeOf = (group: Group) => Math.max(...group.map(({ node }) => places.get(node)!));
  for (const group of others) for (const kernels of inParts(kernelIn(group))) add(kernels, placeOf(group));
  for (const kernels of sideBySide(ends.flatMap((group) => inParts(kernelIn(group)).flat())))
    add(kernels, of.nodes.length);
  const values = new Map<string, Value>(of.values);
  for (const { name, dtype, shape } of launches.flatMap(({ outputs }) => outputs))
    values.set(name, { dtype, shape });
  return { model: modelOf(of, inOrder(units), values), launches, values };
}

/** What is still read, and the nodes that are still needed besides the groups. */
function liveIn(of: Surroundings, groups: readonly Group[]) {
  const memberOf = new Map(groups.flat().map((member) => [member.node, member]));
  const groupOf = new Map(groups.flatMap((group) => group.map(({ node }) => [node, group] as const)));
  const makers = new Map(of.nodes.flatMap((node) => node.output.map((name) => [name, node] as const)));
  const needed = new Set(of.outputs);
  const plain: NodeProto[] = [];
  for (const node of of.nodes.toReversed()) {
    const member = memberOf.get(node);
    const bases = member?.reads
      .map(({ base }) => base)
      .filter((base) => {
        const maker = makers.get(base);
        return !maker || groupOf.get(maker) !== groupOf.get(node);
      });
    if (!member && !node.output.some((name) => needed.has(name))) continue;
    if (!member) plain.push(node);
    for (const name of bases ?? node.input) needed.add(name);
  }
  return { needed, plain };
}

/** A node to be written, and its place in the step as it was. */
interface Unit {
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

/** The step with these nodes, its sizes as numbers. */
function modelOf(
  { model, outputs, computed }: Surroundings,
  nodes: readonly NodeProto[],
  values: ReadonlyMap<string, Value>,
): ModelProto {
  const graph = model.graph!;
  const read = new Set(nodes.flatMap(({ input }) => input));
  const declare = (name: string) => {
    const value = values.get(name);
    return value ? [valueInfo(name, value.dtype, value.shape)] : [];
  };
  const stated = (all: readonly ValueInfoProto[]) => all.flatMap((info) => declare(info.name)[0] ?? info);
  const inner = nodes.flatMap(({ output }) => output).filter((name) => !outputs.has(name));
  return {
    ...model,
    opsetImport: [...model.opsetImport, opsetOf(DOMAIN, 1)],
    graph: {
      ...graph,
      node: [...nodes],
      initializer: [...graph.initializer, ...computed.values()].filter(({ name }) => read.has(name)),
      input: stated(graph.input),
      output: stated(graph.output),
      valueInfo: inner.flatMap(declare),
    },
  };
}
