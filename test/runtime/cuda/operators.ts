/** Models of custom operators. */
import { create } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "onnx-buf";
import { IR_VERSION, OPSET } from "../../../src/graph/model.ts";
import { type ElementType, encodeModel, nodeProto, opsetOf, valueInfo } from "../../../src/graph/protos.ts";
import type { Attributes } from "../../../src/graph/tensor.ts";
import { DOMAIN } from "../../../src/runtime/cuda/custom-operators.ts";
import type { Value, Work } from "../../../src/runtime/cuda/kernel.ts";
import type { Shape } from "../../../src/spec.ts";

type Values = Readonly<Record<string, { readonly dtype: ElementType; readonly shape: Shape }>>;
type NodeOf = readonly [
  type: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes?: Attributes,
];

/** Of operators that tests run by themselves. */
export const NOTHING: Work = {
  kind: "cuda",
  source: "",
  entry: "",
  grid: [1, 1, 1],
  block: [1, 1, 1],
  shared: 0,
};

/** Gives the second of its inputs, of 6 numbers. */
export const SECOND = {
  kind: "cuda",
  source: `// stub: copies 24 bytes of argument 1 to argument 2
extern "C" __global__ void second(const float *a, const float *b, float *c) { c[threadIdx.x] = b[threadIdx.x]; }`,
  entry: "second",
  grid: [1, 1, 1],
  block: [6, 1, 1],
  shared: 0,
} as const satisfies Work;
export const six: Value = { dtype: "float32", shape: [6] };

/** A model of custom nodes, and of standard ones after them. */
export function modelOf(
  inputs: Values,
  custom: readonly NodeOf[],
  outputs: Values,
  standard: readonly NodeOf[] = [],
): Uint8Array {
  const infos = (values: Values) =>
    Object.entries(values).map(([name, { dtype, shape }]) => valueInfo(name, dtype, shape));
  const nodes = ([type, from, to, attributes]: NodeOf) =>
    nodeProto(type, type, [...from], [...to], attributes);
  return encodeModel(
    create(ModelProtoSchema, {
      irVersion: BigInt(IR_VERSION),
      opsetImport: [opsetOf("", OPSET), opsetOf(DOMAIN, 1)],
      graph: {
        name: "test",
        node: [...custom.map((node) => ({ ...nodes(node), domain: DOMAIN })), ...standard.map(nodes)],
        input: infos(inputs),
        output: infos(outputs),
      },
    }),
  );
}
