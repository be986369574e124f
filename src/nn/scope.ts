/** Where a graph's state is collected as its layers are built. */
import { sameShape, showShape } from "../graph/dims.ts";
import { currentScope, input, inScope, ShapeError, type Tensor } from "../graph/tensor.ts";
import type { Init, Role, ScalarEntry, Schedule, StateEntry } from "../spec.ts";

export interface State extends Omit<StateEntry, "next"> {
  /** Its value at the start of the step. */
  readonly tensor: Tensor;
  /** Its value after the step, once `update` gave it. */
  next: Tensor | undefined;
  /** Whether weight decay and trust ratios apply (LARS and AdamW leave out what has one axis). */
  readonly decay: boolean;
}

/** Training takes batch statistics and collects updates; evaluation reads running statistics. */
export type Mode = "training" | "evaluation";

/**
 * Collects state by name. Names follow the name scope: `param("weight", ...)` in the scope "encoder.conv1" is
 * "encoder.conv1.weight". A name asked for twice is the same tensor, so a layer built twice shares its weights.
 */
export class Scope {
  readonly mode: Mode;
  private readonly states = new Map<string, State>();
  private readonly fed = new Map<string, ScalarEntry & { tensor: Tensor }>();

  constructor(mode: Mode) {
    this.mode = mode;
  }

  /** Runs `body` in the name scope `name`, within the present one. */
  in<T>(name: string, body: () => T): T {
    return inScope(name, body);
  }

  /** A trained tensor. Weight decay leaves out tensors of one axis, unless told. */
  param(name: string, shape: readonly number[], init: Init, decay = shape.length > 1): Tensor {
    return this.state(name, "param", shape, init, decay);
  }

  /** A tensor that is kept but not trained: a running mean, a queue. */
  buffer(name: string, shape: readonly number[], init: Init): Tensor {
    return this.state(name, "buffer", shape, init, false);
  }

  /** What an optimizer keeps for a parameter. */
  slot(of: State, name: string): Tensor {
    return this.state(`${name}.${of.name}`, "optimizer", of.shape, { kind: "constant", value: 0 }, false);
  }

  /** The value of a state tensor after the step: exactly once for each in training. */
  update(tensor: Tensor, next: Tensor): void {
    const state = [...this.states.values()].find((s) => s.tensor === tensor);
    if (!state) throw new Error(`update of a tensor that is no state of ${currentScope() || "the graph"}`);
    if (state.next) throw new Error(`state ${state.name} is updated twice`);
    if (!sameShape(next.shape, state.shape)) {
      throw new ShapeError(
        `state ${state.name}: expected ${showShape(state.shape)}, found ${showShape(next.shape)}`,
      );
    }
    state.next = next;
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

  get params(): readonly State[] {
    return this.all.filter((s) => s.role === "param");
  }

  get scalars(): readonly (ScalarEntry & { readonly tensor: Tensor })[] {
    return [...this.fed.values()];
  }

  private state(name: string, role: Role, shape: readonly number[], init: Init, decay: boolean): Tensor {
    const path = role === "optimizer" || !currentScope() ? name : `${currentScope()}.${name}`;
    const before = this.states.get(path);
    if (before) {
      if (sameShape(before.shape, shape) && before.role === role) return before.tensor;
      throw new ShapeError(`state ${path}: expected ${showShape(before.shape)}, found ${showShape(shape)}`);
    }
    const tensor = input(path, "float32", shape);
    this.states.set(path, {
      name: path,
      role,
      dtype: "float32",
      shape,
      init,
      tensor,
      next: undefined,
      decay,
    });
    return tensor;
  }
}
