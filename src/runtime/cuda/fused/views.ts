/** Values that are others seen in another shape: what reads one can read the other's memory. */
import type { Index } from "./ir.ts";

/** Axes of a value, each with how far apart its places lie in the memory of `base`; 0 where it is repeated. */
export interface View {
  readonly base: string;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

export const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** Strides of a tensor that lies in memory by itself. */
export const contiguous = (shape: readonly number[]): number[] =>
  shape.map((_, i) => count(shape.slice(i + 1)));

export const whole = (
  base: string,
  shape: readonly number[],
  strides: readonly number[] = contiguous(shape),
): View => ({ base, offset: 0, shape, strides });

interface Axis {
  size: number;
  stride: number;
}

/** The axes of a view, those joined that lie in memory like one; axes of one place are left out. */
function joined({ shape, strides }: Pick<View, "shape" | "strides">): Axis[] {
  const axes: Axis[] = [];
  shape.forEach((size, i) => {
    if (size === 1) return;
    const stride = strides[i]!;
    const before = axes.at(-1);
    if (before && before.stride === stride * size) {
      before.size *= size;
      before.stride = stride;
    } else axes.push({ size, stride });
  });
  return axes;
}

/** Undefined where the new axes do not lie evenly in memory. */
export function reshapedView(view: View, shape: readonly number[]): View | undefined {
  const axes = joined(view);
  const strides = shape.map(() => 0);
  for (let i = shape.length - 1; i >= 0; i--) {
    const size = shape[i]!;
    if (size === 1) continue;
    const axis = axes.at(-1);
    if (!axis || axis.size % size !== 0) return undefined;
    strides[i] = axis.stride;
    axis.stride *= size;
    axis.size /= size;
    if (axis.size === 1) axes.pop();
  }
  return axes.length === 0 ? { ...view, shape, strides } : undefined;
}

/** The view repeated along axes of size 1, and along new ones in front. */
export function expandedView(view: View, shape: readonly number[]): View {
  const front = shape.length - view.shape.length;
  const strides = shape.map((_, i) => {
    const own = i - front;
    return own < 0 || view.shape[own] === 1 ? 0 : view.strides[own]!;
  });
  return { ...view, shape, strides };
}

/** Places `start` to start + size of an axis. */
export const partOf = (view: View, axis: number, start: number, size: number): View => ({
  ...view,
  offset: view.offset + start * view.strides[axis]!,
  shape: view.shape.map((all, i) => (i === axis ? size : all)),
});

/** Where to read a view, by the place in its shape. */
export function indexOf(view: View): Index {
  let every = 1;
  const terms = joined(view)
    .toReversed()
    .map(({ size, stride }) => {
      const term = { every, size, stride };
      every *= size;
      return term;
    });
  return { offset: view.offset, terms: terms.filter(({ stride }) => stride !== 0) };
}
