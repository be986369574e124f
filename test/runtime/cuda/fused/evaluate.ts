/** A step with custom operators, run on the CPU: these by a function, the nodes between them by ONNX Runtime. */

import { expect } from "chai";
import type { NodeProto } from "onnx-buf";
import * as ort from "onnxruntime-node";
import { once } from "../../../../src/graph/once.ts";
import { encodeModel, valueInfo } from "../../../../src/graph/protos.ts";
import { operatorOf } from "../../../../src/runtime/cuda/fused/convolutions.ts";
import type { Launch } from "../../../../src/runtime/cuda/fused/ir.ts";
import type { Lowered } from "../../../../src/runtime/cuda/fused/lower.ts";
import { DOMAIN } from "../../../../src/runtime/cuda/fused/written.ts";
import type { DType } from "../../../../src/spec.ts";
import { openGraph } from "../../../methods/stepping.ts";
import { convolve } from "./convolve.ts";
import { type Data, interpret, type Values } from "./interpreter.ts";

/** The outputs named; what is computed goes on as `seen` gives it back. */
export async function evaluate(
  { model, launches, convolutions, values: types }: Lowered,
  feeds: Readonly<Record<string, ort.Tensor>>,
  outputs: readonly string[],
  run: (launch: Launch, values: Values) => void = interpret,
  seen: (name: string, data: Data) => Data = (_, data) => data,
): Promise<Values> {
  const graph = model.graph!;
  const byType = new Map(launches.map((launch) => [launch.type, launch]));
  const values: Values = new Map(Object.entries(feeds).map(([name, { data }]) => [name, data as Data]));
  for (const { name, rawData } of graph.initializer)
    values.set(name, arrayOf(types.get(name)!.dtype, rawData));
  const waves = wavesOf(graph.node);
  const lastRead = new Map<string, number>();
  for (const [wave, nodes] of waves)
    for (const name of nodes.flatMap(({ input }) => input)) lastRead.set(name, wave);
  const given = new Set(graph.initializer.map(({ name }) => name));
  for (const [wave, nodes] of waves) {
    for (const node of nodes) if (node.domain === DOMAIN) compute(node);
    const plain = nodes.filter(({ domain }) => domain !== DOMAIN);
    if (plain.length === 0) continue;
    const made = new Set(plain.flatMap(({ output }) => output).filter(Boolean));
    const read = new Set(plain.flatMap(({ input }) => input).filter((name) => name && !made.has(name)));
    const wanted = [...made].filter((name) => lastRead.get(name)! > wave || outputs.includes(name));
    const declared = (name: string) => valueInfo(name, hostType(name), types.get(name)!.shape);
    const session = await openGraph(
      encodeModel({
        ...model,
        graph: {
          ...graph,
          node: plain,
          initializer: graph.initializer.filter(({ name }) => read.has(name)),
          input: [...read].filter((name) => !given.has(name)).map(declared),
          output: wanted.map(declared),
          valueInfo: [],
        },
      }),
    );
    const fed = [...read].filter((name) => !given.has(name)).map((name) => [name, tensorOf(name)] as const);
    const found = await session.run(Object.fromEntries(fed), wanted);
    await session.release();
    for (const name of wanted) values.set(name, seen(name, found[name]!.data as Data));
  }
  return new Map(outputs.map((name) => [name, values.get(name)!]));

  /** The CPU has no products in half precision: there they are rounded floats. */
  function hostType(name: string): DType {
    const { dtype } = types.get(name)!;
    return dtype === "bfloat16" || dtype === "float16" ? "float32" : dtype;
  }

  function compute({ opType, input, output }: NodeProto): void {
    const launch = byType.get(opType);
    if (launch) {
      run(launch, values);
      for (const { name } of launch.outputs) values.set(name, seen(name, values.get(name)!));
      return;
    }
    const [a, b] = input.map((name) => values.get(name) as Float32Array) as [Float32Array, Float32Array];
    const operator = operatorOf(opType, convolutions.get(opType)!);
    // As the runtime has them when it calls it.
    const shapes = [...input, ...output].map((name) => types.get(name)!.shape);
    expect(shapes).to.deep.equal([...operator.inputs, ...operator.outputs].map(({ shape }) => shape));
    const made = convolve(operator, [a, b]);
    values.set(output[0]!, seen(output[0]!, made));
  }

  function tensorOf(name: string): ort.Tensor {
    return new ort.Tensor(hostType(name), values.get(name) as never, types.get(name)!.shape);
  }
}

const arrayOf = (dtype: string, raw: Uint8Array): Data => {
  const { buffer } = raw.slice();
  if (dtype === "int64") return new BigInt64Array(buffer);
  if (dtype === "int32") return new Int32Array(buffer);
  return dtype === "float32" ? new Float32Array(buffer) : new Uint8Array(buffer);
};

/** Nodes by how many custom operators are on the longest way to them; those first in each. */
function wavesOf(nodes: readonly NodeProto[]): ReadonlyMap<number, readonly NodeProto[]> {
  const after = new Map<string, number>();
  const waves = new Map<number, NodeProto[]>();
  for (const node of nodes) {
    const wave =
      Math.max(0, ...node.input.map((name) => after.get(name) ?? 0)) + (node.domain === DOMAIN ? 1 : 0);
    for (const name of node.output) after.set(name, wave);
    once(waves, wave, () => []).push(node);
  }
  return new Map([...waves].sort(([a], [b]) => a - b));
}
