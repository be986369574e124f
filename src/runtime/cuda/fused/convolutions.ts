/**
 * Convolutions and their gradients, which cuDNN computes. Its fast kernels want channels last in memory, and a multiple of
 * eight of them: images, which have three, are copied with zeros.
 */
import type { NodeProto } from "onnx-buf";
import { noteFrom, WEIGHT_GRADIENT } from "../../../graph/notes.ts";
import type { HalfType } from "../../../graph/protos.ts";
import type { Attributes } from "../../../graph/tensor.ts";
import type { Operator, Work } from "../kernel.ts";
import { live, type Sized, settingsOf } from "./sizes.ts";
import { lastStorage, type Placement } from "./storage.ts";

export type Gradient = Extract<Work, { kind: "cudnn" }>;

/** A node that cuDNN computes, with channels last. */
export interface Convolution extends Placement {
  readonly node: NodeProto;
  readonly work: Gradient;
}

/** Of channels that cuDNN's kernels for tensor cores take together. */
const TOGETHER = 8;
const TYPE = "Convolution";

/** The step with these nodes in cuDNN's order of inputs, without what only a gradient in another form needed. */
export function withConvolutions(
  of: Sized,
  half?: HalfType,
): {
  readonly sized: Sized;
  readonly convolutions: ReadonlyMap<NodeProto, Convolution>;
} {
  const found = new Map<NodeProto, Convolution>();
  const nodes = of.nodes.map((node) => {
    const convolution = of.outputs.has(node.output[0]!) ? undefined : convolutionOf(node, of, half);
    if (!convolution) return node;
    found.set(convolution.node, convolution);
    return convolution.node;
  });
  return { sized: { ...of, nodes: live(nodes, of.outputs) }, convolutions: found };
}

export const operatorOf = (type: string, { work, inputs, output }: Convolution): Operator => ({
  type,
  inputs,
  outputs: [output],
  work,
});

function convolutionOf(
  node: NodeProto,
  { values }: Sized,
  dtype: HalfType | "float32" = "float32",
): Convolution | undefined {
  const what = functionOf(node);
  if (!what) return undefined;
  const { inputs, attributes, name } = what;
  const [a, b] = inputs.map((input) => values.get(input));
  const made = values.get(node.output[0]!);
  if (!a || !b || !made || [a, b, made].some(({ dtype }) => dtype !== "float32")) return undefined;
  const [pads, strides, dilations] = ["pads", "strides", "dilations"].map((key) => attributes[key]) as [
    readonly number[],
    readonly [number, number],
    readonly [number, number],
  ];
  const [top, left, bottom, right] = pads as [number, number, number, number];
  const [kernel, map] = { forward: [b, made], "backward-data": [a, b], "backward-filter": [made, b] }[name];
  const [out] = kernel!.shape;
  if (attributes.group !== 1 || top !== bottom || left !== right) return undefined;
  if (out! % TOGETHER !== 0 || map!.shape[1] !== out) return undefined;
  const storage = ({ shape }: { readonly shape: readonly number[] }) => {
    const channels = Math.ceil(shape[1]! / TOGETHER) * TOGETHER;
    return lastStorage({ dtype, shape }, channels);
  };
  const output = storage(made);
  // What is computed for zeros that stand for channels would have to be left out again.
  if (name === "backward-data" && output.shape.at(-1) !== made.shape[1]) return undefined;
  return {
    node: { ...node, opType: TYPE, input: [...inputs], attribute: [], metadataProps: [] },
    work: { kind: "cudnn", function: name, pads: [top, left], strides, dilations },
    inputs: [storage(a), storage(b)],
    output,
  };
}

/** What a node computes, with inputs in cuDNN's order. */
function functionOf(node: NodeProto):
  | {
      readonly name: Gradient["function"];
      readonly inputs: readonly string[];
      readonly attributes: Attributes;
    }
  | undefined {
  const [x, w, bias] = node.input as [string, string, string | undefined];
  if (node.opType === "Conv" && !bias)
    return { name: "forward", inputs: [x, w], attributes: settingsOf(node) };
  if (node.opType === "ConvTranspose" && !bias)
    return { name: "backward-data", inputs: [w, x], attributes: settingsOf(node) };
  const note = noteFrom(node);
  if (note?.name !== WEIGHT_GRADIENT) return undefined;
  return { name: "backward-filter", inputs: note.of, attributes: note.attributes };
}
