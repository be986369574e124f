/** Collects a graph's state as its layers are built. */
import { sameShape, showShape } from "../graph/dims.ts";
import { currentScope, input, inScope, ShapeError, type Tensor } from "../graph/tensor.ts";
import { add, greater, mul, sub, where } from "../ops/elementwise.ts";
import { stopGradient } from "../ops/movement.ts";
import type { Init, Role, Rows, ScalarEntry, Schedule, StateEntry } from "../spec.ts";

export interface State extends Omit<StateEntry, "next"> {
  /** Its value at the start of the step. */
  readonly tensor: Tensor;
  /** What the graph reads and the optimizer updates: the tensor, or its projection. */
  readonly value: Tensor;
  /** Its value after the step, once `update` gave it. */
  next: Tensor | undefined;
  /** Whether weight decay and trust ratios apply (LARS and AdamW leave out what has one axis). */
  readonly decay: boolean;
  readonly traits: Traits;
}

/** Training takes batch statistics and collects updates; evaluation reads running statistics. */
export type Mode = "training" | "evaluation";

/** Settings for what is built within `Scope.with`. */
export interface Traits {
  /**
   * Parameters are replaced by their moving averages, which are first updated with this share of the old value,
   * float32 []. No gradient passes. Buffers, such as running statistics, are separate ones and not averaged.
   */
  readonly average?: Tensor;
  /** Batch normalisation splits the batch into this many parts, each with statistics of its own. */
  readonly splits?: number;
  /** The learning rate of parameters stays at its peak. */
  readonly constantRate?: boolean;
  /** Parameters have a learning rate of their own: the scalar "lr.NAME", whose peak is `times` that of the others. */
  readonly ownRate?: { readonly name: string; readonly times: number };
  /**
   * By a parameter's name, what its learning rate is multiplied with. Where it is 0 the parameter is not trained, and batch
   * normalisation takes running statistics, which stay as they are.
   */
  readonly rate?: (name: string) => number;
  /** Parameters and their optimizer state keep their values while this is 0, float32 []. */
  readonly trains?: Tensor;
}

export interface ParamOptions {
  /** Whether weight decay applies. @default if it has more axes than one */
  readonly decay?: boolean;
  /** Applied before each step, outside of the gradient: the graph and the optimizer see the projected value. */
  readonly project?: (x: Tensor) => Tensor;
}

interface Kept {
  readonly init: Init;
  readonly decay?: boolean;
  readonly project?: ((x: Tensor) => Tensor) | undefined;
  readonly rows?: Rows;
  readonly traits?: Traits;
}

/**
 * Collects state by name. Names follow the name scope: `param("weight", ...)` in the scope "encoder.conv1" is
 * "encoder.conv1.weight". A name asked for twice is the same tensor, so a layer built twice shares its weights.
 */
export class Scope {
  readonly mode: Mode;
  private readonly states = new Map<string, State>();
  private readonly fed = new Map<string, ScalarEntry & { tensor: Tensor }>();
  private readonly others = new Map<string, Tensor>();
  private present: Traits = {};

  constructor(mode: Mode) {
    this.mode = mode;
  }

  /** Runs `body` in the name scope `name`, within the present one. */
  in<T>(name: string, body: () => T): T {
    return inScope(name, body);
  }

  /** Runs `body` with these traits added to the present ones. */
  with<T>(traits: Traits, body: () => T): T {
    const outer = this.present;
    this.present = { ...outer, ...traits };
    try {
      return body();
    } finally {
      this.present = outer;
    }
  }

  get traits(): Traits {
    return this.present;
  }

  /** A trained tensor, or its moving average where the traits say so. */
  param(name: string, shape: readonly number[], init: Init, options: ParamOptions = {}): Tensor {
    const { decay = shape.length > 1, project } = options;
    const { average, ...traits } = this.present;
    const own = this.state(pathOf(name), "param", shape, { init, decay, project, traits });
    return average === undefined ? own.value : this.averageOf(own, average, project);
  }

  /** A tensor that is kept but not trained: a running mean, a queue. */
  buffer(name: string, shape: readonly number[], init: Init): Tensor {
    const path = this.present.average ? averageName(pathOf(name)) : pathOf(name);
    return this.state(path, "buffer", shape, { init }).tensor;
  }

  /**
   * A memory bank with a row for each image: the rows of the batch's images [n, ...shape], to be updated, and `count`
   * others [m, ...shape].
   */
  rows(
    name: string,
    shape: readonly number[],
    init: Init,
    { of, count }: { readonly of: Tensor; readonly count: number },
  ): { readonly own: Tensor; readonly others: Tensor } {
    const path = pathOf(name);
    const rows = { others: `${path}.others`, count };
    const own = this.state(path, "buffer", shape, { init, rows }, [of.shape[0]!, ...shape]).tensor;
    if (!this.others.has(path)) this.others.set(path, input(rows.others, "float32", ["m", ...shape]));
    return { own, others: this.others.get(path)! };
  }

