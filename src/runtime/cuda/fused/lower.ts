/** A step for known sizes, with chains of its nodes as kernels: fewer passes over memory, the same values. */
import type { NodeProto, TensorProto, ValueInfoProto } from "onnx-buf";
import { sameShape } from "../../../graph/dims.ts";
import {
  encodeModel,
  type HalfType,
  type ModelProto,
  nodeProto,
  opsetOf,
  tensorProto,
  valueInfo,
} from "../../../graph/model.ts";
import { once } from "../../../graph/once.ts";
import type { Fused, Value } from "../kernel.ts";
import { computedAgain, outsideOf } from "./again.ts";
import { type Convolution, operatorOf as convolutionOperator, withConvolutions } from "./convolutions.ts";
import { type Source, sourceOf } from "./copies.ts";
import { operatorOf } from "./cuda-c.ts";
import { elementwise } from "./elementwise.ts";
import { expanded } from "./expanded.ts";
import { type Group, groupsOf } from "./groups.ts";
import type { Kernel, Launch, Output } from "./ir.ts";
import { inParts, kernelOf } from "./kernels.ts";
import { endOf, launchOf, sideBySide, withinBounds } from "./launches.ts";
import type { Surroundings } from "./member.ts";
import { RUNTIME_DOMAIN, withProducts } from "./products.ts";
import { reductions } from "./reductions.ts";
import { sized } from "./sizes.ts";
import { softmax } from "./softmax.ts";
import { isSame, type Placement, plainStorage, type Storage } from "./storage.ts";
import { surroundingsOf } from "./surroundings.ts";

export const DOMAIN = "ort.pretrain";

export interface Lowered {
  readonly model: ModelProto;
  readonly launches: readonly Launch[];
  /** By the types of their nodes. */
  readonly convolutions: ReadonlyMap<string, Convolution>;
  /** Of all values whose sizes are known, as they lie in memory. */
  readonly values: ReadonlyMap<string, Value>;
  /** Of a value of the step, whose sizes are known. */
  storageOf(name: string): Storage;
}

/**
 * The step with custom operators in place of nodes, and what these run. Nodes whose sizes are not known stay.
 *
 * @param graph a step of the cuda target, which states the shapes of its values
 * @param fed sizes of its inputs
 * @param half in which feature maps and what layers multiply are kept. @default float32
 * @throws Error on bytes that are no model
 */
export function fused(
  graph: Uint8Array,
  fed: ReadonlyMap<string, readonly number[]>,
  half?: HalfType,
): Fused {
  const { model, launches, convolutions, values } = lowered(graph, fed, half);
  const kernels = launches.map((launch) => operatorOf(launch, (name) => values.get(name)!));
  const others = Array.from(convolutions, ([type, convolution]) => convolutionOperator(type, convolution));
  return { model: encodeModel(model), operators: [...kernels, ...others] };
}

