/** A frozen encoder as it runs fastest on many images at once. The file keeps to plain convolutions. */
import { isDeepStrictEqual } from "node:util";
import type { GraphProto, NodeProto } from "onnx-buf";
import { attributesFrom, buildModel, decodeModel, encodeModel, shapeFrom } from "../graph/model.ts";
import { type Attributes, input, type Tensor } from "../graph/tensor.ts";
import { add } from "../ops/elementwise.ts";
import { reshape } from "../ops/movement.ts";
import { winogradConv } from "../ops/winograd.ts";
import type { Shape } from "../spec.ts";
import { sizesOf } from "./constants.ts";

/** Images from which on it is faster. Of a few, kernels at their points take the time: four times the values. */
export const MANY = 16;

/** What minimal filtering computes. */
const PLAIN: Attributes = {
  kernel_shape: [3, 3],
  strides: [1, 1],
  pads: [1, 1, 1, 1],
  dilations: [1, 1],
  group: 1,
};

/**
 * Whether minimal filtering of a map is faster, measured: more depth is wanted than in training, whose gradients gain as
 * well, for a bias, a sum and ReLU are done within the runtime's convolution and are passes of their own after this.
 */
const pays = (channels: number, size: number) => channels >= Math.max(128, 4 * size);

/**
 * The bytes of a frozen encoder with its deep convolutions by minimal filtering: the same features but for rounding.
 * Undefined if it has none that gain, or does not tell the sizes of its maps.
 */
export function forMany(encoder: Uint8Array): Uint8Array | undefined {
  const model = decodeModel(encoder);
  const { graph } = model;
  if (!graph) return undefined;
  const shapes = new Map<string, Shape | undefined>([
    ...graph.valueInfo.map((info) => [info.name, shapeFrom(info)] as const),
    ...graph.initializer.map((tensor) => [tensor.name, sizesOf(tensor)] as const),
  ]);
  let changed = false;
  graph.node = graph.node.flatMap((node) => {
    const filtered = byFiltering(node, shapes);
    if (!filtered) return [node];
    changed = true;
    graph.initializer.push(...filtered.initializer);
    return filtered.node;
  });
  return changed ? encodeModel(model) : undefined;
}

/** What takes the place of a convolution, where that pays: nodes, and their constants. */
function byFiltering(
  node: NodeProto,
  shapes: ReadonlyMap<string, Shape | undefined>,
): GraphProto | undefined {
  const { opType, domain, attribute, input: from, output } = node;
  if (opType !== "Conv" || domain !== "" || !isDeepStrictEqual(attributesFrom(attribute), PLAIN))
    return undefined;
  const [xShape, wShape] = from.map((name) => shapes.get(name));
  const [, c, height, width] = xShape ?? [];
  const [out] = wShape ?? [];
  if (![c, height, width, out].every((size) => typeof size === "number")) return undefined;
  if (!pays(Math.min(c as number, out as number), Math.max(height as number, width as number)))
    return undefined;

  const [x, w, b] = [xShape, wShape, [out]].map((shape, i) => input("xwb"[i]!, "float32", shape as Shape));
  const plain = winogradConv(x!, w!); // [n, out, h, w]
  const y: Tensor = from[2] ? add(plain, reshape(b!, [1, out as number, 1, 1])) : plain; // [n, out, h, w]
  const { graph } = buildModel({ y }, { name: output[0]! });
  const given: Readonly<Record<string, string>> = {
    x: from[0]!,
    w: from[1]!,
    b: from[2] ?? "",
    y: output[0]!,
  };
  const named = (value: string) => given[value] ?? `${output[0]}/${value}`;
  for (const made of graph!.node) {
    made.name = named(made.name);
    made.input = made.input.map(named);
    made.output = made.output.map(named);
  }
  for (const tensor of graph!.initializer) tensor.name = named(tensor.name);
  return graph;
}
