/**
 * Folds BatchNormalization into the Conv or Gemm that feeds it, wherever all their weights are initializers: with
 * a = scale / sqrt(variance + epsilon) of an output channel, its weights become a w and its bias a (b - mean) + bias.
 */
import type { AttributeProto, GraphProto, NodeProto, TensorProto } from "onnx-buf";
import { tensorProto } from "../graph/protos.ts";
import { floatsOf, sizesOf } from "./constants.ts";
import { countUses } from "./unused.ts";

/** y = factor x + offset, one of each for a channel, in double precision. */
interface Affine {
  readonly factor: Float64Array;
  readonly offset: Float64Array;
}

/** The constants of a Conv or Gemm. */
interface Weights {
  readonly tensor: TensorProto;
  readonly values: Float32Array;
  readonly channels: number;
  /** The output channel of the value at index i. */
  readonly channelOf: (i: number) => number;
  /** One for each channel. */
  readonly bias: Float64Array;
}

type Lookup = (name: string | undefined) => TensorProto | undefined;

/** Changes `graph` in place. A layer whose output is used elsewhere too, or is an output of the graph, stays as it is. */
export function foldBatchNorms(graph: GraphProto): void {
  const initializers = new Map(graph.initializer.map((t) => [t.name, t]));
  // An initializer that is also an input is a default that the caller may replace.
  const replaceable = new Set(graph.input.map((i) => i.name));
  const lookup: Lookup = (name = "") => (replaceable.has(name) ? undefined : initializers.get(name));
  const uses = countUses(graph);
  const makers = new Map(graph.node.flatMap((node) => node.output.map((name) => [name, node] as const)));
  const taken = new Set([...initializers.keys(), ...replaceable, ...makers.keys()]);
  const folded = new Set<NodeProto>();

  /** Puts values under the name of the tensor that they replace if nothing else reads it, else under a new name. */
  const put = (
    old: string | undefined,
    wish: string,
    values: Float32Array,
    dims: readonly number[],
  ): string => {
    const own = old !== undefined && uses.get(old) === 1;
    let name = own ? old : wish;
    while (!own && taken.has(name)) name += "_";
    taken.add(name);
    uses.set(name, 1);
    initializers.set(name, tensorProto(name, values, dims));
    return name;
  };

  for (const norm of graph.node) {
    const [from] = norm.input;
    const layer = makers.get(from ?? "");
    const affine = affineOf(norm, lookup);
    if (!layer || !affine || uses.get(from!) !== 1 || layer.output.length !== 1) continue;
    const weights = weightsOf(layer, lookup);
    if (weights?.channels !== affine.factor.length) continue;

    const { factor, offset } = affine;
    const w = weights.values.map((x, i) => x * factor[weights.channelOf(i)]!); // as the weights
    const bias = Float32Array.from(weights.bias, (b, c) => b * factor[c]! + offset[c]!); // [channels]
    const label = weights.tensor.name;
    const biasLabel = label.endsWith("weight") ? label.replace(/weight$/, "bias") : `${label}.bias`;
    const [x, , oldBias] = layer.input as [string, string, string?];
    const newWeight = put(label, label, w, sizesOf(weights.tensor));
    layer.input = [x, newWeight, put(oldBias, biasLabel, bias, [bias.length])];
    const beta = attribute(layer, "beta");
    if (beta) beta.f = 1; // it is in the bias now
    layer.output = [norm.output[0]!];
    makers.set(norm.output[0]!, layer);
    folded.add(norm);
  }

  graph.node = graph.node.filter((node) => !folded.has(node));
  graph.initializer = [...initializers.values()];
}

/** What a BatchNormalization computes, if it is in inference form and its parameters are constants. */
function affineOf(node: NodeProto, lookup: Lookup): Affine | undefined {
  if (node.opType !== "BatchNormalization" || node.domain !== "") return undefined;
  if (attribute(node, "training_mode")?.i || node.output.length !== 1) return undefined;
  const [scale, bias, mean, variance] = node.input.slice(1, 5).map((name) => floatsOf(lookup(name))); // [c] each
  if (!scale || ![bias, mean, variance].every((t) => t?.length === scale.length)) return undefined;
  const epsilon = attribute(node, "epsilon")?.f ?? 1e-5;
  const factor = Float64Array.from(scale, (s, c) => s / Math.sqrt(variance![c]! + epsilon)); // [c]
  return { factor, offset: factor.map((f, c) => bias![c]! - mean![c]! * f) };
}

function weightsOf(node: NodeProto, lookup: Lookup): Weights | undefined {
  const isGemm = node.opType === "Gemm";
  if ((!isGemm && node.opType !== "Conv") || node.domain !== "") return undefined;
  const tensor = lookup(node.input[1]);
  const values = floatsOf(tensor);
  if (!tensor || !values) return undefined;
  const sizes = sizesOf(tensor);
  // Conv: [out, in / groups, ...]; Gemm: [in, out], or [out, in] where it is to be transposed.
  const last = isGemm && !attribute(node, "transB")?.i;
  const channels = (last ? sizes.at(-1) : sizes[0]) ?? 0;
  const run = values.length / channels;
  const bias = biasOf(node, lookup, channels, isGemm ? (attribute(node, "beta")?.f ?? 1) : 1);
  if (!bias) return undefined;
  return { tensor, values, channels, channelOf: (i) => (last ? i % channels : Math.floor(i / run)), bias };
}

/** The third input, times `beta`; undefined if it is no constant of one value for each channel. */
function biasOf(node: NodeProto, lookup: Lookup, channels: number, beta: number): Float64Array | undefined {
  if (!node.input[2]) return new Float64Array(channels); // [channels]
  const tensor = lookup(node.input[2]);
  const values = floatsOf(tensor);
  if (!tensor || values?.length !== channels || sizesOf(tensor).at(-1) !== channels) return undefined;
  return Float64Array.from(values, (b) => b * beta); // [channels]
}

const attribute = (node: NodeProto, name: string): AttributeProto | undefined =>
  node.attribute.find((a) => a.name === name);
