/** Copies of values that lie in memory in another way than a node reads them. */
import { sameShape } from "../../../graph/dims.ts";
import { Body, type Kernel } from "./ir.ts";
import type { Surroundings } from "./member.ts";
import { isSame, type Storage } from "./storage.ts";
import { count, indexOf, type View } from "./views.ts";

/** What a node reads in place of a value, and what this is made of. */
export interface Source {
  readonly name: string;
  readonly from: string;
  /** What makes it, if it is a copy. */
  readonly kernel?: Kernel;
  /** Its shape, if it is the same memory seen in another. */
  readonly shape?: readonly number[];
}

/** The value itself, or what it is a view of, where that lies as it is wanted; else a copy. */
export function sourceOf(name: string, wanted: Storage, { values, viewOf, storageOf }: Surroundings): Source {
  const { dtype, shape } = values.get(name)!;
  const view = viewOf(name)!;
  const stored = storageOf(view.base);
  const isWhole = view.offset === 0 && count(stored.shape) === count(wanted.shape);
  const copy = [name, wanted.dtype, wanted.strides.join("-")].join("/");
  if (isWhole && isSame(shape, { ...stored, shape: wanted.shape, strides: view.strides }, wanted))
    return sameShape(stored.shape, wanted.shape)
      ? { name: view.base, from: view.base }
      : { name: copy, from: view.base, shape: wanted.shape };
  const order = shape.map((_, axis) => axis).sort((a, b) => wanted.strides[b]! - wanted.strides[a]!);
  const room = order.map((axis) => shape[axis]!);
  // Where there is room for more, it is in the last axis.
  const [have, most] = [room.at(-1)!, wanted.shape.at(-1)!];
  const inside = count(wanted.shape) === count(shape) ? undefined : { size: most, below: have };
  const read: View = {
    ...view,
    shape: inside ? wanted.shape : room,
    strides: order.map((axis) => view.strides[axis]!),
  };
  const body = new Body();
  const step = body.read(view.base, indexOf(read), dtype, inside);
  const output = { name: copy, step, dtype: wanted.dtype, shape: wanted.shape };
  const kernel = {
    count: count(wanted.shape),
    rows: undefined,
    inputs: body.inputs,
    steps: body.steps,
    outputs: [output],
  };
  return { name: copy, from: view.base, kernel };
}
