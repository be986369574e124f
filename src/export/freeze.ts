/** The training-time encode graph and its state as one model with the weights inside. */
import { create } from "@bufbuild/protobuf";
import { type GraphProto, StringStringEntryProtoSchema, type ValueInfoProto } from "onnx-buf";
import { expected } from "../errors.ts";
import type { TensorData } from "../files/safetensors.ts";
import type { ModelProto } from "../graph/model.ts";
import { DATA_TYPES, decodeModel, encodeModel, tensorProto } from "../graph/protos.ts";
import { foldBatchNorms } from "./fold.ts";
import { dropUnused } from "./unused.ts";

const WHERE = "encode.onnx";

/**
 * The model with the state tensors that it reads as initializers, BatchNormalization folded away, without what
 * nothing reads, and `metadata` in the order of its keys. Equal arguments give equal bytes.
 *
 * @param encode inputs `images` (uint8 [n, h, w, 3]), or another that remains an input, and state tensors by name
 * @throws UserError if it is no such model, or reads a tensor that `state` lacks or has in another shape: both come
 *   from files that anyone may have written.
 */
export function freezeEncoder(
  encode: Uint8Array,
  state: ReadonlyMap<string, TensorData>,
  metadata: Readonly<Record<string, string>>,
  fed = "images",
): Uint8Array {
  const { model, graph } = decode(encode);
  const inputs = graph.input.filter(({ name }) => name !== fed);
  if (inputs.length === graph.input.length) throw expected(WHERE, `an input "${fed}"`, "none");

  graph.input = graph.input.filter(({ name }) => name === fed);
  const isState = new Set(inputs.map(({ name }) => name));
  graph.initializer = [
    ...graph.initializer.filter(({ name }) => !isState.has(name)),
    ...inputs.map((info) => initializer(info, state.get(info.name))),
  ];
  foldBatchNorms(graph);
  dropUnused(graph);
  model.metadataProps = Object.keys(metadata)
    .sort()
    .map((key) => create(StringStringEntryProtoSchema, { key, value: metadata[key]! }));
  return encodeModel(model);
}

function decode(bytes: Uint8Array): { model: ModelProto; graph: GraphProto } {
  let model: ModelProto;
  try {
    model = decodeModel(bytes);
  } catch {
    throw expected(WHERE, "an ONNX model", "something else");
  }
  if (!model.graph) throw expected(WHERE, "a graph", "none");
  return { model, graph: model.graph };
}

function initializer(info: ValueInfoProto, tensor: TensorData | undefined) {
  const wanted = typeOf(info);
  const found = tensor && `${tensor.dtype} [${tensor.shape.join(", ")}]`;
  if (!tensor || found !== wanted) throw expected(`${WHERE}: state "${info.name}"`, wanted, found ?? "none");
  return tensorProto(info.name, tensor.data, tensor.shape, tensor.dtype); // bool and uint8 have one kind of array
}

/** Such as "float32 [64, 3, 3, 3]". */
function typeOf({ type }: ValueInfoProto): string {
  if (type?.value.case !== "tensorType") return "no tensor";
  const { elemType, shape } = type.value.value;
  const dtype = Object.entries(DATA_TYPES).find(([, code]) => code === elemType)?.[0] ?? "another type";
  return `${dtype} [${(shape?.dim ?? []).map((d) => String(d.value.value ?? "?")).join(", ")}]`;
}
