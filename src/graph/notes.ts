/** What code that replaces nodes is told of them: notes in their metadata. */
import { create } from "@bufbuild/protobuf";
import { type NodeProto, StringStringEntryProtoSchema } from "onnx-buf";
import type { Attributes, Node } from "./tensor.ts";

/** What a node stands for, see `Operator.noted`. */
export interface Note {
  readonly name: string;
  /** Names of the values that it is computed from. */
  readonly of: readonly string[];
  readonly attributes: Attributes;
}

/** The note on a gradient of a convolution with respect to w, of x and dy, with the attributes of Conv. */
export const WEIGHT_GRADIENT = "ConvGradientOfWeights";

const NOTE = "ort-pretrain.note";

export const noteOf = ({ op: { name }, attributes }: Node, of: readonly string[]) =>
  create(StringStringEntryProtoSchema, { key: NOTE, value: JSON.stringify({ name, of, attributes }) });

/** Undefined where a node has none. */
export function noteFrom({ metadataProps }: NodeProto): Note | undefined {
  const found = metadataProps.find(({ key }) => key === NOTE);
  return found && (JSON.parse(found.value) as Note);
}
