/** What values are views of. */
import type { NodeProto } from "onnx-buf";
import type { Surroundings } from "./member.ts";
import { type Sized, settingsOf } from "./sizes.ts";
import { expandedView, partOf, reshapedView, type View, whole } from "./views.ts";

const RESHAPES = new Set(["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"]);

export function surroundingsOf(sized: Sized): Surroundings {
  const { nodes, values, inputs } = sized;
  const views = new Map<string, View>();
  const viewOf = (name: string): View | undefined => {
    const value = values.get(name);
    return views.get(name) ?? (value && whole(name, value.shape));
  };
  for (const node of nodes) {
    const from = viewOf(node.input[0]!);
    if (!from) continue;
    // What the step reads of its state and inputs may be overwritten once the node has run.
    if (inputs.has(from.base) && node.opType !== "Reshape" && node.opType !== "Identity") continue;
    node.output.forEach((name, i) => {
      const value = values.get(name);
      const view = value && viewThrough(node, i, from, value.shape, sized);
      if (view) views.set(name, view);
    });
  }
  return { ...sized, viewOf };
}

/** How the i-th output of a node is a view of its first input; undefined where it is none. */
function viewThrough(
  node: NodeProto,
  i: number,
  from: View,
  shape: readonly number[],
  { values, known }: Sized,
): View | undefined {
  if (RESHAPES.has(node.opType)) return reshapedView(from, shape);
  if (node.opType === "Expand")
    return shape.length >= from.shape.length ? expandedView(from, shape) : undefined;
  if (node.opType === "Split") {
    const given = (settingsOf(node).axis as number | undefined) ?? 0;
    const axis = given < 0 ? given + shape.length : given;
    const sizes = node.output.map((name) => values.get(name)?.shape[axis]);
    const before = sizes.slice(0, i);
    if (before.some((size) => size === undefined)) return undefined;
    const start = before.reduce<number>((sum, size) => sum + size!, 0);
    return partOf(from, axis, start, shape[axis]!);
  }
  if (node.opType !== "Slice") return undefined;
  const [starts, , axes, steps] = node.input.slice(1).map((name) => known.get(name)?.data);
  if (!starts || (node.input[4] && !steps?.every((step) => step === 1))) return undefined;
  if (node.input[3] && !axes) return undefined;
  return starts.reduce<View>((view, start, at) => {
    const given = axes?.[at] ?? at;
    const axis = given < 0 ? given + shape.length : given;
    const size = view.shape[axis]!;
    const first = Math.min(start < 0 ? Math.max(start + size, 0) : start, size);
    return partOf(view, axis, first, shape[axis]!);
  }, from);
}
