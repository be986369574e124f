/** Which state a step may update in place, and gradients ordered so that large parameters can be too. */
import { elements } from "../graph/dims.ts";
import { reach, takenBy } from "../graph/model.ts";
import type { Node, Tensor } from "../graph/tensor.ts";
import { after } from "../ops/order.ts";

/**
 * The state tensors that a step may overwrite with their next value: all that reads one is needed for that value, so
 * that nothing reads it later.
 *
 * @param next the next value of each state tensor
 * @param outputs all outputs of the step
 * @param rests whether all state may rest: its next value is then a choice between a new one and the old one
 */
export function writableInPlace(
  next: ReadonlyMap<Tensor, Tensor>,
  outputs: readonly Tensor[],
  { rests = false } = {},
): ReadonlySet<Tensor> {
  const makers = rests ? [...ELEMENTWISE, "Where"] : ELEMENTWISE;
  const { nodes } = reach(outputs);
  const readersOf = readersIn(nodes);
  const isNeeded = needsIn(nodes, [...next.values()]);
  const states = [...next.keys()];
  return new Set(
    states.filter((state, i) => {
      const maker = next.get(state)!.source;
      const done = (tensor: Tensor): boolean =>
        readersOf(tensor).every((reader) => {
          if (reader === maker) return makers.includes(reader.op.type) && sameShape(tensor, state);
          return isNeeded(reader, i) && (!isView(reader) || reader.outputs.every(done));
        });
      return done(state);
    }),
  );
}

/** Parameters of fewer values (256 KB) are not worth the nodes. */
const LEAST_VALUES = 2 ** 16;

/**
 * The gradients of large parameters, made to wait until everything else that reads the parameter is computed, so that
 * the next value may be written over it. Otherwise the gradient with respect to a layer's input, which takes the
 * weights as they were, may come after their update.
 *
 * @param outputs all outputs of the step besides next values of the parameters
 */
export function settled(
  params: readonly Tensor[],
  grads: readonly Tensor[],
  outputs: readonly Tensor[],
): readonly Tensor[] {
  const large = grads.filter((grad) => (elements(grad.shape) as number) >= LEAST_VALUES);
  if (large.length === 0) return grads;
  const { nodes } = reach([...outputs, ...grads]);
  const readersOf = readersIn(nodes);
  const isNeeded = needsIn(nodes, large);
  return grads.map((grad, i) => {
    const place = large.indexOf(grad);
    const others = (tensor: Tensor): Tensor[] =>
      readersOf(tensor).flatMap((reader) => {
        const made = reader.outputs[0]!;
        // What is waited for is held until then. A kernel in the Winograd domain is large: better to wait for what is
        // computed from it.
        const passes = isView(reader) || (isLarger(made, grad) && readersOf(made).length > 0);
        if (passes) return reader.outputs.flatMap(others);
        return isNeeded(reader, place) ? [] : made;
      });
    return place < 0 ? grad : after(grad, [...new Set(others(params[i]!))]);
  });
}

/** The nodes that read a tensor. */
function readersIn(nodes: readonly Node[]): (tensor: Tensor) => readonly Node[] {
  const readers = new Map<Tensor, Node[]>();
  for (const node of nodes)
    for (const tensor of takenBy(node)) {
      if (!tensor || tensor.source.kind === "constant") continue;
      const known = readers.get(tensor);
      if (known) known.push(node);
      else readers.set(tensor, [node]);
    }
  return (tensor) => readers.get(tensor) ?? [];
}

/** Whether the i-th of the wanted tensors depends on a node. */
function needsIn(nodes: readonly Node[], wanted: readonly Tensor[]): (node: Node, i: number) => boolean {
  const needed = new Map<Tensor, bigint>(); // bit i: by tensor i
  const need = (tensor: Tensor, bits: bigint) => needed.set(tensor, (needed.get(tensor) ?? 0n) | bits);
  const needOf = ({ outputs }: Node) => outputs.reduce((bits, t) => bits | (needed.get(t) ?? 0n), 0n);
  wanted.forEach((tensor, i) => {
    need(tensor, 1n << BigInt(i));
  });
  for (const node of nodes.toReversed()) {
    const bits = needOf(node);
    for (const tensor of takenBy(node)) if (tensor) need(tensor, bits);
  }
  return (node, i) => ((needOf(node) >> BigInt(i)) & 1n) === 1n;
}

/** Operators each of whose output values depends on the input values at the same index alone. */
const ELEMENTWISE: readonly string[] = ["Add", "Sub", "Mul", "Div"];

/** Whether a surely has more values than b. */
const isLarger = (a: Tensor, b: Tensor): boolean => {
  const [of, than] = [elements(a.shape), elements(b.shape)];
  return typeof of === "number" && typeof than === "number" && of > than;
};

const sameShape = (a: Tensor, b: Tensor): boolean => a.shape.join() === b.shape.join();

/** Whether the runtime may remove the node: what reads its output then reads its input. */
const isView = ({ op: { type }, inputs }: Node): boolean =>
  ["Identity", "Reshape", "Transpose"].includes(type) ||
  (["Mul", "Div"].includes(type) && inputs.some((t) => t?.source.kind === "constant"));
