/** Frozen encoders survive a conversion to float16 by the rules of onnxconverter-common 1.16, as its defaults are. */
import { expect } from "chai";
import { type GraphProto, type NodeProto, TensorProto_DataType as Type } from "onnx-buf";
import * as ort from "onnxruntime-node";
import { floatsOf } from "../../src/export/constants.ts";
import { freezeEncoder } from "../../src/export/freeze.ts";
import { decodeModel, encodeModel, nodeProto, valueInfo } from "../../src/graph/protos.ts";
import { encodeModelOf, featuresOf, noise } from "./models.ts";

/** Of the operators that it leaves in float32, those that graphs of ours may have. */
const BLOCKED = new Set(["Resize", "Range", "CumSum", "Min", "Max", "TopK", "NonMaxSuppression"]);

/** The bits of the nearest half, within the range that the tool holds values in. */
function toHalf(x: number): number {
  const size = x === 0 ? 0 : Math.min(1e4, Math.max(1e-7, Math.abs(x)));
  const sign = x < 0 ? 0x8000 : 0;
  if (size < 2 ** -14) return sign + Math.round(size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  return sign + ((exponent + 15) << 10) + Math.round((size / 2 ** exponent - 1) * 1024);
}

function fromHalf(bits: number): number {
  const [sign, exponent, rest] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent === 0 ? rest * 2 ** -24 : (1 + rest / 1024) * 2 ** (exponent - 15));
}

/** Names of float32 values, as shape inference finds them. */
function floatsIn({ initializer, node }: GraphProto): Set<string> {
  const floats = new Set(initializer.filter((t) => t.dataType === Type.FLOAT).map(({ name }) => name));
  const isFloat = ({ opType, input, attribute }: NodeProto): boolean => {
    if (opType === "Cast") return Number(attribute.find(({ name }) => name === "to")!.i) === Type.FLOAT;
    if (["Shape", "Less"].includes(opType)) return false;
    return floats.has(input[opType === "CastLike" ? 1 : 0]!);
  };
  for (const made of node) {
    if (!isFloat(made)) continue;
    const own = made.opType === "MaxPool" ? made.output.slice(0, 1) : made.output; // then come places, int64
    for (const name of own) floats.add(name);
  }
  return floats;
}

/** Float32 becomes float16, and is declared so, but for what blocked operators take and give; a Cast stays as it is. */
function converted(model: Uint8Array): Uint8Array {
  const proto = decodeModel(model);
  const graph = proto.graph!;
  const floats = floatsIn(graph);
  const cast = (from: string, name: string, to: Type) =>
    nodeProto("Cast", `${name}/cast`, [from], [name], { to });
  const constants = new Set(graph.initializer.map(({ name }) => name));
  const kept = new Set(graph.node.filter(({ opType }) => BLOCKED.has(opType)).flatMap(({ input }) => input));
  graph.node = graph.node.flatMap((node) => {
    if (!BLOCKED.has(node.opType) || !floats.has(node.output[0]!)) return [node];
    const before = node.input.filter((name) => floats.has(name) && !constants.has(name));
    const after = [...node.output];
    node.input = node.input.map((name) => (before.includes(name) ? `${name}.32` : name));
    node.output = after.map((name) => `${name}.32`);
    return [
      ...before.map((name) => cast(name, `${name}.32`, Type.FLOAT)),
      node,
      ...after.map((name) => cast(`${name}.32`, name, Type.FLOAT16)),
    ];
  });
  for (const tensor of graph.initializer) {
    const values = kept.has(tensor.name) ? undefined : floatsOf(tensor);
    if (!values) continue;
    tensor.dataType = Type.FLOAT16;
    tensor.rawData = new Uint8Array(Uint16Array.from(values, toHalf).buffer);
  }
  const declared = [...floats]
    .filter((name) => !constants.has(name))
    .map((name) => valueInfo(name, "float32", []));
  for (const { type } of [...declared, ...graph.output])
    if (type?.value.case === "tensorType") type.value.value.elemType = Type.FLOAT16;
  for (const { type } of declared) if (type?.value.case === "tensorType") delete type.value.value.shape;
  graph.valueInfo = declared.filter(({ name }) => graph.output.every((output) => output.name !== name));
  return encodeModel(proto);
}

describe("export: float16", () => {
  for (const [name, size, height, width] of [
    ["vit-tiny", 32, 32, 32],
    ["resnet20", 32, 1500, 1100], // where a half holds whole numbers alone
  ] as const) {
    it(`${name} at ${size} px, of ${height} x ${width} pixels`, async () => {
      const { encode, state } = encodeModelOf(name, size);
      const frozen = freezeEncoder(encode, state, {});
      const { data, shape } = noise(2, height, width);
      const images = new ort.Tensor("uint8", data, shape);
      const { data: wanted, dims } = await featuresOf(frozen, { images });
      const half = await featuresOf(converted(frozen), { images });
      const found = Float32Array.from(half.data instanceof Uint16Array ? half.data : [], fromHalf);
      const d = dims[1]!;
      for (let row = 0; row < 2; row++) {
        const [a, b] = [wanted, found].map((all) => all.subarray(row * d, (row + 1) * d));
        const dot = a!.reduce((sum, x, i) => sum + x * b![i]!, 0);
        expect(dot / (Math.hypot(...a!) * Math.hypot(...b!))).to.be.within(0.999, 1.0001);
      }
    });
  }
});
