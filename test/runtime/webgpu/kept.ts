/** State that stays in the GPU's buffers over many steps of a small graph: `kept STEPS`. */
import * as ort from "onnxruntime-node";
import { buildModel } from "../../../src/graph/model.ts";
import { encodeModel } from "../../../src/graph/protos.ts";
import { input } from "../../../src/graph/tensor.ts";
import { add, mul } from "../../../src/ops/elementwise.ts";
import { reduceSum } from "../../../src/ops/reduce.ts";
import { openStateful } from "../../../src/runtime/stateful.ts";
import type { StateEntry } from "../../../src/spec.ts";
import type { Script } from "./runner.ts";

export interface Kept {
  /** Of each state tensor: its shape, and the values that all its elements have. */
  readonly state: Readonly<
    Record<string, { readonly dims: readonly number[]; readonly values: readonly number[] }>
  >;
  /** What a reader made of the state, before the first step, after it, and after the last. */
  readonly read: readonly number[];
  /** By how much the process grew in the second half of the steps, as a share of the state that they made. */
  readonly grown: number;
}

/** 4 MB, as a weight may have; shapes that have no axes, or only short ones. */
const SHAPES: Readonly<Record<string, readonly number[]>> = {
  large: [1024, 1024],
  scalar: [],
  one: [1],
  row: [1, 3],
};

export const kept: Script = async function* ([count]) {
  const steps = Number(count);
  const tensors = Object.entries(SHAPES).map(([name, shape]) => input(name, "float32", shape));
  const by = input("by", "float32", ["n"]);
  const entries = Object.entries(SHAPES).map(
    ([name, shape]): StateEntry => ({
      name,
      role: "param",
      dtype: "float32",
      shape,
      init: { kind: "constant", value: 0 },
      next: `${name}.next`,
    }),
  );
  const nexts = tensors.map((t, i) => [entries[i]!.next, add(t, reduceSum(by))]);
  const graph = encodeModel(
    buildModel({ ...Object.fromEntries(nexts), sum: reduceSum(by) }, { name: "kept" }),
  );
  const initial = () =>
    Object.fromEntries(
      Object.entries(SHAPES).map(([name, shape]) => {
        const size = shape.reduce((a, b) => a * b, 1);
        return [name, new ort.Tensor("float32", new Float32Array(size), shape)];
      }),
    );
  const session = await openStateful(graph, "kept", entries, initial, { provider: "webgpu" });
  const reading = encodeModel(buildModel({ y: mul(add(tensors[1]!, tensors[2]!), by) }, { name: "reading" }));
  const reader = await session.openReader(reading, "reading", { provider: "webgpu" });
  const feeds = { by: new ort.Tensor("float32", [0.5, 0.5], [2]) };
  const read: number[] = [];
  const look = async () => {
    const { y } = await reader.run({ by: new ort.Tensor("float32", [10], [1]) }, ["y"]);
    read.push(...(y!.data as Float32Array));
  };
  await look();
  let before = 0;
  for (let step = 1; step <= steps; step++) {
    await session.run(feeds, ["sum"]);
    if (step === 1) await look();
    if (step === steps / 2) before = process.memoryUsage.rss();
  }
  const grown = (process.memoryUsage.rss() - before) / (4 * 2 ** 20 * (steps / 2));
  await look();
  await session.read();
  const state = Object.entries(await session.read()).map(([name, { dims, data }]) => [
    name,
    { dims, values: [...new Set(data as Float32Array)] },
  ]);
  await reader.close();
  await session.close();
  yield { state: Object.fromEntries(state), read, grown } satisfies Kept;
};
