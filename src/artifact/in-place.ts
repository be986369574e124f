/** Which state a step may write its next value over. */
import { reach, takenBy } from "../graph/model.ts";
import type { Node, Tensor } from "../graph/tensor.ts";

/**
 * The state tensors that are read for their next value only, or for what it needs: once it is written, none reads them.
 * Moments of optimizers and averages are; weights mostly not, for an input gradient may come after their update.
 *
 * @param next the next value of each state tensor
 * @param outputs all that the step puts out
 */
export function writableInPlace(
  next: ReadonlyMap<Tensor, Tensor>,
  outputs: readonly Tensor[],
): ReadonlySet<Tensor> {
  const { nodes } = reach(outputs);
  const readers = new Map<Tensor, Node[]>();
  for (const node of nodes)
    for (const tensor of takenBy(node)) {
      if (!tensor || tensor.source.kind === "constant") continue;
      const known = readers.get(tensor);
      if (known) known.push(node);
      else readers.set(tensor, [node]);
    }

  // Bit i: the next value of state tensor i needs it.
  const needed = new Map<Tensor, bigint>();
  const need = (tensor: Tensor, bits: bigint) => needed.set(tensor, (needed.get(tensor) ?? 0n) | bits);
  const needOf = ({ outputs }: Node) => outputs.reduce((bits, t) => bits | (needed.get(t) ?? 0n), 0n);
  [...next.values()].forEach((tensor, i) => {
    need(tensor, 1n << BigInt(i));
  });
  for (const node of nodes.toReversed()) {
    const bits = needOf(node);
    for (const tensor of takenBy(node)) if (tensor) need(tensor, bits);
  }

  const states = [...next.keys()];
  return new Set(
    states.filter((state, i) => {
      const maker = next.get(state)!.source;
      const done = (tensor: Tensor): boolean =>
        (readers.get(tensor) ?? []).every((reader) => {
          if (reader === maker) return ELEMENTWISE.has(reader.op.type) && sameShape(tensor, state);
          return (needOf(reader) >> BigInt(i)) & 1n && (!isView(reader) || reader.outputs.every(done));
        });
      return done(state);
    }),
  );
}

/** A value of the result is made of those at its place. */
const ELEMENTWISE = new Set(["Add", "Sub", "Mul", "Div"]);

const sameShape = (a: Tensor, b: Tensor): boolean => a.shape.join() === b.shape.join();

/** Whether the runtime may leave the node out: who reads its result then reads what it was given. */
const isView = ({ op: { type }, inputs }: Node): boolean =>
  ["Identity", "Reshape", "Transpose"].includes(type) ||
  (["Mul", "Div"].includes(type) && inputs.some((t) => t?.source.kind === "constant"));
