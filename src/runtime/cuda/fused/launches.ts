/**
 * Kernels that are launched together. The end of a step, such as the updates of all parameters, would otherwise be hundreds
 * of launches, most of them of a few thousand values.
 */
import { once } from "../../../graph/once.ts";
import { outsideOf } from "./again.ts";
import type { Group, Groups } from "./groups.ts";
import type { Kernel, Launch } from "./ir.ts";
import type { Surroundings } from "./member.ts";
import { count } from "./views.ts";

/** Inputs and outputs of kernels side by side, together: pointers, of which CUDA passes 512 at most. */
const MOST_POINTERS = 240;

/** A launch of these kernels, none of which reads what another writes. */
export const launchOf = (type: string, kernels: readonly Kernel[]): Launch => ({
  type,
  kernels,
  inputs: [...new Set(kernels.flatMap(({ inputs }) => inputs))],
  outputs: kernels.flatMap(({ outputs }) => outputs),
});

/** A kernel of the end may let so many values be held until then that it does not replace by others. */
const MOST_HELD = 2 ** 16;

/**
 * The groups for which no node waits but those of such groups, and which read hardly more than they write: sums over large
 * feature maps, such as gradients of biases, are not for the end, which would hold these until then.
 */
export function endOf(of: Surroundings, { groups, readersOf }: Groups): ReadonlySet<Group> {
  const groupOf = new Map(groups.flatMap((group) => group.map(({ node }) => [node, group] as const)));
  const sizeOf = (names: Iterable<string>) =>
    [...names].reduce((sum, name) => sum + count(of.values.get(name)!.shape), 0);
  const isLight = (group: Group) => {
    const held = [...outsideOf(group)].filter((name) => !of.inputs.has(name) && !of.known.has(name));
    const inside = new Set(group.map(({ node }) => node));
    const written = group
      .map(({ node }) => node.output[0]!)
      .filter((name) => of.outputs.has(name) || [...(readersOf.get(name) ?? [])].some((n) => !inside.has(n)));
    return sizeOf(held) <= Math.max(MOST_HELD, sizeOf(written));
  };
  const ends = new Map<Group, boolean>();
  const isFree = (name: string, inside?: Group): boolean =>
    [...(readersOf.get(name) ?? [])].every((reader) => {
      const group = groupOf.get(reader);
      if (group) return group === inside || isEnd(group);
      // A view that nothing but such groups read, by way of its base, is left out.
      const isView = reader.output.every((out) => !of.outputs.has(out) && of.viewOf(out)?.base !== out);
      return isView && reader.output.every((out) => isFree(out));
    });
  const isEnd = (group: Group): boolean => {
    const known = ends.get(group);
    if (known !== undefined) return known;
    const found = isLight(group) && group.every(({ node }) => isFree(node.output[0]!, group));
    ends.set(group, found);
    return found;
  };
  return new Set(groups.filter(isEnd));
}

/** Kernels side by side, of which none needs another. */
export function withinBounds(kernels: readonly Kernel[]): readonly (readonly Kernel[])[] {
  const launches: Kernel[][] = [[]];
  let pointers = new Set<string>();
  for (const kernel of kernels) {
    const own = [...kernel.inputs, ...kernel.outputs.map(({ name }) => name)];
    const all = new Set([...pointers, ...own]);
    const fits = all.size <= MOST_POINTERS || pointers.size === 0;
    if (!fits) launches.push([]);
    launches.at(-1)!.push(kernel);
    pointers = fits ? all : new Set(own);
  }
  return launches;
}

/**
 * Kernels of the end side by side: those from which as many others follow, one after the other, for these do not wait for
 * each other.
 */
export function sideBySide(kernels: readonly Kernel[]): readonly (readonly Kernel[])[] {
  const readers = new Map<string, Kernel[]>();
  for (const kernel of kernels) for (const name of kernel.inputs) once(readers, name, () => []).push(kernel);
  const heights = new Map<Kernel, number>();
  const heightOf = (kernel: Kernel): number => {
    const known = heights.get(kernel);
    if (known !== undefined) return known;
    const after = kernel.outputs.flatMap(({ name }) => readers.get(name) ?? []);
    const height = Math.max(0, ...after.map((reader) => 1 + heightOf(reader)));
    heights.set(kernel, height);
    return height;
  };
  const byHeight = new Map<number, Kernel[]>();
  for (const kernel of kernels) once(byHeight, heightOf(kernel), () => []).push(kernel);
  return [...byHeight.keys()].sort((a, b) => b - a).flatMap((height) => withinBounds(byHeight.get(height)!));
}
