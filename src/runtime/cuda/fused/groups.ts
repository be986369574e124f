/**
 * Which nodes become one kernel. Each node gets a level: the nodes of other kinds, and the reads of values in another
 * order, on the longest way to it. Members of one level and one iteration space that read each other's values, or the same
 * values, or are small reductions alike, are a group. Along a way from member to member of one level spaces only grow, so no way leaves a group and comes
 * back: groups never wait for each other in a circle.
 */
import type { NodeProto } from "onnx-buf";
import { once } from "../../../graph/once.ts";
import { type Index, isPlace, type Rows, rowCount } from "./ir.ts";
import { SMALL } from "./kernels.ts";
import type { Family, Member, Surroundings } from "./member.ts";
import { indexOf } from "./views.ts";

/** Of a kernel, inputs and outputs together. */
export const MOST_VALUES = 24;
/** Source of more nodes takes long to compile. */
export const MOST_NODES = 60;
/** Places of a row that is gone through more than once: a cache holds it. */
const LONGEST_ROW = 8192;
/** Places are 32-bit numbers on the device. */
const MOST_PLACES = 2 ** 31;

/** Members of one kernel, in order. */
export type Group = readonly Member[];

export interface Groups {
  readonly groups: readonly Group[];
  /** The nodes that read each value, members by its views. */
  readonly readersOf: ReadersOf;
}

/** The groups of a step, by the families that its nodes may belong to. */
export function groupsOf(of: Surroundings, families: readonly Family[]): Groups {
  const memberOf = new Map<NodeProto, Member>();
  for (const node of of.nodes) {
    const member = families.reduce<Member | undefined>(
      (found, family) => found ?? family(node, of),
      undefined,
    );
    if (member && member.count > 0 && member.count < MOST_PLACES) memberOf.set(node, member);
  }
  // Of a group's reductions all have the same rows. Others are taken out, until there are none left.
  const apart = new Set<Member>();
  const readersOf = readersIn(of, memberOf);
  for (;;) {
    const groups = connected(of, memberOf, levelsOf(of, memberOf, apart), apart);
    const others = groups.flatMap(otherRows);
    if (others.length === 0) return { readersOf, groups: groups.flatMap((group) => cut(group, readersOf)) };
    for (const member of others) apart.add(member);
  }
}

/**
 * Reductions of rows that are not those of most. Last axes go before others: what reads the sum of a row may stay in its
 * kernel.
 */
function otherRows(group: readonly Member[]): readonly Member[] {
  const counts = new Map<string, number>();
  for (const { rows } of group) {
    if (!rows) continue;
    const weight = rows.inner === 1 ? group.length : 1;
    counts.set(keyOf(rows), (counts.get(keyOf(rows)) ?? 0) + weight);
  }
  const [most] = [...counts].sort(([, a], [, b]) => b - a);
  return group.filter(({ rows }) => rows && keyOf(rows) !== most![0]);
}

const keyOf = ({ length, inner }: Rows): string => `${length} ${inner}`;

/** Whether a read gives each place the value of its row. */
const isRow = ({ offset, terms }: Index, { outer, length, inner }: Rows): boolean => {
  const ofRow = [
    { every: 1, size: inner, stride: 1 },
    { every: length * inner, size: outer, stride: inner },
  ].filter(({ size }) => size > 1);
  return (
    offset === 0 &&
    terms.length === ofRow.length &&
    ofRow.every(({ every, size, stride }, i) => {
      const term = terms[i]!;
      return term.every === every && term.size === size && term.stride === stride;
    })
  );
};

/** Whether a kernel may go through its rows more than once: they are short, and many where they do not lie in one piece. */
const isShort = (rows: Rows): boolean => {
  const isFast = rows.inner === 1 || rows.length <= rowCount(rows);
  return rows.length <= LONGEST_ROW && (isFast || rows.length * rowCount(rows) <= SMALL);
};

/** Whether a member may read the value within a kernel, as its own or as its row's. */
function within(from: Member, to: Member, index: Index): boolean {
  if (from.count !== to.count) return false;
  if (!from.reduced) return isPlace(index, to.count);
  return isShort(from.rows!) && isRow(index, from.rows!);
}

type Levels = ReadonlyMap<NodeProto, number>;

