/**
 * A step in the form that ONNX Runtime's training API runs: state is parameters of a checkpoint, which the graph changes
 * where they lie. https://onnxruntime.ai/docs/api/python/on_device_training/training_artifacts.html
 */
import type { GraphProto, NodeProto, ValueInfoProto } from "onnx-buf";
import {
  DATA_TYPES,
  decodeModel,
  encodeModel,
  nodeProto,
  opsetOf,
  tensorProto,
  valueInfo,
} from "../graph/protos.ts";
import type { Attributes } from "../graph/tensor.ts";
import { DOMAIN, encodeGraph } from "./model.ts";

/** A state tensor of a step. */
export interface Parameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** The step's output that holds its next value, or its gradient where `trained`. */
  readonly output: string;
  /** Whether the runtime's optimizer updates it; others take the output as their value. @default false */
  readonly trained?: boolean;
}

/** True where gradients replace those before, false where they are added. */
const RESET = "lazy_reset_grad";

/** The names that the runtime gives the parts of a gradient. */
const bufferOf = (param: string) => `${param}_grad.accumulation.buffer`;
const accumulatedOf = (param: string) => `${param}_grad.accumulation.out`;
const writtenOf = (state: string) => `${state}.written`;

/**
 * The training model of a step. Inputs: what the step is fed, then the parameters, then buffers for the gradients of
 * trained ones, and whether these begin anew. Outputs: the step's own, then a BOOL [1] for each parameter.
 *
 * The other parameters are overwritten in the same run, each once all that reads a parameter has run.
 *
 * @throws Error on bytes that are no model
 */
export function trainingModel(step: Uint8Array, parameters: readonly Parameter[]): Uint8Array {
  const model = decodeModel(step);
  const { graph } = model;
  if (!graph) throw new Error("a model without a graph");
  const { outputs, inputs } = split(graph, parameters);
  const changed = parameters.filter(({ trained, name, output }) => trained || !isKept(graph, name, output));
  const trained = changed.filter((p) => p.trained);
  const overwritten = changed.filter((p) => !p.trained);
  const last = [...outputs.filter(isFloat).map(({ name }) => name), ...overwritten.map((p) => p.output)];
  graph.node.push(
    ...trained.map(({ name, output }) => writing([bufferOf(name), output, RESET], accumulatedOf(name))),
    ...(overwritten.length > 0 ? barrier(last) : []),
    ...overwritten.map(({ name, output }) => writing([name, output, AFTER_ALL], writtenOf(name))),
  );
  graph.initializer.push(
    tensorProto(FIRST, BigInt64Array.of(0n), [1]),
    tensorProto(FLAT, BigInt64Array.of(-1n), [1]),
    tensorProto(TRUE, Uint8Array.of(1), [1], "bool"),
  );
  graph.input = [
    ...inputs,
    ...parameters.map(({ name, shape }) => valueInfo(name, "float32", shape)),
    ...trained.map(({ name, shape }) => valueInfo(bufferOf(name), "float32", shape)),
    valueInfo(RESET, "bool", [1]),
  ];
  graph.output = [
    ...outputs,
    ...trained.map(({ name }) => valueInfo(accumulatedOf(name), "bool", [1])),
    ...overwritten.map(({ name }) => valueInfo(writtenOf(name), "bool", [1])),
  ];
  model.opsetImport.push(opsetOf(DOMAIN, 1));
  return encodeModel(model);
}

/**
 * The evaluation model of a step: what it puts out besides state, of a batch that changes nothing, and the `features` of
 * the encoder in evaluation. The runtime exports it with the parameters inside: by that last output, an encoder.
 *
 * @param forward the step without its gradients
 * @param encode images -> `features`
 * @throws Error on bytes that are no model
 */
