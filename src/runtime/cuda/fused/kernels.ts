/** From members to kernels: their steps, what they write, and reductions of few long rows in two kernels. */
import { sameShape } from "../../../graph/dims.ts";
import { Body, type Kernel, type Output, phasesOf, type Rows, rowCount, type Step } from "./ir.ts";
import type { Member, Surroundings } from "./member.ts";
import { contiguous, count, indexOf } from "./views.ts";

/** Threads of a block. */
export const THREADS = 256;
/** Blocks that keep a large GPU busy: four for each of its 132 multiprocessors. */
const BLOCKS = 528;
/** Values that a thread reduces at least. */
const LEAST_SHARE = 8;

/** A kernel of these members; `written` are the values that others read, each once. */
export function kernelOf(
  members: readonly Member[],
  written: readonly string[],
  { values, known, storageOf }: Surroundings,
): Kernel {
  const body = new Body();
  const made = new Map<string, number>();
  for (const { node, reads, build } of members) {
    const args = reads.map((view) => {
      const inside = made.get(view.base);
      if (inside !== undefined) return inside;
      const constant = known.get(view.base);
      const { dtype } = values.get(view.base)!;
      if (constant?.data.length === 1) return body.constant(constant.data[0]!, dtype);
      return body.read(view.base, indexOf(view), dtype);
    });
    made.set(node.output[0]!, build(body, args));
  }
  const outputs = written.map((name): Output => {
    const { dtype, shape } = storageOf(name);
    return { name, step: made.get(name)!, dtype, shape };
  });
  const rows = members.find((member) => member.rows)?.rows;
  const { steps, inputs } = body;
  return { count: members[0]!.count, rows, inputs, steps, outputs };
}

/** A kernel that writes no value twice; `renamed` gets the names of those that others read in place of a second one. */
export function withoutTwins(
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

/** How the threads of a block share rows: so many of them take one row, and each block takes `rows`. */
export function sharing({ outer, length, inner }: Rows): { readonly threads: number; readonly rows: number } {
  if (inner > 1) {
    // Eight floats are read as one; with as many as a warp has, the blocks might be too few.
    const wide = Math.min(outer * inner < 32 * BLOCKS ? 8 : 32, powerFrom(inner));
    return { threads: THREADS / wide, rows: wide };
  }
  // A row of a thousand places is a block's, a shorter one a part of a warp's.
  const threads = length >= 1024 ? THREADS : Math.min(32, powerFrom(length));
  return { threads, rows: THREADS / threads };
}

/** The least power of two that is not below. */
const powerFrom = (least: number): number => 2 ** Math.ceil(Math.log2(least));

/**
 * The kernels, one after the other, that compute what a kernel does: where too few rows are reduced to keep a GPU busy,
 * each row in parts first, and then the parts.
 */
export function inParts(kernel: Kernel): readonly (readonly Kernel[])[] {
  const { rows, steps, outputs } = kernel;
  if (!rows || phasesOf(kernel).some((phase) => phase > 0)) return [[kernel]];
  const share = sharing(rows);
  const blocks = Math.ceil(rowCount(rows) / share.rows);
  const parts = Math.min(
    Math.floor(BLOCKS / blocks),
    Math.floor(rows.length / (share.threads * LEAST_SHARE)),
  );
  if (parts < 2) return [[kernel]];
  const partial = (output: Output): Output =>
    steps[output.step]!.kind === "reduce"
      ? { ...output, name: `${output.name}.parts`, shape: [rowCount(rows), parts] }
      : output;
  const first: Kernel = {
    ...kernel,
    rows: { ...rows, parts },
    steps: steps.map((step): Step => (step.kind === "reduce" ? { ...step, scale: 1 } : step)),
    outputs: outputs.map(partial),
  };
  const rest = outputs.flatMap((output): Kernel[] => {
    const step = steps[output.step]!;
    if (step.kind !== "reduce") return [];
    const { name, shape } = partial(output);
    const body = new Body();
    const view = { base: name, offset: 0, shape, strides: contiguous(shape) };
    const part = body.read(name, indexOf(view), "float32");
    const sum = body.reduce(step.how, part, step.scale);
    return [
      {
        count: count(shape),
        rows: { outer: rowCount(rows), length: parts, inner: 1, parts: 1 },
        inputs: body.inputs,
        steps: body.steps,
        outputs: [{ ...output, step: sum }],
      },
    ];
  });
  return [[first], rest];
}
