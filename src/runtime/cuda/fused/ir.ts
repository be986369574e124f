/**
 * A kernel as expressions over one iteration space, the places 0 to count - 1. An input is read at a place that is affine
 * in these, so broadcasting, reshapes and parts of a tensor cost no pass of their own. Rows of the space may be reduced;
 * what is reduced may be read by later expressions of the row, which is then gone through once more.
 */
import type { DType } from "../../../spec.ts";
import type { Value } from "../kernel.ts";

/** Place in a value's memory of place i in the space: offset + the sum of (floor(i / every) mod size) stride. */
export interface Index {
  readonly offset: number;
  readonly terms: readonly { readonly every: number; readonly size: number; readonly stride: number }[];
}

/** An expression; `args` and `of` are numbers of earlier steps. */
export type Step =
  | { readonly kind: "constant"; readonly value: number; readonly dtype: DType }
  | {
      readonly kind: "read";
      readonly input: number;
      readonly index: Index;
      /** As what it counts; in memory it may be in half precision. */
      readonly dtype: DType;
      readonly inside?: Inside | undefined;
    }
  | {
      readonly kind: "apply";
      readonly op: string;
      readonly args: readonly number[];
      /** Attributes, such as alpha and beta of HardSigmoid. */
      readonly settings: readonly number[];
      readonly dtype: DType;
    }
  /** Over a row, times `scale`; one value for all places of the row. */
  | {
      readonly kind: "reduce";
      readonly how: Reduction;
      readonly of: number;
      readonly scale: number;
      readonly dtype: "float32";
    };

/** Places i of which i mod `size` is below; others are read as 0. */
export interface Inside {
  readonly size: number;
  readonly below: number;
}

export type Reduction = "sum" | "max" | "min";

/**
 * What is reduced, of a space [outer, length, inner]: the middle axis, so that rows are places that lie `inner` apart. Place
 * [o, q, r] is the q-th of row o inner + r.
 */
export interface Rows {
  readonly outer: number;
  /** Places in a row. */
  readonly length: number;
  readonly inner: number;
  /** A row is reduced in so many parts, each to a value of its own: its outputs are [rows, parts]. */
  readonly parts: number;
}

export const rowCount = ({ outer, inner }: Rows): number => outer * inner;

/** A step whose values are written: one for each place, or for each row (and part) if it reduces. */
export interface Output extends Value {
  readonly name: string;
  readonly step: number;
}

export interface Kernel {
  readonly count: number;
  readonly rows: Rows | undefined;
  /** Names of the values read. */
  readonly inputs: readonly string[];
  readonly steps: readonly Step[];
  readonly outputs: readonly Output[];
}

/** Kernels that are launched as one: none needs another. */
export interface Launch {
  readonly type: string;
  readonly kernels: readonly Kernel[];
  /** Of all kernels, each once. */
  readonly inputs: readonly string[];
  readonly outputs: readonly Output[];
}

/** How many reductions a step waits for, one after the other: the times that a row was gone through before. */
export function phasesOf({ steps }: Kernel): readonly number[] {
  const phases: number[] = [];
  for (const step of steps) {
    const args = step.kind === "apply" ? step.args : step.kind === "reduce" ? [step.of] : [];
    phases.push(Math.max(0, ...args.map((i) => phases[i]! + (steps[i]!.kind === "reduce" ? 1 : 0))));
  }
  return phases;
}

/** The steps that others need of their place, those included, in order; what is reduced is not gone into. */
export function neededBy({ steps }: Kernel, wanted: readonly number[]): readonly number[] {
  const needed = new Set<number>();
  const need = (i: number) => {
    const step = steps[i]!;
    if (needed.has(i) || step.kind === "reduce") return;
    needed.add(i);
    if (step.kind === "apply") step.args.forEach(need);
  };
  wanted.forEach(need);
  return [...needed].sort((a, b) => a - b);
}

/** Whether an index is the place itself. */
export function isPlace({ offset, terms: [term, ...more] }: Index, count: number): boolean {
  if (offset !== 0 || more.length > 0) return false;
  return term ? term.every === 1 && term.stride === 1 && term.size === count : count === 1;
}

/** Collects the steps of a kernel, each once. */
export class Body {
  readonly steps: Step[] = [];
  readonly inputs: string[] = [];
  private readonly known = new Map<string, number>();

  constant(value: number, dtype: DType = "float32"): number {
    return this.add({ kind: "constant", value, dtype });
  }

  read(name: string, index: Index, dtype: DType, inside?: Inside): number {
    let input = this.inputs.indexOf(name);
    if (input < 0) input = this.inputs.push(name) - 1;
    return this.add({ kind: "read", input, index, dtype, ...(inside && { inside }) });
  }

  apply(op: string, args: readonly number[], dtype: DType = "float32", settings: readonly number[] = []) {
    return this.add({ kind: "apply", op, args, settings, dtype });
  }

  reduce(how: Reduction, of: number, scale = 1): number {
    return this.add({ kind: "reduce", how, of, scale, dtype: "float32" });
  }

  private add(step: Step): number {
    const key = JSON.stringify(step, (_, value) =>
      typeof value === "number" && !Number.isSafeInteger(value) ? `${value}` : value,
    );
    const known = this.known.get(key);
    if (known !== undefined) return known;
    this.known.set(key, this.steps.length);
    return this.steps.push(step) - 1;
  }
}
