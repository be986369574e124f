/** Kernels that are launched together: one, or many side by side that nothing in the step waits for. */
import type { Kernel, Launch } from "./ir.ts";

/** Inputs and outputs of kernels side by side, together: pointers, of which CUDA passes 512 at most. */
const MOST_POINTERS = 240;

/** A launch of these kernels, none of which reads what another writes. */
export const launchOf = (type: string, kernels: readonly Kernel[]): Launch => ({
  type,
  kernels,
  inputs: [...new Set(kernels.flatMap(({ inputs }) => inputs))],
  outputs: kernels.flatMap(({ outputs }) => outputs),
});

/**
 * Ends of a step, such as the updates of all parameters, in few launches: a kernel of its own for each would be
 * hundreds, most of them of a few thousand values.
 */
export function sideBySide(ends: readonly Kernel[]): readonly (readonly Kernel[])[] {
  const launches: Kernel[][] = [];
  let pointers = new Set<string>();
  for (const kernel of ends) {
    const own = [...kernel.inputs, ...kernel.outputs.map(({ name }) => name)];
    const all = new Set([...pointers, ...own]);
    if (launches.length > 0 && all.size <= MOST_POINTERS) {
      launches.at(-1)!.push(kernel);
      pointers = all;
    } else {
      launches.push([kernel]);
      pointers = new Set(own);
    }
  }
  return launches;
}