  /** State that an optimizer keeps for a parameter, such as momentum. */
  slot(of: State, name: string): Tensor {
    const { traits } = of;
    const kept = { init: { kind: "constant", value: 0 }, traits } as const;
    return this.state(`${name}.${of.name}`, "optimizer", of.shape, kept).tensor;
  }

  /** State of the optimizer that is no parameter's, float32 []. */
  counter(name: string, value: number): Tensor {
    return this.state(pathOf(name), "optimizer", [], { init: { kind: "constant", value } }).tensor;
  }

  /** The value of a state tensor after the step: exactly once for each in training. */
  update(tensor: Tensor, next: Tensor): void {
    const state = this.all.find((s) => s.tensor === tensor);
    if (!state) throw new Error(`update of a tensor that is no state of ${currentScope() || "the graph"}`);
    if (state.next) throw new Error(`state ${state.name} is updated twice`);
    if (!sameShape(next.shape, tensor.shape)) {
      throw new ShapeError(
        `state ${state.name}: expected ${showShape(tensor.shape)}, found ${showShape(next.shape)}`,
      );
    }
    const { trains } = state.traits;
    state.next = trains ? where(greater(trains, 0), next, tensor) : next;
  }

  /** Like `update`, but from the value that earlier calls gave it: for a layer that is built several times. */
  advance(tensor: Tensor, next: (latest: Tensor) => Tensor): void {
    const state = this.all.find((s) => s.tensor === tensor);
    const latest = state?.next ?? tensor;
    if (state) state.next = undefined;
    this.update(tensor, next(latest));
  }

  /**
   * Keeps a moving average of each parameter and buffer that was built so far, with this share of the old value, float32 [].
   * Nothing is computed from it: it is what evaluation reads where the traits say so.
   */
  keepAverages(decay: Tensor): void {
    for (const { name, role, shape, tensor } of this.all) {
      if (role !== "param" && role !== "buffer") continue;
      const init = { kind: "copy", of: name } as const;
      const average = this.state(averageName(name), "average", shape, { init }).tensor; // as the state
      this.update(average, add(mul(average, decay), mul(tensor, sub(1, decay))));
    }
  }

  /** Has all state that was updated so far keep its value where the condition (bool []) does not hold. */
  restUnless(condition: Tensor): void {
    for (const state of this.all) if (state.next) state.next = where(condition, state.next, state.tensor);
  }

  /** A number that is fed each step, float32 []. */
  scalar(name: string, schedule: Schedule, batchScaling: ScalarEntry["batchScaling"] = "none"): Tensor {
    const before = this.fed.get(name);
    if (before) return before.tensor;
    const tensor = input(name, "float32", []);
    this.fed.set(name, { name, schedule, batchScaling, tensor });
    return tensor;
  }

  get all(): readonly State[] {
    return [...this.states.values()];
  }

  /** Those that are trained. */
  get params(): readonly State[] {
    return this.all.filter(({ role, name, traits }) => role === "param" && traits.rate?.(name) !== 0);
  }

  /** Whether what is built here, of parameters of this name, is not trained. */
  isFrozen(name: string): boolean {
    return this.present.rate?.(pathOf(name)) === 0;
  }

  get scalars(): readonly (ScalarEntry & { readonly tensor: Tensor })[] {
    return [...this.fed.values()];
  }

  /** The inputs that are state: each tensor, and the other rows of the banks. */
  get inputs(): readonly Tensor[] {
    return [...this.all.map((s) => s.tensor), ...this.others.values()];
  }

  /** The average of a parameter, updated first; evaluation takes it as it is. */
  private averageOf(own: State, decay: Tensor, project?: (x: Tensor) => Tensor): Tensor {
    const init = { kind: "copy", of: own.name } as const;
    const state = this.state(averageName(own.name), "average", own.shape, { init });
    if (this.mode === "training" && !state.next) {
      const recent = stopGradient(own.value);
      this.update(state.tensor, add(mul(state.tensor, decay), mul(recent, sub(1, decay))));
    }
    const average = state.next ?? state.tensor;
    return project ? project(average) : average;
  }

  private state(
    path: string,
    role: Role,
    shape: readonly number[],
    { init, decay = false, project, rows, traits = {} }: Kept,
    fedShape: Tensor["shape"] = shape,
  ): State {
    const before = this.states.get(path);
    if (before) {
      if (sameShape(before.shape, shape) && before.role === role) return before;
      throw new ShapeError(`state ${path}: expected ${showShape(before.shape)}, found ${showShape(shape)}`);
    }
    const tensor = input(path, "float32", fedShape);
    const value = project ? stopGradient(project(tensor)) : tensor;
    const state: State = {
      name: path,
      role,
      dtype: "float32",
      shape,
      init,
      ...(rows && { rows }),
      tensor,
      value,
      next: undefined,
      decay,
      traits,
    };
    this.states.set(path, state);
    return state;
  }
}

const pathOf = (name: string): string => (currentScope() ? `${currentScope()}.${name}` : name);
const averageName = (path: string): string => `average.${path}`;