/** The same, with the kernels as expressions. */
export function lowered(
  graph: Uint8Array,
  fed: ReadonlyMap<string, readonly number[]>,
  half?: HalfType,
): Lowered {
  const { sized: convolved, convolutions } = withConvolutions(expanded(sized(graph, fed)), half);
  const { sized: step, placements: products } = withProducts(convolved, half);
  const placements = new Map<NodeProto, Placement>([...convolutions, ...products]);
  const maps = [...convolutions.values()].filter(({ work }) => work.function !== "backward-filter");
  const of = surroundingsOf(step, placements, new Set(maps.map(({ node }) => node)));
  const found = groupsOf(of, [elementwise, reductions, softmax]);
  const ends = [...endOf(of, found)];
  // A node by itself is as fast as it is, unless it would want copies.
  const isPlain = (name: string) =>
    isSame(of.values.get(name)!.shape, of.storageOf(name), plainStorage(of.values.get(name)!));
  const isWorth = (group: Group) =>
    group.length > 1 ||
    group.some(({ node, reads }) =>
      [node.output[0]!, ...reads.map(({ base }) => base)].some((name) => !isPlain(name)),
    );
  const others = found.groups.filter((group) => isWorth(group) && !ends.includes(group));
  const places = new Map(of.nodes.map((node, i) => [node, i]));
  const groups = [...others, ...ends];
  const again = computedAgain(groups, of);
  const { needed, plain, live, sources } = liveIn(of, groups, again, placements);
  const renamed = new Map<string, string>();
  const kernels = new Map<Group, Kernel>();
  for (const group of live) {
    const own = group.map(({ node }) => node.output[0]!).filter((name) => needed.has(name));
    kernels.set(group, withoutTwins(kernelOf([...again.get(group)!, ...group], own, of), of, renamed));
  }
  const nameOf = (name: string) => renamed.get(name) ?? name;
  const named = (kernel: Kernel): Kernel => ({ ...kernel, inputs: kernel.inputs.map(nameOf) });
  const kernelsOf = (group: Group) => inParts(named(kernels.get(group)!));
  const placeOf = (group: Group) => Math.max(...group.map(({ node }) => places.get(node)!));
  const inside = others.filter((group) => live.has(group));
  const atEnd = sideBySide(
    ends.filter((group) => live.has(group)).flatMap((group) => kernelsOf(group).flat()),
  );
  const made = [...new Set(sources.values())];
  const copies = made.flatMap(({ kernel }) => (kernel ? [named(kernel)] : []));
  const reshaped = made.flatMap((source) => (source.shape ? [{ ...source, shape: source.shape }] : []));
  const isGiven = ({ inputs }: Kernel) => inputs.every((name) => of.inputs.has(name));
  const planned = [
    ...withinBounds(copies.filter(isGiven)).map((kernels) => ({ kernels, place: 0 })),
    ...copies
      .filter((kernel) => !isGiven(kernel))
      .map((kernel) => ({ kernels: [kernel], place: of.nodes.length })),
    ...inside.flatMap((group) => kernelsOf(group).map((kernels) => ({ kernels, place: placeOf(group) }))),
    ...atEnd.map((kernels) => ({ kernels, place: of.nodes.length })),
  ].filter(({ kernels }) => kernels.length > 0);
  const launches = planned.map(({ kernels }, i) => launchOf(`Fused_${i}`, kernels));
  const types = new Map(
    plain.filter((node) => convolutions.has(node)).map((node, i) => [node, `Convolution_${i}`]),
  );
  const asRead = (node: NodeProto): NodeProto => {
    const input = node.input.map((name, i) => nameOf(sources.get(readOf(node, i))?.name ?? name));
    const type = types.get(node);
    return type ? custom(type, input, node.output) : { ...node, input };
  };
  const shapes = new Map<string, TensorProto>();
  const units: Unit[] = [
    ...reshaped.map(({ name, from, shape }) => {
      const target = `shape/${shape.join("-")}`;
      once(shapes, target, () =>
        tensorProto(target, BigInt64Array.from(shape, BigInt), [shape.length], "int64"),
      );
      return { node: nodeProto("Reshape", name, [nameOf(from), target], [name]), place: of.nodes.length };
    }),
    ...plain.map((node) => ({ node: asRead(node), place: places.get(node)! })),
    ...launches.map(({ type, inputs, outputs }, i) => ({
      node: custom(
        type,
        inputs,
        outputs.map(({ name }) => name),
      ),
      place: planned[i]!.place,
    })),
  ];
  const values = new Map<string, Value>(
    Array.from(of.values.keys(), (name) => [name, inMemory(of.storageOf(name))]),
  );
  for (const { name, dtype, shape } of launches.flatMap(({ outputs }) => outputs))
    values.set(name, { dtype, shape });
  for (const { name, from, shape } of reshaped)
    values.set(name, { dtype: values.get(nameOf(from))!.dtype, shape });
  for (const [name, { dims }] of shapes) values.set(name, { dtype: "int64", shape: dims.map(Number) });
  return {
    model: modelOf(of, inOrder(units), values, shapes),
    launches,
    convolutions: new Map(Array.from(types, ([node, type]) => [type, convolutions.get(node)!])),
    values,
    storageOf: of.storageOf,
  };
}

const inMemory = ({ dtype, shape }: Value): Value => ({ dtype, shape });

function custom(type: string, inputs: readonly string[], outputs: readonly string[]): NodeProto {
  return { ...nodeProto(type, `fused/${type}`, [...inputs], [...outputs]), domain: DOMAIN };
}

/** A read of a node, as a key. */
const readOf = (node: NodeProto, i: number): string => `${node.output[0]} ${i}`;

/** What is still read, the groups and other nodes that are still needed, and what these read in place of their inputs. */
function liveIn(
  of: Surroundings,
  groups: readonly Group[],
  again: ReadonlyMap<Group, Group>,
  placements: ReadonlyMap<NodeProto, Placement>,
) {
  const groupOf = new Map(groups.flatMap((group) => group.map(({ node }) => [node, group] as const)));
  const makers = new Map(of.nodes.flatMap((node) => node.output.map((name) => [name, node] as const)));
  const needed = new Set<string>();
  const live = new Set<Group>();
  const plain = new Set<NodeProto>();
  const sources = new Map<string, Source>();
  const copies = new Map<string, Source>();
  const left = [...of.outputs];
  /** What input i of a node is read from. */
  const follow = (node: NodeProto, i: number): readonly string[] => {
    const name = node.input[i]!;
    const value = of.values.get(name);
    const placement = placements.get(node);
    // Views lie as nodes make them, which is in order.
    if (!value || (!placement && isSame(value.shape, of.storageOf(name), plainStorage(value)))) return [name];
    const source = sourceOf(name, placement?.inputs[i] ?? plainStorage(value), of);
    sources.set(
      readOf(node, i),
      once(copies, source.name, () => source),
    );
    return [source.from];
  };
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
      left.push(...maker.input.flatMap((name, i) => (name === "" ? [] : follow(maker, i))));
    }
  }
  return { needed, live, plain: [...plain], sources };
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
    const twin = kept.find(
      ({ step, dtype, shape }) =>
        step === output.step && dtype === output.dtype && sameShape(shape, output.shape),
    );
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
  shapes: ReadonlyMap<string, TensorProto>,
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
    opsetImport: [...model.opsetImport, opsetOf(DOMAIN, 1), opsetOf(RUNTIME_DOMAIN, 1)],
    graph: {
      ...graph,
      node: [...nodes],
      initializer: [...graph.initializer, ...computed.values(), ...shapes.values()].filter(({ name }) =>
        read.has(name),
      ),
      input: stated(graph.input),
      output: stated(graph.output),
      valueInfo: inner.flatMap(declare),
    },
  };
}
