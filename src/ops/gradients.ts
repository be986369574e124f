/** Reverse-mode differentiation: one walk from the loss back, appending each operator's rule as ordinary nodes. */
import { sameShape, showShape } from "../graph/dims.ts";
import { reach } from "../graph/model.ts";
import { apply, inScope, type Node, scalar, type Tensor } from "../graph/tensor.ts";
import { add } from "./elementwise.ts";
import { later, transpose, zerosLike } from "./movement.ts";
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
  const collect = (input: Tensor, part: Tensor): Tensor => {
    const whole = sumTo(part, input.shape);
    if (!sameShape(whole.shape, input.shape)) {
      throw new Error(`gradient ${showShape(whole.shape)} for a tensor ${showShape(input.shape)}`);
    }
    const before = found.get(input);
    found.set(input, before ? sum(before, whole) : whole);
    return whole;
  };
  const again = remaker();
  const shared = new Map<string, Tensor>();
  const once = (key: string, make: () => Tensor) => {
    const made = shared.get(key) ?? make();
    shared.set(key, made);
    return made;
  };

  /** Collects what the rule of a node gives by those of its inputs, made once `first` is; those by what all share. */
  const visit = (node: Node, by: (input: Tensor) => boolean, first?: Tensor): Tensor[] => {
    const inputs = node.inputs as readonly Tensor[];
    const grads = node.outputs.map((y) => found.get(y) ?? null);
    const wants = (i: number) => inputs[i] !== undefined && wanted.has(inputs[i]) && by(inputs[i]);
    if ("none" in node.op.gradient || grads.every((g) => g === null) || !inputs.some((_, i) => wants(i)))
      return [];
    const rule = node.op.gradient;
    return inScope("", () =>
      inScope(node.scope ? `${GRADIENT_SCOPE}.${node.scope}` : GRADIENT_SCOPE, () => {
        const parts = rule({
          inputs: inputs.map((t) => t && again(t)),
          outputs: node.outputs.map(again),
          grads,
          grad: grads[0] ?? zerosLike(node.outputs[0]!),
          attributes: node.attributes,
          wants,
          once,
        });
        return parts.flatMap((part, i) => {
          if (!part || !wants(i)) return [];
          const whole = collect(inputs[i]!, first ? onceMade(first, part) : part);
          return isShared(inputs[i]!) ? [whole] : [];
        });
      }),
    );
  };

  const waiting = new Map<Node, Node[]>();
  const inPieces = kernelsOfPieces(nodes);
  const ofParameters = madeOfParameters(nodes);
  const ofBatch = nodes.toReversed().filter((node) => !ofParameters.has(node));
  for (const node of ofBatch) {
    const meeting = inPieces.has(kernelOf(node)) ? meetingOf(node, wanted) : undefined;
    const parts = visit(node, meeting ? (input) => !isShared(input) : () => true);
    if (meeting) waiting.set(meeting, [...(waiting.get(meeting) ?? []), node]);
    const first = parts.findLast(({ shape }) => shape.length > 0);
    for (const before of waiting.get(node) ?? []) visit(before, isShared, first);
  }
  for (const node of nodes.toReversed()) if (ofParameters.has(node)) visit(node, () => true);
  return by.map((t) => found.get(t) ?? zerosLike(t));
}

/** Whether all of a batch have it: what varies with the batch has a size that does. */
const isShared = (t: Tensor): boolean => t.shape.every((size) => typeof size === "number");

/** Nodes that no image goes through. They come last, once all that is made of them is known. */
function madeOfParameters(nodes: readonly Node[]): ReadonlySet<Node> {
  const made = new Set<Node>();
  for (const node of nodes) {
    const from = (t: Tensor | null) =>
      t === null || (t.source.kind === "node" ? made.has(t.source) : isShared(t));
    if (node.inputs.every(from)) made.add(node);
  }
  return made;
}

/** Of a node that is worth a wait: what all of a batch share, before it was turned or reshaped for this piece. */
function kernelOf({ op, inputs: [, kernel] }: Node): Tensor | undefined {
  if (!kernel || !isShared(kernel) || (op.type !== "Conv" && op.type !== "MatMul")) return undefined;
  let origin = kernel;
  while (origin.source.kind === "node" && ["Transpose", "Reshape"].includes(origin.source.op.type))
    origin = origin.source.inputs[0]!;
  return origin;
}

/** Those that several nodes take, each for a piece of the batch. */
function kernelsOfPieces(nodes: readonly Node[]): ReadonlySet<Tensor | undefined> {
  const [once, often] = [new Set<Tensor>(), new Set<Tensor>()];
  for (const kernel of nodes.map(kernelOf)) if (kernel) (once.has(kernel) ? often : once).add(kernel);
  return often;
}

/**
 * Where the gradient by the input of a node with a kernel is next summed over the batch. The gradient by the kernel waits
 * for that: pieces of the batch then go on to there one by one, and what both gradients read is still in the processor's
 * cache.
 */
function meetingOf({ inputs: [x, kernel] }: Node, wanted: ReadonlySet<Tensor>): Node | undefined {
  if (!wanted.has(kernel!)) return undefined;
  const leading = (all: readonly (Tensor | null)[]) => all.filter((t) => t !== null && wanted.has(t));
  let next = leading([x!])[0];
  while (next?.source.kind === "node" && !isShared(next)) {
    const above = leading(next.source.inputs) as Tensor[];
    if (above.some(isShared)) return next.source;
    next = above[0];
  }
  return undefined;
}

/** A part of a gradient, made once another is; what would be transposed after its sum still is. */
function onceMade(first: Tensor, part: Tensor): Tensor {
  const { source } = part;
  if (source.kind !== "node" || source.op.type !== "Transpose") return later(part, first);
  return transpose(later(source.inputs[0]!, first), source.attributes.perm as readonly number[]);
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
