/** A step for known sizes, with chains of its nodes as kernels: fewer passes over memory, the same values. */
import type { NodeProto, TensorProto } from "onnx-buf";
import type { ModelProto } from "../../../graph/model.ts";
import { once } from "../../../graph/once.ts";
import { encodeModel, type HalfType, nodeProto, tensorProto } from "../../../graph/protos.ts";
import type { Fused, Value } from "../kernel.ts";
import { computedAgain } from "./again.ts";
import { type Convolution, operatorOf as convolutionOperator, withConvolutions } from "./convolutions.ts";
import { operatorOf } from "./cuda-c.ts";
import { elementwise } from "./elementwise.ts";
import { expanded } from "./expanded.ts";
import { type Group, groupsOf } from "./groups.ts";
import type { Kernel, Launch } from "./ir.ts";
import { inParts, kernelOf, withoutTwins } from "./kernels.ts";
import { endOf, launchOf, sideBySide, withinBounds } from "./launches.ts";
import { neededIn } from "./needed.ts";
import { withProducts } from "./products.ts";
import { reductions } from "./reductions.ts";
import { sized } from "./sizes.ts";
import { softmax } from "./softmax.ts";
import { isSame, type Placement, plainStorage, type Storage } from "./storage.ts";
import { surroundingsOf } from "./surroundings.ts";
import { custom, modelOf, type Unit } from "./written.ts";

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
  const needed = neededIn(of, groups, again, placements);
  const renamed = new Map<string, string>();
  const kernels = new Map<Group, Kernel>();
  for (const group of needed.groups) {
    const own = group.map(({ node }) => node.output[0]!).filter((name) => needed.values.has(name));
    kernels.set(group, withoutTwins(kernelOf([...again.get(group)!, ...group], own, of), of, renamed));
  }
  const nameOf = (name: string) => renamed.get(name) ?? name;
  const named = (kernel: Kernel): Kernel => ({ ...kernel, inputs: kernel.inputs.map(nameOf) });
  const kernelsOf = (group: Group) => inParts(named(kernels.get(group)!));
  const placeOf = (group: Group) => Math.max(...group.map(({ node }) => places.get(node)!));
  const inside = others.filter((group) => needed.groups.has(group));
  const atEnd = sideBySide(
    ends.filter((group) => needed.groups.has(group)).flatMap((group) => kernelsOf(group).flat()),
  );
  const copies = needed.sources.flatMap(({ kernel }) => (kernel ? [named(kernel)] : []));
  const reshaped = needed.sources.flatMap((source) =>
    source.shape ? [{ ...source, shape: source.shape }] : [],
  );
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
    needed.nodes.filter((node) => convolutions.has(node)).map((node, i) => [node, `Convolution_${i}`]),
  );
  const asRead = (node: NodeProto): NodeProto => {
    const input = node.input.map((name, i) => nameOf(needed.sourceOf(node, i)?.name ?? name));
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
    ...needed.nodes.map((node) => ({ node: asRead(node), place: places.get(node)! })),
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
    model: modelOf(of, units, values, shapes.values()),
    launches,
    convolutions: new Map(Array.from(types, ([node, type]) => [type, convolutions.get(node)!])),
    values,
    storageOf: of.storageOf,
  };
}

const inMemory = ({ dtype, shape }: Value): Value => ({ dtype, shape });
