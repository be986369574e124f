/**
 * What a kernel computes again rather than reads: element-wise values of others, where it reads what these are computed
 * from anyway. GELU's error function, for one, is computed again for the gradient, which reads the same feature map.
 */
import { type Group, MOST_NODES, MOST_VALUES } from "./groups.ts";
import { isPlace } from "./ir.ts";
import type { Member, Surroundings } from "./member.ts";
import { count, indexOf } from "./views.ts";

/** A value counts as small next to so many times as many places. */
const SMALL = 8;

/** The members that each group gets in front of its own. */
export function computedAgain(groups: readonly Group[], of: Surroundings): ReadonlyMap<Group, Group> {
  const makers = new Map(
    groups.flatMap((group) => group.map((member) => [member.node.output[0]!, { member, group }] as const)),
  );
  const isWhole = (member: Member, base: string) =>
    member.reads.every((view) => view.base !== base || isPlace(indexOf(view), member.count));

  function addedTo(group: Group): Group {
    let reads = outsideOf(group);
    let added: ReadonlySet<Member> = new Set();
    for (const name of reads) {
      const from = makers.get(name);
      if (!from || from.group === group || !group.every((member) => isWhole(member, name))) continue;
      const chain = new Set<Member>();
      /** Whether the value can be computed of what the group reads. */
      const follow = (base: string): boolean => {
        const maker = makers.get(base);
        if (maker?.group !== from.group || maker.member.rows || maker.member.count !== group[0]!.count)
          return isAtHand(base);
        if (!maker.member.reads.every((view) => isWhole(maker.member, view.base) || isAtHand(view.base)))
          return false;
        chain.add(maker.member);
        return maker.member.reads.every((view) => follow(view.base));
      };
      const isAtHand = (base: string) =>
        base !== name && (of.known.has(base) || reads.has(base) || isSmall(base));
      // A step's own inputs may be overwritten by then.
      const isSmall = (base: string) =>
        !of.inputs.has(base) && count(of.values.get(base)!.shape) * SMALL <= group[0]!.count;
      if (!follow(name) || !chain.size) continue;
      const more = new Set([...added, ...chain]);
      const all = [...more, ...group];
      if (all.length > MOST_NODES || outsideOf(all).size > MOST_VALUES) continue;
      added = more;
      reads = outsideOf(all);
    }
    return from(added);
  }

  /** In the order of their groups. */
  const from = (added: ReadonlySet<Member>): Group =>
    added.size === 0 ? [] : groups.flatMap((group) => group.filter((member) => added.has(member)));

  return new Map(groups.map((group) => [group, addedTo(group)]));
}

/** What members read that none of them computes. */
export function outsideOf(members: Group): ReadonlySet<string> {
  const made = new Set(members.map(({ node }) => node.output[0]!));
  return new Set(
    members.flatMap(({ reads }) => reads.map(({ base }) => base)).filter((base) => !made.has(base)),
  );
}
