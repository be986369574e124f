/** What of a step is still needed once groups of its nodes are kernels. */
import type { NodeProto } from "onnx-buf";
import { once } from "../../../graph/once.ts";
import { outsideOf } from "./again.ts";
import { type Source, sourceOf } from "./copies.ts";
import type { Group } from "./groups.ts";
import type { Surroundings } from "./member.ts";
import { isSame, type Placement, plainStorage } from "./storage.ts";

export interface Needed {
  /** Values that are read. */
  readonly values: ReadonlySet<string>;
  readonly groups: ReadonlySet<Group>;
  /** Nodes of no group. */
  readonly nodes: readonly NodeProto[];
  /** Of these, what input i is read from. */
  sourceOf(node: NodeProto, i: number): Source | undefined;
  /** Each source once. */
  readonly sources: readonly Source[];
}

/** A read of a node, as a key. */
const readOf = (node: NodeProto, i: number): string => `${node.output[0]} ${i}`;

/**
 * @param again the members that each group computes again
 * @param placements of the nodes that read and write memory in their own way
 */
export function neededIn(
  of: Surroundings,
  groups: readonly Group[],
  again: ReadonlyMap<Group, Group>,
  placements: ReadonlyMap<NodeProto, Placement>,
): Needed {
  const groupOf = new Map(groups.flatMap((group) => group.map(({ node }) => [node, group] as const)));
  const makers = new Map(of.nodes.flatMap((node) => node.output.map((name) => [name, node] as const)));
  const values = new Set<string>();
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
    if (values.has(name)) continue;
    values.add(name);
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
  return {
    values,
    groups: live,
    nodes: [...plain],
    sourceOf: (node, i) => sources.get(readOf(node, i)),
    sources: [...copies.values()],
  };
}
