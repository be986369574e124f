/**
 * What a graph is built for. Operators and layers have one plain form, which every runtime takes; where a backend computes
 * one faster in another form, its target names that form. `lowering/` holds the targets.
 */
import type { Attributes, Node, RuleContext, Tensor } from "../graph/tensor.ts";
import type { TargetName } from "../spec.ts";
import type { ConvOptions, Window } from "./conv.ts";

export type Once = RuleContext["once"];

export interface Target {
  readonly name: TargetName;
  /** The chunks in which a step goes through its batch (see `pieces.ts`). */
  readonly pieces: number;
  /** Whether the views of an image go through the encoder one after the other, rather than as one batch. */
  readonly viewByView: boolean;
  /** Whether the runtime is to learn sizes late (see `buildModel`). */
  readonly late: boolean;
  /** Whether the shapes of all values are stated, for the code that fuses nodes. */
  readonly stated: boolean;
  /** Whether updates of large parameters wait for what reads these, so that they are written in place (see `settled`). */
  readonly settles: boolean;
  /** A convolution in training, x [n, c, h, w] whole or in pieces; undefined where the plain form is as fast. */
  readonly conv?: (x: Tensor, w: Tensor, options: ConvOptions) => Tensor | undefined;
  /** The gradient of a convolution with respect to x: dy [n, out, h', w'] -> as x. */
  readonly inputGradient?: (
    dy: Tensor,
    x: Tensor,
    w: Tensor,
    window: Window,
    once: Once,
  ) => Tensor | undefined;
  /** And with respect to w: dy [n, out, h', w'] -> as w. */
  readonly weightGradient?: (dy: Tensor, x: Tensor, w: Tensor, window: Window, once: Once) => Tensor;
  /** Max pooling of x [n, c, h, w], with the attributes of ONNX's MaxPool. */
  readonly maxPool?: (x: Tensor, attributes: Attributes) => Tensor;
  /** a x + b for each channel of x [n, c, ...], a and b [c]. */
  readonly affine?: (x: Tensor, a: Tensor, b: Tensor | undefined) => Tensor;
  /** How many tokens a transformer's `count` are padded to. @default none is added */
  readonly tokens?: (count: number) => number;
  /** log(softmax(x)) along an axis. */
  readonly logSoftmax?: (x: Tensor, axis: number) => Tensor;
  /** The nodes whose gradient with respect to a shared kernel waits, each with the node that it waits for. */
  readonly waits?: (
    nodes: readonly Node[],
    wanted: ReadonlySet<Tensor>,
  ) => ReadonlyMap<Node, Node | undefined>;
}

/** Plain forms alone. */
export const portable: Target = {
  name: "portable",
  pieces: 1,
  viewByView: false,
  late: false,
  stated: false,
  settles: false,
};

let current = portable;

/** What the graph that is being built is for. */
export const target = (): Target => current;

/** Runs `build`, whose operators take the target's forms. */
export function builtFor<T>(given: Target, build: () => T): T {
  const outer = current;
  current = given;
  try {
    return build();
  } finally {
    current = outer;
  }
}
