/** A frozen encoder in the form that is fastest for many images at once. The file keeps to plain convolutions. */
import { isDeepStrictEqual } from "node:util";
import { toBinary } from "@bufbuild/protobuf";
import { type GraphProto, type NodeProto, NodeProtoSchema, type TensorProto } from "onnx-buf";
import { changeNodes, type EncodedNode, type NewNode } from "../graph/edit.ts";
import { buildModel } from "../graph/model.ts";
import { type Attributes, input, type Tensor } from "../graph/tensor.ts";
import { winogradConv, winogradPays } from "../lowering/cpu/winograd.ts";
import { add } from "../ops/elementwise.ts";
import { reshape } from "../ops/movement.ts";
import type { Shape } from "../spec.ts";
import { sizesOf } from "./constants.ts";

/**
 * From so many images on it is faster. With fewer, transforming the kernels to the Winograd domain, to four times the
 * values, takes too long.
 */
export const MANY = 16;

/** The attributes of convolutions that Winograd convolution can replace. */
const PLAIN: Attributes = {
  kernel_shape: [3, 3],
  strides: [1, 1],
  pads: [1, 1, 1, 1],
  dilations: [1, 1],
  group: 1,
};

/**
 * Whether a feature map is deep enough, as measured. More is asked for than in training, where gradients gain as
 * well: the runtime's convolution fuses bias, sum and ReLU, which are passes of their own after a Winograd
 * convolution.
 */
const isDeep = (channels: number, size: number) => channels >= Math.max(128, 4 * size);

/**
 * The bytes of a frozen encoder with its deep convolutions as Winograd convolutions: the same features but for
 * rounding. Undefined if it has none that gain, or does not state the sizes of its feature maps.
 */
export function forMany(encoder: Uint8Array): Uint8Array | undefined {
  const constants: TensorProto[] = [];
  const changed = changeNodes(encoder, ({ nodes, initializers, shapes, attributesOf }) => {
    const kernels = new Map(initializers.map((tensor) => [tensor.name, sizesOf(tensor)]));
    const byWinograd = (node: EncodedNode): readonly (EncodedNode | NewNode)[] => {
      const { opType, domain, input: from } = node;
      const fits = opType === "Conv" && domain === "" && isDeepStrictEqual(attributesOf(node), PLAIN);
      const faster = fits && winogradGraph(node, shapes.get(from[0]!), kernels.get(from[1]!));
      if (!faster) return [node];
      constants.push(...faster.initializer);
      return faster.node.map(encoded);
    };
    return { nodes: nodes.flatMap(byWinograd), initializers: constants, shapes: new Map() };
  });
  return constants.length > 0 ? changed : undefined;
}

/** What replaces a convolution of x by w, where that is faster: nodes, and their constants. */
function winogradGraph(
  { input: from, output: [to] }: EncodedNode,
  xShape: Shape | undefined,
  wShape: Shape | undefined,
): GraphProto | undefined {
  const [, c, height, width] = xShape ?? [];
  const [out, depth] = wShape ?? [];
  if (c !== depth || ![c, height, width, out].every((size) => typeof size === "number")) return undefined;
  if (!isDeep(Math.min(c as number, out as number), Math.max(height as number, width as number)))
    return undefined;
  const [x, w, b] = [xShape, wShape, [out]].map((shape, i) => input("xwb"[i]!, "float32", shape as Shape));
  if (!winogradPays(x!, w!, { pad: 1 })) return undefined;

  const plain = winogradConv(x!, w!); // [n, out, h, w]
  const y: Tensor = from[2] ? add(plain, reshape(b!, [1, out as number, 1, 1])) : plain; // [n, out, h, w]
  const graph = buildModel({ y }, { name: to! }).graph!;
  const given: Readonly<Record<string, string>> = { x: from[0]!, w: from[1]!, b: from[2] ?? "", y: to! };
  const named = (value: string) => given[value] ?? `${to}/${value}`;
  for (const made of graph.node) {
    made.name = named(made.name);
    made.input = made.input.map(named);
    made.output = made.output.map(named);
  }
  for (const tensor of graph.initializer) tensor.name = named(tensor.name);
  return graph;
}

const encoded = (node: NodeProto): NewNode => ({
  name: node.name,
  input: node.input,
  output: node.output,
  rest: toBinary(NodeProtoSchema, { ...node, name: "", input: [], output: [] }),
});
