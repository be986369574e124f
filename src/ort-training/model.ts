/** Models that are no step of ours, written node by node. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type GraphProtoSchema, ModelProtoSchema } from "onnx-buf";
import { IR_VERSION, OPSET } from "../graph/model.ts";
import { encodeModel, opsetOf } from "../graph/protos.ts";

/** Of the operators that update in place. */
export const DOMAIN = "com.microsoft";

/** The bytes of a model with this graph. */
export const encodeGraph = (graph: MessageInitShape<typeof GraphProtoSchema>): Uint8Array =>
  encodeModel(
    create(ModelProtoSchema, {
      irVersion: BigInt(IR_VERSION),
      producerName: "ort-pretrain",
      opsetImport: [opsetOf("", OPSET), opsetOf(DOMAIN, 1)],
      graph,
    }),
  );
