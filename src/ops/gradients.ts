/** Reverse-mode differentiation: one walk from the loss back, which appends the nodes of each operator's gradient rule. */
import { elements, sameShape, showShape } from "../graph/dims.ts";
import { reach } from "../graph/model.ts";
import { once } from "../graph/once.ts";
import { apply, inScope, type Node, scalar, type Tensor } from "../graph/tensor.ts";
import { add } from "./elementwise.ts";
import { transpose, zerosLike } from "./movement.ts";
import { later } from "./order.ts";
import { sumTo } from "./reduce.ts";
import { target } from "./target.ts";

/** Name scope of the nodes that the walk appends. */
export const GRADIENT_SCOPE = "gradient";

/**
 * Gradients of a loss (float32, no axes) with respect to the tensors `by`, in their order; zeros where the loss does
 * not depend on one. `seed` is the gradient with respect to the loss itself, 1 by default; with a seed of its shape
 * the loss may have axes.
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
    if (before && apart.has(input)) once(others, input, () => []).push(whole);
    else found.set(input, before ? sum(before, whole) : whole);
    return whole;
  };
  const ofParameters = madeOfParameters(nodes);
  const apart = summedOnceSmall(ofParameters, by);
  const others = new Map<Tensor, Tensor[]>();
  const again = recomputer();
  const shared = new Map<string, Tensor>();

  /**
   * Collects what a node's rule gives with respect to some of its inputs, computed after `first`. Returns the
   * gradients with respect to inputs that the whole batch shares.
   */
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
          once: (key, make) => once(shared, key, make),
        });
        return parts.flatMap((part, i) => {
          if (!part || !wants(i)) return [];
          const whole = collect(inputs[i]!, first ? computedAfter(first, part) : part);
          return isShared(inputs[i]!) ? [whole] : [];
        });
      }),
    );
  };

  const nextSums = target().waits?.(nodes, wanted) ?? new Map<Node, Node | undefined>();
  const waiting = new Map<Node, Node[]>();
  for (const node of nodes.toReversed()) {
    if (ofParameters.has(node)) continue;
    const nextSum = nextSums.get(node);
    const parts = visit(node, (input) => !nextSum || !isShared(input));
    if (nextSum) once(waiting, nextSum, () => []).push(node);
    const first = parts.findLast(({ shape }) => shape.length > 0);
    for (const before of waiting.get(node) ?? []) visit(before, isShared, first);
  }
  for (const node of nodes.toReversed()) {
    if (!ofParameters.has(node)) continue;
    visit(node, () => true);
    for (const y of node.outputs)
      for (const part of others.get(y) ?? []) {
        found.set(y, part);
        visit(node, () => true);
      }
  }
  return by.map((t) => found.get(t) ?? zerosLike(t));
}

/** Nodes that depend on parameters alone. They come last, once all gradients with respect to their outputs are known. */
function madeOfParameters(nodes: readonly Node[]): ReadonlySet<Node> {
  const made = new Set<Node>();
  for (const node of nodes) {
    const from = (t: Tensor | null) =>
      t === null || (t.source.kind === "node" ? made.has(t.source) : isShared(t));
    if (node.inputs.every(from)) made.add(node);
  }
  return made;
}

/** From so many values (16 MB) on a gradient is large. */
const LARGE = 2 ** 22;

/**
 * Large tensors that are computed from a smaller parameter, such as kernels in the Winograd domain. Each of their
 * gradients goes on to the parameter before they are summed, so that one of them is held at a time.
 */
function summedOnceSmall(ofParameters: ReadonlySet<Node>, by: readonly Tensor[]): ReadonlySet<Tensor> {
  const apart = new Set<Tensor>();
  for (const { op, inputs, outputs } of ofParameters) {
    const [y] = outputs;
    const values = elements(y!.shape) as number;
    if (outputs.length > 1 || values < LARGE || by.includes(y!)) continue;
    const grows = inputs.every((t) => !t || (elements(t.shape) as number) < values);
    if (grows || (op.type === "Reshape" && apart.has(inputs[0]!))) apart.add(y!);
  }
  return apart;
}

