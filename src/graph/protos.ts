/** The parts of an ONNX model, as messages of protobuf. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  type OperatorSetIdProto,
  OperatorSetIdProtoSchema,
  type TensorProto,
  TensorProto_DataType,
  TensorProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "onnx-buf";
import type { Dim, DType, Shape } from "../spec.ts";
import { type Attribute, type Attributes, dtypeOf, type TensorData } from "./tensor.ts";

/** A type of values in a model: steps compute in our own, what GPUs are given may hold maps in half precision. */
export type ElementType = DType | HalfType;
export type HalfType = "float16" | "bfloat16";

/** ONNX's codes. */
export const DATA_TYPES: Readonly<Record<ElementType, TensorProto_DataType>> = {
  float16: TensorProto_DataType.FLOAT16,
  bfloat16: TensorProto_DataType.BFLOAT16,
  float32: TensorProto_DataType.FLOAT,
  uint8: TensorProto_DataType.UINT8,
  int32: TensorProto_DataType.INT32,
  int64: TensorProto_DataType.INT64,
  bool: TensorProto_DataType.BOOL,
};

export const opsetOf = (domain: string, version: number): OperatorSetIdProto =>
  create(OperatorSetIdProtoSchema, { domain, version: BigInt(version) });

export const encodeModel = (model: ModelProto): Uint8Array => toBinary(ModelProtoSchema, model);

/** A ModelProto from bytes; throws what protobuf throws on bytes that are none. */
export const decodeModel = (bytes: Uint8Array): ModelProto => fromBinary(ModelProtoSchema, bytes);

/** An initializer. */
export function tensorProto(
  name: string,
  data: TensorData,
  shape: readonly number[],
  dtype = dtypeOf(data),
): TensorProto {
  return create(TensorProtoSchema, {
    name,
    dims: shape.map(BigInt),
    dataType: DATA_TYPES[dtype],
    rawData: new Uint8Array(
      data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength) as ArrayBuffer,
    ),
  });
}

export function nodeProto(
  opType: string,
  name: string,
  input: string[],
  output: string[],
  attributes: Attributes = {},
): NodeProto {
  const attribute = Object.entries(attributes).map(([key, value]) => attributeProto(key, value));
  return create(NodeProtoSchema, { opType, name, input, output, attribute });
}

function attributeProto(name: string, value: Attribute): AttributeProto {
  const Type = AttributeProto_AttributeType;
  if (typeof value === "string") {
    return create(AttributeProtoSchema, { name, type: Type.STRING, s: new TextEncoder().encode(value) });
  }
  if (typeof value === "number")
    return create(AttributeProtoSchema, { name, type: Type.INT, i: BigInt(value) });
  if ("float" in value) return create(AttributeProtoSchema, { name, type: Type.FLOAT, f: value.float });
  return create(AttributeProtoSchema, { name, type: Type.INTS, ints: value.map(BigInt) });
}

/** The inverse of `attributeProto`. @throws Error on kinds of attributes that our nodes do not have */
export const attributesFrom = (protos: readonly AttributeProto[]): Attributes =>
  Object.fromEntries(protos.map((proto) => [proto.name, attributeFrom(proto)]));

function attributeFrom({ name, type, f, i, s, ints }: AttributeProto): Attribute {
  const Type = AttributeProto_AttributeType;
  if (type === Type.STRING) return new TextDecoder().decode(s);
  if (type === Type.INT) return Number(i);
  if (type === Type.FLOAT) return { float: f };
  if (type === Type.INTS) return ints.map(Number);
  throw new Error(`attribute ${name} is of another kind`);
}

export function valueInfo(name: string, dtype: ElementType, shape: Shape): ValueInfoProto {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: "tensorType",
        value: {
          elemType: DATA_TYPES[dtype],
          shape: {
            dim: shape.map((size) => ({
              value:
                typeof size === "number"
                  ? { case: "dimValue" as const, value: BigInt(size) }
                  : { case: "dimParam" as const, value: size },
            })),
          },
        },
      },
    },
  });
}

/** The shape in a `valueInfo`: undefined unless each size is stated, as a number or a symbol. */
export function shapeFrom({ type }: ValueInfoProto): Shape | undefined {
  const dims = type?.value.case === "tensorType" ? type.value.value.shape?.dim : undefined;
  const sizes = dims?.flatMap(({ value }): Dim[] => {
    if (value.case === undefined) return [];
    return [value.case === "dimValue" ? Number(value.value) : value.value];
  });
  return sizes?.length === dims?.length ? sizes : undefined;
}
