/** What values are views of, and how they lie in memory. */
import type { NodeProto } from "onnx-buf";
import { isElementwise } from "./elementwise.ts";
import type { Surroundings } from "./member.ts";
import { type Sized, settingsOf } from "./sizes.ts";
import {
  isSame,
  orderIn,
  type Placement,
  permuted,
  plainStorage,
  type Storage,
  storedIn,
} from "./storage.ts";
import { count, expandedView, partOf, reshapedView, type View, whole } from "./views.ts";

const RESHAPES = new Set(["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"]);

/**
 * Feature maps lie in memory as the convolutions have them that write or read them, and what is computed element by element
 * lies as the maps that it is computed from. Gradients with respect to kernels are read as they are: the state that they
 * update lies in order.
 */
export function surroundingsOf(
  sized: Sized,
  placements: ReadonlyMap<NodeProto, Placement>,
  maps: ReadonlySet<NodeProto>,
): Surroundings {
  const { nodes, values, inputs, outputs } = sized;
  const views = new Map<string, View>();
  const stored = new Map<string, Storage>();
  const orders = new Map<string, readonly number[]>();
  const store = (name: string, storage: Storage) => {
    const value = values.get(name)!;
    if (outputs.has(name) || isSame(value.shape, storage, plainStorage(value))) return;
    stored.set(name, storage);
    if (!isSame(value.shape, storage, { ...plainStorage(value), dtype: storage.dtype }))
      orders.set(name, orderIn(whole(name, value.shape, storage.strides))!);
  };
  const viewOf = (name: string): View | undefined => {
    const value = values.get(name);
    return views.get(name) ?? (value && whole(name, value.shape, stored.get(name)?.strides));
  };
  const inMaps = new Set<string>();
  const wanted = wantedBy(placements, sized);
  for (const node of nodes) {
    const [name] = node.output as [string];
    const placement = placements.get(node);
    if (placement) {
      store(name, placement.output);
      if (maps.has(node)) inMaps.add(name);
    } else if (isElementwise(node, sized)) {
      const storage = storageFrom(node, sized, viewOf, inMaps, stored) ?? wanted.get(name);
      if (storage) store(name, storage);
      if (storage?.strides.length === 4) inMaps.add(name);
    }
    const from = viewOf(node.input[0]!);
    if (!from || placement) continue;
    // What the step reads of its state and inputs may be overwritten once the node has run.
    if (inputs.has(from.base) && node.opType !== "Reshape" && node.opType !== "Identity") continue;
    node.output.forEach((name, i) => {
      const value = values.get(name);
      const view = value && viewThrough(node, i, from, value.shape, sized);
      if (view) views.set(name, view);
    });
  }
  return {
    ...sized,
    viewOf,
    storageOf: (name) => stored.get(name) ?? plainStorage(values.get(name)!),
    orderOf: (name) => orders.get(name),
  };
}

/** How nodes read values, where these may be written so: without zeros for more channels. */
function wantedBy(
  placements: ReadonlyMap<NodeProto, Placement>,
  { nodes, values }: Sized,
): ReadonlyMap<string, Storage> {
  const makers = new Map(nodes.map((node) => [node.output[0]!, node]));
  const found = new Map<string, Storage>();
  for (const [node, { inputs }] of placements)
    node.input.forEach((name, i) => {
      const { shape } = values.get(name)!;
      const wanted = inputs[i]!;
      if (count(wanted.shape) !== count(shape)) return;
      found.set(name, wanted);
      // What is only seen in another shape lies as it is in any.
      let maker = makers.get(name);
      if (!isSame(shape, wanted, { ...plainStorage({ shape, dtype: wanted.dtype }) })) return;
      while (maker && RESHAPES.has(maker.opType)) {
        const [base] = maker.input as [string];
        const value = values.get(base);
        if (!value) return;
        found.set(base, plainStorage({ ...value, dtype: wanted.dtype }));
        maker = makers.get(base);
      }
    });
  return found;
}

/** As the first of its inputs that is a map and has the size of the output. */
function storageFrom(
  { input, output: [name] }: NodeProto,
  { values }: Sized,
  viewOf: Surroundings["viewOf"],
  maps: ReadonlySet<string>,
  stored: ReadonlyMap<string, Storage>,
): Storage | undefined {
  const value = values.get(name!);
  if (!value) return undefined;
  for (const from of input) {
    const view = viewOf(from);
    if (!view || !maps.has(view.base) || view.shape.length > value.shape.length) continue;
    const order = orderIn(expandedView(view, value.shape));
    const dtype = value.dtype === "float32" ? (stored.get(view.base) ?? value).dtype : value.dtype;
    if (order) return storedIn(order, { ...value, dtype });
  }
  return undefined;
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
  if (node.opType === "Transpose") return permuted(from, settingsOf(node).perm as readonly number[]);
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