/**
 * a + b. Two gradients that were transposed alike, as those of a kernel from several chunks are, or summed image by
 * image, are added before that.
 */
function sum(a: Tensor, b: Tensor): Tensor {
  const [p, q] = [a.source, b.source];
  if (p.kind !== "node" || q.kind !== "node" || !addsBefore(p) || !isAlike(p, q)) return add(a, b);
  const [x, ...settings] = p.inputs;
  return apply(p.op, [add(x!, q.inputs[0]!), ...settings], p.attributes)[0]!;
}

const addsBefore = ({ op, inputs: [x] }: Node): boolean =>
  op.type === "Transpose" ||
  (op.type === "ReduceSum" && x!.source.kind === "node" && x!.source.op.type === "ReduceSum");

/** Whether two nodes have the same operator, settings and shapes. */
const isAlike = (p: Node, q: Node): boolean =>
  p.op === q.op &&
  sameShape(p.inputs[0]!.shape, q.inputs[0]!.shape) &&
  JSON.stringify(p.attributes) === JSON.stringify(q.attributes) &&
  `${p.inputs.slice(1).map(identityOf)}` === `${q.inputs.slice(1).map(identityOf)}`;

/**
 * Gives the recomputed form of a transient tensor, the same one each time; any other tensor is returned as it is.
 * Tensors that are computed alike share one, such as the transformed kernels of each pass through an encoder.
 */
function recomputer(): (t: Tensor) => Tensor {
  const made = new Map<Tensor, Tensor>();
  const alike = new Map<string, readonly Tensor[]>();
  const isTransient = ({ source }: Tensor): boolean =>
    source.kind === "node" &&
    // A reshape of it would keep it in memory as well.
    (source.transient || (source.op.type === "Reshape" && isTransient(source.inputs[0]!)));
  const again = (t: Tensor): Tensor => {
    const { source } = t;
    if (source.kind !== "node" || !isTransient(t)) return t;
    if (!made.has(t)) {
      const { op, attributes } = source;
      const inputs = source.inputs.map((x) => x && again(x));
      const key = [op.name, JSON.stringify(attributes), ...inputs.map(identityOf)].join(" ");
      const outputs = once(alike, key, () => apply(op, inputs, attributes));
      outputs.forEach((output, i) => {
        made.set(source.outputs[i]!, output);
      });
    }
    return made.get(t)!;
  };
  return again;
}

/**
 * A key, the same for tensors that surely have the same value: the values of a small constant, such as sizes, else
 * the id.
 */
function identityOf(t: Tensor | null): string {
  if (!t) return "none";
  const { source, id } = t;
  return source.kind === "constant" && source.data.length <= 8
    ? `${t.dtype}[${t.shape}]${source.data}`
    : `${id}`;
}

/** Tensors that depend on one of `by` through operators with a gradient rule. */
function leadingTo(nodes: readonly Node[], by: readonly Tensor[]): ReadonlySet<Tensor> {
  const leading = new Set<Tensor>(by);
  for (const node of nodes) {
    if ("none" in node.op.gradient || !node.inputs.some((x) => x && leading.has(x))) continue;
    for (const y of node.outputs) if (y.dtype === "float32") leading.add(y);
  }
  return leading;
}

/** Whether the whole batch shares it, such as a parameter: what differs between images has a symbolic size. */
export const isShared = (t: Tensor): boolean => t.shape.every((size) => typeof size === "number");

/**
 * A part of a gradient, computed after another tensor. A transpose stays outermost, so that parts can be summed
 * before it.
 */
function computedAfter(first: Tensor, part: Tensor): Tensor {
  const { source } = part;
  if (source.kind !== "node" || source.op.type !== "Transpose") return later(part, first);
  return transpose(later(source.inputs[0]!, first), source.attributes.perm as readonly number[]);
}
