/** A step whose buffers cannot be allocated, between steps that can: `failing`. */
import * as ort from "onnxruntime-node";
import { buildModel } from "../../../src/graph/model.ts";
import { encodeModel } from "../../../src/graph/protos.ts";
import { input } from "../../../src/graph/tensor.ts";
import { add, mul } from "../../../src/ops/elementwise.ts";
import { reduceSum } from "../../../src/ops/reduce.ts";
import { failureOf } from "../../../src/runtime/gpu-failures.ts";
import { openStateful } from "../../../src/runtime/stateful.ts";
import type { Script } from "./runner.ts";

export interface Failing {
  /** What is said of the step that fails. */
  readonly said: string | undefined;
  /** The state after the first step, the one that fails, and the next. */
  readonly state: readonly number[];
}

export const failing: Script = async function* () {
  const [x, rows, columns] = [
    input("x", "float32", [1]),
    input("rows", "float32", ["n", 1]),
    input("columns", "float32", [1, "n"]),
  ];
  const sum = reduceSum(mul(rows, columns)); // of [n, n]
  const graph = encodeModel(buildModel({ "x.next": add(x, 1), sum }, { name: "failing" }));
  const entry = { name: "x", role: "buffer", dtype: "float32", shape: [1], next: "x.next" } as const;
  const session = await openStateful(
    graph,
    "failing",
    [{ ...entry, init: { kind: "constant", value: 0 } }],
    () => ({ x: new ort.Tensor("float32", [0], [1]) }),
    { provider: "webgpu" },
  );
  const run = (n: number) => {
    const values = new Float32Array(n).fill(1);
    const feeds = {
      rows: new ort.Tensor("float32", values, [n, 1]),
      columns: new ort.Tensor("float32", values, [1, n]),
    };
    return session.run(feeds, ["sum"]);
  };
  const state: number[] = [];
  const look = async () => state.push(...((await session.read()).x!.data as Float32Array));
  await run(10);
  await look();
  // 10 GB
  const said = await run(50_000).then(
    () => undefined,
    (error) => failureOf(error, "webgpu")?.message,
  );
  await look();
  await run(10);
  await look();
  await session.close();
  yield { said, state } satisfies Failing;
};
