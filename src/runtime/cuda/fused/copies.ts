/** Copies of values that lie in memory in another way than a node reads them. */
import { Body, type Kernel } from "./ir.ts";
import type { Surroundings } from "./member.ts";
import { isSame, type Storage } from "./storage.ts";
import { count, indexOf, type View } from "./views.ts";

/** What a node reads in place of a value. */
export interface Source {
  readonly name: string;
  /** What makes it, if it is a copy. */
  readonly kernel?: Kernel;
}

/** The value itself, or what it is a view of, where that lies as it is wanted; else a copy. */
export function sourceOf(name: string, wanted: Storage, { values, viewOf, storageOf }: Surroundings): Source {
  const { dtype, shape } = values.get(name)!;
  const view = viewOf(name)!;
  const stored = storageOf(view.base);
  const isWhole = view.offset === 0 && count(stored.shape) === count(wanted.shape);
  if (isWhole && isSame(shape, { ...stored, strides: view.strides }, wanted)) return { name: view.base };
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
  const copy = [name, wanted.dtype, wanted.strides.join("-")].join("/");
  const output = { name: copy, step, dtype: wanted.dtype, shape: wanted.shape };
  const kernel = {
    count: count(wanted.shape),
    rows: undefined,
    inputs: body.inputs,
    steps: body.steps,
    outputs: [output],
  };
  return { name: copy, kernel };
}