function levelsOf(
  of: Surroundings,
  memberOf: ReadonlyMap<NodeProto, Member>,
  apart: ReadonlySet<Member>,
): Levels {
  const makers = makersOf(of.nodes);
  const levels = new Map<NodeProto, number>();
  const later = (from: NodeProto, to: Member, index: Index): number => {
    const member = memberOf.get(from);
    if (!member || apart.has(member)) return 1;
    return within(member, to, index) || (!member.reduced && member.count < to.count) ? 0 : 1;
  };
  /** For each node, its readers with how much later they are at least. */
  const readers = new Map<NodeProto, { reader: NodeProto; by: number }[]>();
  for (const node of of.nodes) {
    const member = memberOf.get(node);
    const waits = member
      ? member.reads.map((view) => ({ from: makers.get(view.base), index: indexOf(view) }))
      : node.input.map((name) => ({ from: makers.get(name), index: undefined }));
    let level = 0;
    for (const { from, index } of waits) {
      if (!from) continue;
      const by = index ? later(from, member!, index) : 0;
      level = Math.max(level, levels.get(from)! + by);
      once(readers, from, () => []).push({ reader: node, by });
    }
    levels.set(node, level);
  }
  // What is read later is computed later, with its readers, rather than held until then. A view counts by its readers.
  const latest = new Map<NodeProto, number>();
  for (const node of of.nodes.toReversed()) {
    const member = memberOf.get(node);
    const isView = !member && of.viewOf(node.output[0]!)?.base !== node.output[0];
    const isOutput = node.output.some((name) => of.outputs.has(name));
    if (!isView && (!member || member.rows)) continue;
    if (isView && isOutput) continue;
    const ends = (readers.get(node) ?? []).map(
      ({ reader, by }) => (latest.get(reader) ?? levels.get(reader)!) - by,
    );
    const end = Math.min(...ends);
    if (isView) latest.set(node, end);
    else if (Number.isFinite(end)) levels.set(node, Math.max(levels.get(node)!, end));
  }
  return levels;
}

const makersOf = (nodes: readonly NodeProto[]): ReadonlyMap<string, NodeProto> =>
  new Map(nodes.flatMap((node) => node.output.map((name) => [name, node] as const)));

/** Members of one level and space that read one another, or the same. */
function connected(
  of: Surroundings,
  memberOf: ReadonlyMap<NodeProto, Member>,
  levels: Levels,
  apart: ReadonlySet<Member>,
): readonly (readonly Member[])[] {
  const makers = makersOf(of.nodes);
  const parents = new Map<Member, Member>();
  const rootOf = (member: Member): Member => {
    let root = member;
    while (parents.get(root)! !== root) root = parents.get(root)!;
    parents.set(member, root);
    return root;
  };
  const firstReaders = new Map<string, Member>();
  for (const [node, member] of memberOf) {
    parents.set(member, member);
    const level = levels.get(node)!;
    const kind = apart.has(member) ? `apart ${keyOf(member.rows!)}` : "";
    if (member.rows && member.count <= SMALL && !kind) {
      const key = `${level} ${member.count} ${keyOf(member.rows)}`;
      parents.set(rootOf(member), rootOf(once(firstReaders, key, () => member)));
    }
    for (const view of member.reads) {
      const index = indexOf(view);
      const maker = makers.get(view.base);
      const from = maker && memberOf.get(maker);
      const joins =
        from && !kind && !apart.has(from) && levels.get(maker) === level && within(from, member, index);
      if (joins) parents.set(rootOf(member), rootOf(from));
      if (of.known.has(view.base) || member.count === 1 || !isPlace(index, member.count)) continue;
      const key = `${view.base} ${level} ${member.count} ${kind}`;
      parents.set(rootOf(member), rootOf(once(firstReaders, key, () => member)));
    }
  }
  const groups = new Map<Member, Member[]>();
  for (const member of memberOf.values()) once(groups, rootOf(member), () => []).push(member);
  return [...groups.values()];
}

/** Cuts a group, in order, into kernels of so many values at most. */
function cut(group: readonly Member[], readersOf: ReadersOf): readonly (readonly Member[])[] {
  const cuts: Member[][] = [[]];
  for (const member of group) {
    const last = cuts.at(-1)!;
    const fits = last.length < MOST_NODES && argumentsOf([...last, member], readersOf) <= MOST_VALUES;
    if (fits || last.length === 0) last.push(member);
    else cuts.push([member]);
  }
  return cuts;
}

type ReadersOf = ReadonlyMap<string, ReadonlySet<NodeProto>>;

/** How many values a kernel of these members reads and writes. */
function argumentsOf(members: readonly Member[], readersOf: ReadersOf): number {
  const inside = new Set(members.map(({ node }) => node));
  const made = members.map(({ node }) => node.output[0]!);
  const read = new Set(members.flatMap(({ reads }) => reads.map(({ base }) => base)));
  for (const name of made) read.delete(name);
  const written = made.filter((name) => [...(readersOf.get(name) ?? [])].some((node) => !inside.has(node)));
  return read.size + written.length;
}

function readersIn({ nodes }: Surroundings, memberOf: ReadonlyMap<NodeProto, Member>): ReadersOf {
  const readers = new Map<string, Set<NodeProto>>();
  for (const node of nodes) {
    const names = memberOf.get(node)?.reads.map(({ base }) => base) ?? node.input;
    for (const name of names) once(readers, name, () => new Set()).add(node);
  }
  return readers;
}