export function evaluationModel(
  forward: Uint8Array,
  encode: Uint8Array,
  parameters: readonly Omit<Parameter, "output">[],
): Uint8Array {
  const model = decodeModel(forward);
  const encoder = decodeModel(encode).graph!;
  const own = new Set(encoder.input.map(({ name }) => name).concat(FEATURES));
  const renamed = (name: string) => (name === "" || own.has(name) ? name : `encode/${name}`);
  for (const node of encoder.node) {
    node.name = `encode/${node.name}`;
    node.input = node.input.map(renamed);
    node.output = node.output.map(renamed);
  }
  for (const value of [...encoder.initializer, ...encoder.valueInfo]) value.name = renamed(value.name);
  const graph = model.graph!;
  const names = new Set(parameters.map(({ name }) => name));
  graph.node.push(...encoder.node);
  graph.initializer.push(...encoder.initializer);
  graph.valueInfo.push(...encoder.valueInfo);
  graph.input = [
    ...graph.input.filter(({ name }) => !names.has(name)),
    ...parameters.map(({ name, shape }) => valueInfo(name, "float32", shape)),
  ];
  graph.output.push(...encoder.output);
  return encodeModel(model);
}

const FEATURES = "features";

/**
 * An evaluation model that gives all parameters, one after the other, as its one output [values]. In the build for the web
 * (1.19.2), `getContiguousParameters`, which would do, frees memory of the stack: it may end in a fault, or in a hang.
 */
export function stateModel(parameters: readonly Omit<Parameter, "output">[]): Uint8Array {
  const values = parameters.map((p) => p.shape.reduce((a, b) => a * b, 1)).reduce((a, b) => a + b, 0);
  const flat = ({ name }: { readonly name: string }) =>
    nodeProto("Reshape", `${name}/Reshape`, [name, FLAT], [`${name}.flat`]);
  const all = parameters.map(({ name }) => `${name}.flat`);
  return encodeGraph({
    name: "state",
    node: [...parameters.map(flat), nodeProto("Concat", "state/Concat", all, ["state"], { axis: 0 })],
    initializer: [tensorProto(FLAT, BigInt64Array.of(-1n), [1])],
    input: parameters.map(({ name, shape }) => valueInfo(name, "float32", shape)),
    output: [valueInfo("state", "float32", [values])],
  });
}

const [FIRST, FLAT, TRUE] = ["written.first", "written.flat", "written.true"];
/** True once all outputs are computed. */
const AFTER_ALL = "written.after";

/** What the step has besides state. */
function split(graph: GraphProto, parameters: readonly Parameter[]) {
  const names = new Set(parameters.map(({ name }) => name));
  const nexts = new Set(parameters.map(({ output }) => output));
  return {
    inputs: graph.input.filter(({ name }) => !names.has(name)),
    outputs: graph.output.filter(({ name }) => !nexts.has(name)),
  };
}

/** Whether the step gives a tensor back as it is. */
const isKept = (graph: GraphProto, name: string, next: string): boolean =>
  graph.node.some(
    ({ opType, input, output }) => opType === "Identity" && input[0] === name && output[0] === next,
  );

const isFloat = ({ type }: ValueInfoProto): boolean =>
  type?.value.case === "tensorType" && type.value.value.elemType === DATA_TYPES.float32;

function writing(input: string[], output: string): NodeProto {
  const node = nodeProto("InPlaceAccumulatorV2", output, input, [output]);
  node.domain = DOMAIN;
  return node;
}

/**
 * Computes `AFTER_ALL`, BOOL [1], from a value of each output: what reads a parameter leads to an output, so all of it has
 * run by then. The runtime would fold what shapes alone tell.
 */
function barrier(outputs: readonly string[]): NodeProto[] {
  const made: NodeProto[] = [];
  const make = (type: string, input: string[], output: string, attributes: Attributes = {}) => {
    made.push(nodeProto(type, `${output}/${type}`, input, [output], attributes));
    return output;
  };
  const firsts = outputs.map((name) =>
    make("Gather", [make("Reshape", [name, FLAT], `${name}.flat`), FIRST], `${name}.first`),
  ); // [1] each
  const all = make("Concat", firsts, "written.firsts", { axis: 0 }); // [outputs]
  const any = make("ReduceMax", [all], "written.last"); // [1]
  make("Or", [make("IsNaN", [any], "written.nan"), TRUE], AFTER_ALL); // [1]
  return made;
}
