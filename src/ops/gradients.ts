/** Reverse-mode differentiation: one walk from the loss back, appending each operator's rule as ordinary nodes. */
import { sameShape, showShape } from "../graph/dims.ts";
import { reach } from "../graph/model.ts";
import { apply, inScope, type Node, scalar, type Tensor } from "../graph/tensor.ts";
import { add } from "./elementwise.ts";
import { transpose, zerosLike } from "./movement.ts";
import { sumTo } from "./reduce.ts";

/** Name scope of the nodes that the walk appends. */
export const GRADIENT_SCOPE = "gradient";

/**
 * Gradients of a loss (float32, no axes) by tensors, in their order; zeros where it does not depend on one.
 * `seed` is the gradient by the loss itself, 1 by default; with a seed of its shape the loss may have axes.
 */
export function gradients(loss: Tensor, by: readonly Tensor[], seed: Tensor = scalar(1)): readonly Tensor[] {
  if (!sameShape(loss.shape, seed.shape)) {
    throw new Error(
      `gradients: expected a loss of shape ${showShape(seed.shape)}, found ${showShape(loss.shape)}`,
    );
  }
  const nodes = reach([loss]).nodes;
  const wanted = leadingTo(nodes, by);
  const found = new Map<Tensor, Tensor>([[loss, seed]]);
  const collect = (input: Tensor, part: Tensor) => {
    const whole = sumTo(part, input.shape);
    if (!sameShape(whole.shape, input.shape)) {
      throw new Error(`gradient ${showShape(whole.shape)} for a tensor ${showShape(input.shape)}`);
    }
    const before = found.get(input);
    found.set(input, before ? sum(before, whole) : whole);
  };
  const again = remaker();
  const shared = new Map<string, Tensor>();
  const once = (key: string, make: () => Tensor) => {
    const made = shared.get(key) ?? make();
    shared.set(key, made);
    return made;
  };
  for (const node of nodes.reverse()) {
    const { gradient } = node.op;
    const grads = node.outputs.map((y) => found.get(y) ?? null);
    const reached = grads.some((g) => g !== null);
    if (!reached || "none" in gradient || !node.inputs.some((x) => x && wanted.has(x))) continue;
    inScope("", () =>
      inScope(node.scope ? `${GRADIENT_SCOPE}.${node.scope}` : GRADIENT_SCOPE, () => {
        const inputs = node.inputs as readonly Tensor[];
        const grad = grads[0] ?? zerosLike(node.outputs[0]!);
        const wants = (i: number) => inputs[i] !== undefined && wanted.has(inputs[i]);
        const parts = gradient({
          inputs: inputs.map((t) => t && again(t)),
          outputs: node.outputs.map(again),
          grads,
          grad,
          attributes: node.attributes,
          wants,
          once,
        });
        parts.forEach((part, i) => {
          if (part && wants(i)) collect(inputs[i]!, part);
        });
      }),
    );
  }
  return by.map((t) => found.get(t) ?? zerosLike(t));
}

/** a + b; if both are transposed alike, as many pieces' gradients of a kernel are, they are summed before. */
function sum(a: Tensor, b: Tensor): Tensor {
  const [p, q] = [a.source, b.source];
  const alike =
    p.kind === "node" &&
    q.kind === "node" &&
    p.op.type === "Transpose" &&
    q.op.type === "Transpose" &&
    `${p.attributes.perm}` === `${q.attributes.perm}`;
  return alike
    ? transpose(add(p.inputs[0]!, q.inputs[0]!), p.attributes.perm as readonly number[])
    : add(a, b);
}

/** From a transient tensor to another of the same value, the same one each time; any other tensor is its own. */
function remaker(): (t: Tensor) => Tensor {
  const made = new Map<Tensor, Tensor>();
  const isTransient = ({ source }: Tensor): boolean =>
    source.kind === "node" &&
    // In another shape it would be held all the same.
    (source.transient || (source.op.type === "Reshape" && isTransient(source.inputs[0]!)));
  const again = (t: Tensor): Tensor => {
    const { source } = t;
    if (source.kind !== "node" || !isTransient(t)) return t;
    if (!made.has(t)) {
      const outputs = apply(
        source.op,
        source.inputs.map((x) => x && again(x)),
        source.attributes,
      );
      outputs.forEach((output, i) => {
        made.set(source.outputs[i]!, output);
      });
    }
    return made.get(t)!;
  };
  return again;
}

/** Tensors on a path from one of `by`, through operators that have a rule. */
function leadingTo(nodes: readonly Node[], by: readonly Tensor[]): ReadonlySet<Tensor> {
  const leading = new Set<Tensor>(by);
  for (const node of nodes) {
    if ("none" in node.op.gradient || !node.inputs.some((x) => x && leading.has(x))) continue;
    for (const y of node.outputs) if (y.dtype === "float32") leading.add(y);
  }
  return leading;
}
