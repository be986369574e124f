/**
 * ONNX Runtime's own optimizers as the optimizer model of its training API: one operator that updates all trained
 * parameters where they lie, from the gradients that the training model has summed.
 */
import { create } from "@bufbuild/protobuf";
import { TypeProtoSchema, type ValueInfoProto, ValueInfoProtoSchema } from "onnx-buf";
import { DATA_TYPES, nodeProto, tensorProto, valueInfo } from "../graph/protos.ts";
import type { Attributes } from "../graph/tensor.ts";
import { DOMAIN, encodeGraph } from "./model.ts";

export type OptimizerOperator =
  | {
      readonly name: "adamw";
      readonly beta1: number;
      readonly beta2: number;
      readonly eps: number;
      /** Of all parameters alike. */
      readonly weightDecay: number;
    }
  /** Without momentum or weight decay. */
  | { readonly name: "sgd" };

/**
 * The optimizer model.
 *
 * @param rates learning rates of the steps; after the last of them it stays. The runtime's own, the input
 *   `learning_rate`, is not read: it cannot be set from JavaScript.
 */
export function optimizerModel(operator: OptimizerOperator, rates: Float32Array): Uint8Array {
  const adam = operator.name === "adamw";
  const moments = ["first_order_moments", ...(adam ? ["second_order_moments"] : [])];
  const update = nodeProto(
    adam ? "AdamWOptimizer" : "SGDOptimizerV2",
    "update",
    ["rate", ...(adam ? ["step"] : []), "params", "gradients", ...(adam ? moments : [])],
    ["updated"],
    adam ? adamAttributes(operator) : {},
  );
  update.domain = DOMAIN;
  const node = [
    nodeProto("Sub", "step/Sub", ["step", "one"], ["before"]), // [1], steps before this one
    nodeProto("Min", "step/Min", ["before", "last"], ["at"]), // [1]
    nodeProto("Gather", "rate/Gather", ["rates", "at"], ["rate"]), // [1]
    update,
  ];
  return encodeGraph({
    name: `${operator.name}-update`,
    node,
    initializer: [
      tensorProto("one", BigInt64Array.of(1n), [1]),
      tensorProto("last", BigInt64Array.of(BigInt(rates.length - 1)), [1]),
      tensorProto("rates", rates, [rates.length]),
    ],
    input: [
      valueInfo("learning_rate", "float32", [1]),
      valueInfo("step", "int64", [1]),
      ...["params", "gradients", ...moments].map(sequenceInfo), // for SGD, too, the runtime feeds moments
    ],
    output: [valueInfo("updated", "bool", adam ? [1] : [])],
  });
}

const adamAttributes = ({
  beta1,
  beta2,
  eps,
  weightDecay,
}: Extract<OptimizerOperator, { name: "adamw" }>): Attributes => ({
  alpha: { float: beta1 },
  beta: { float: beta2 },
  epsilon: { float: eps },
  weight_decay: { float: weightDecay },
  correct_bias: 1,
  adam_mode: 0, // decay before the update, as in Loshchilov and Hutter 2019
});

/** A sequence of float32 tensors, one for each trained parameter. */
function sequenceInfo(name: string): ValueInfoProto {
  const elemType = create(TypeProtoSchema, {
    value: { case: "tensorType", value: { elemType: DATA_TYPES.float32 } },
  });
  return create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: "sequenceType", value: { elemType } } },
  });
}
