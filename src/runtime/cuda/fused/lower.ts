/** A step for known sizes, with chains of its nodes as kernels: fewer passes over memory, the same values. */
import type { NodeProto, ValueInfoProto } from "onnx-buf";
import { sameShape } from "../../../graph/dims.ts";
import { encodeModel, type ModelProto, nodeProto, opsetOf, valueInfo } from "../../../graph/model.ts";
import type { Fused, Value } from "../kernel.ts";
import { computedAgain, outsideOf } from "./again.ts";
import { operatorOf } from "./cuda-c.ts";
import { elementwise } from "./elementwise.ts";
import { type Group, groupsOf } from "./groups.ts";
import type { Kernel, Launch, Output } from "./ir.ts";
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
  const again = computedAgain(groups, of);
  const { needed, plain, live } = liveIn(of, groups, again);
  const renamed = new Map<string, string>();
  const kernels = new Map<Group, Kernel>();
  for (const group of live) {
    const own = group.map(({ node }) => node.output[0]!).filter((name) => needed.has(name));
    kernels.set(group, withoutTwins(kernelOf([...again.get(group)!, ...group], own, of), of, renamed));
  }
  const nameOf = (name: string) => renamed.get(name) ?? name;
  const kernelsOf = (group: Group) => {
    const kernel = kernels.get(group)!;
    return inParts({ ...kernel, inputs: kernel.inputs.map(nameOf) });
  };
  const placeOf = (group: Group) => Math.max(...group.map(({ node }) => places.get(node)!));
  const inside = others.filter((group) => live.has(group));
  const atEnd = sideBySide(
    ends.filter((group) => live.has(group)).flatMap((group) => kernelsOf(group).flat()),
  );
  const planned = [
    ...inside.flatMap((group) => kernelsOf(group).map((kernels) => ({ kernels, place: placeOf(group) }))),
    ...atEnd.map((kernels) => ({ kernels, place: of.nodes.length })),
  ];
  const launches = planned.map(({ kernels }, i) => launchOf(`Fused_${i}`, kernels));
  const units: Unit[] = [
    ...plain.map((node) => ({ node: { ...node, input: node.input.map(nameOf) }, place: places.get(node)! })),
    ...launches.map((launch, i) => ({ node: nodeOf(launch), place: planned[i]!.place })),
  ];
  const values = new Map<string, Value>(of.values);
  for (const { name, dtype, shape } of launches.flatMap(({ outputs }) => outputs))
    values.set(name, { dtype, shape });
  return { model: modelOf(of, inOrder(units), values), launches, values };
}

function nodeOf({ type, inputs, outputs }: Launch): NodeProto {
  const node = nodeProto(
    type,
    `fused/${type}`,
    [...inputs],
    outputs.map(({ name }) => name),
  );
  return { ...node, domain: DOMAIN };
}

/** What is still read, and the groups and other nodes that are still needed. */
function liveIn(of: Surroundings, groups: readonly Group[], again: ReadonlyMap<Group, Group>) {
  const groupOf = new Map(groups.flatMap((group) => group.map(({ node }) => [node, group] as const)));
  const makers = new Map(of.nodes.flatMap((node) => node.output.map((name) => [name, node] as const)));
  const needed = new Set<string>();
  const live = new Set<Group>();
  const plain = new Set<NodeProto>();
  const left = [...of.outputs];
  while (left.length > 0) {
    const name = left.pop()!;
    if (needed.has(name)) continue;
    needed.add(name);
    const maker = makers.get(name);
    const group = maker && groupOf.get(maker);
    if (group && !live.has(group)) {
      live.add(group);
      left.push(...outsideOf([...again.get(group)!, ...group]));
    } else if (maker && !group && !plain.has(maker)) {
      plain.add(maker);
      left.push(...maker.input);
    }
  }
  return { needed, live, plain: [...plain] };
}

/** A kernel that writes no value twice; `renamed` gets the names of those that others read in place of a second one. */
function withoutTwins(
  kernel: Kernel,
  { outputs: fixed }: Surroundings,
  renamed: Map<string, string>,
): Kernel {
  const sorted = kernel.outputs.toSorted((a, b) => Number(fixed.has(b.name)) - Number(fixed.has(a.name)));
  const kept: Output[] = [];
  for (const output of sorted) {
    const twin = kept.find(({ step, shape }) => step === output.step && sameShape(shape, output.shape));
    if (twin && !fixed.has(output.name)) renamed.set(output.name, twin.name);
    else kept.push(output);
  }
  return { ...kernel, outputs: kept };
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
