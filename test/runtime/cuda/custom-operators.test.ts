import { expect } from "chai";
import koffi from "koffi";
import * as ort from "onnxruntime-node";
import { type NativeRuntime, nativeRuntime } from "../../../src/runtime/c-api.ts";
import type { Run } from "../../../src/runtime/cuda/custom-operators.ts";
import type { Operator, Value } from "../../../src/runtime/cuda/kernel.ts";
import type { Pointer } from "../../../src/runtime/ort-api.ts";
import { failure } from "../../data/folder.ts";
import { modelOf, NOTHING } from "./operators.ts";

const [a, b] = [
  { dtype: "float32", shape: [2, 3] },
  { dtype: "int64", shape: [3] },
] as const;

/** Adds b to each row of a; and what is greater than 2 of that. */
const operator: Operator = {
  type: "added",
  inputs: [a, b],
  outputs: [a, { dtype: "bool", shape: [2, 3] }],
  work: NOTHING,
};
const runAdded: Run = (_, [at, bt], [sum, above]) => {
  const [rows, row] = [arrayAt("float", at!, 6), arrayAt("int64_t", bt!, 3)];
  const sums = rows.map((v, i) => v + Number(row[i % 3]));
  koffi.encode(sum!, "float", sums, 6);
  koffi.encode(
    above!,
    "uint8_t",
    sums.map((v) => Number(v > 2)),
    6,
  );
};
const arrayAt = (type: string, at: Pointer, length: number): number[] =>
  Array.from(koffi.decode(at, type, length) as Iterable<number>);

const feeds = {
  a: new ort.Tensor("float32", Float32Array.of(0, 1, 2, 3, 4, 5), [2, 3]),
  b: new ort.Tensor("int64", BigInt64Array.of(1n, 0n, -1n), [3]),
};
const model = modelOf({ a, b }, [["added", ["a", "b"], ["sum", "above"]]], {
  sum: a,
  above: operator.outputs[1]!,
});

describe("runtime/cuda/custom-operators, on the CPU", () => {
  let runtime: NativeRuntime;
  before(function () {
    const found = nativeRuntime();
    if (!found) this.skip();
    runtime = found;
  });
  const open = (runOperator: Run, operators = [operator], graph = model) =>
    runtime.open(graph, { threads: 1, operators, runOperator });
  const none = { read: new Map() };

  it("are given inputs and outputs of their types and shapes, and no stream", async () => {
    const seen: unknown[] = [];
    const session = await open((...args) => {
      seen.push([args[0], args[1].length, args[2].length, args[3]]);
      runAdded(...args);
    });
    for (let i = 0; i < 2; i++) {
      const { sum, above } = await session.run(feeds, none, ["sum", "above"]);
      expect([...(sum!.data as Float32Array)]).to.deep.equal([1, 1, 1, 4, 4, 4]);
      expect(sum!.dims).to.deep.equal([2, 3]);
      expect(above!.type).to.equal("bool");
      expect([...(above!.data as Uint8Array)]).to.deep.equal([0, 0, 0, 1, 1, 1]);
    }
    session.close();
    expect(seen).to.deep.equal(Array(2).fill([operator, 2, 2, null]));
  });

  it("hand each other values in half precision", async () => {
    for (const dtype of ["float16", "bfloat16"] as const) {
      const half: Value = { ...a, dtype };
      const [there, back] = [
        { type: "there", inputs: [a], outputs: [half], work: NOTHING },
        { type: "back", inputs: [half], outputs: [a], work: NOTHING },
      ];
      const graph = modelOf(
        { a },
        [
          ["there", ["a"], ["h"]],
          ["back", ["h"], ["c"]],
        ],
        { c: a },
      );
      const run: Run = ({ type }, [from], [to]) => {
        const [read, written] = type === "there" ? ["float", "uint16_t"] : ["uint16_t", "float"];
        koffi.encode(to!, written!, arrayAt(read!, from!, 6), 6);
      };
      const session = await open(run, [there!, back!], graph);
      expect([...((await session.run({ a: feeds.a }, none, ["c"])).c!.data as Float32Array)]).to.deep.equal([
        0, 1, 2, 3, 4, 5,
      ]);
      session.close();
    }
  });

  it("are many of one session, each told apart, in sessions side by side", async () => {
    const names = Array.from({ length: 40 }, (_, i) => `step${i}`);
    const chain = names.map((type): Operator => ({ type, inputs: [a], outputs: [a], work: NOTHING }));
    const graph = modelOf(
      { a },
      names.map((type, i) => [type, [i === 0 ? "a" : `v${i}`], [`v${i + 1}`]] as const),
      { v40: a },
    );
    const before = koffi.stats().callbacks;
    const ran: string[] = [];
    const adding =
      (by: number): Run =>
      ({ type }, [from], [to]) => {
        ran.push(type);
        koffi.encode(
          to!,
          "float",
          arrayAt("float", from!, 6).map((v) => v + by),
          6,
        );
      };
    const [one, two] = [await open(adding(1), chain, graph), await open(adding(2), chain, graph)];
    expect(koffi.stats().callbacks - before, "functions that C can call").to.be.below(2 * names.length);
    for (const [session, by] of [
      [one, 1],
      [two, 2],
      [one, 1],
    ] as const) {
      ran.length = 0;
      const { v40 } = await session.run({ a: feeds.a }, none, ["v40"]);
      expect([...(v40!.data as Float32Array)]).to.deep.equal([0, 1, 2, 3, 4, 5].map((v) => v + 40 * by));
      expect(ran).to.deep.equal(names);
    }
    one.close();
    two.close();
    expect(koffi.stats().callbacks, "functions left").to.equal(before);
  });

  it("tell why they fail, and the session goes on", async () => {
    let fault = "a kernel that fails";
    const session = await open((...args) => {
      if (fault) throw new Error(fault);
      runAdded(...args);
    });
    expect(await failure(session.run(feeds, none, ["sum"]))).to.match(/added.*a kernel that fails/);
    fault = "";
    const { sum } = await session.run(feeds, none, ["sum"]);
    expect(sum!.data[0]).to.equal(1);
    session.close();
  });

  it("refuse tensors of other shapes than their kernels are for", async () => {
    const any = modelOf(
      { a: { dtype: "float32", shape: ["n", 3] }, b },
      [["added", ["a", "b"], ["sum", "above"]]],
      { sum: a },
    );
    let runs = 0;
    const session = await open(() => runs++, [operator], any);
    const three = new ort.Tensor("float32", new Float32Array(9), [3, 3]);
    expect(await failure(session.run({ ...feeds, a: three }, none, ["sum"]))).to.match(
      /input 0: expected shape \[2, 3\], found \[3, 3\]/,
    );
    expect(runs).to.equal(0);
    session.close();
  });

  it("leave nothing behind where a session does not open", async () => {
    const before = koffi.stats().callbacks;
    const unknown = modelOf({ a, b }, [["other", ["a", "b"], ["sum"]]], { sum: a });
    expect(await failure(open(runAdded, [operator], unknown))).to.match(/ort\.pretrain.*other/);
    expect(koffi.stats().callbacks).to.equal(before);
  });
});
