import { expect } from "chai";
import koffi from "koffi";
import * as ort from "onnxruntime-node";
import { buildModel } from "../../../src/graph/model.ts";
import { decodeModel, encodeModel, opsetOf } from "../../../src/graph/protos.ts";
import { input } from "../../../src/graph/tensor.ts";
import { add, mul } from "../../../src/ops/elementwise.ts";
import { reduceSum } from "../../../src/ops/reduce.ts";
import { type NativeRuntime, nativeRuntime } from "../../../src/runtime/c-api.ts";
import { type CapturingOptions, capturing } from "../../../src/runtime/cuda/captured.ts";
import { DOMAIN, type Run } from "../../../src/runtime/cuda/custom-operators.ts";
import type { Fuse } from "../../../src/runtime/cuda/fused-for.ts";
import type { Fused } from "../../../src/runtime/cuda/kernel.ts";
import { deviceMemory } from "../../../src/runtime/cuda/memory.ts";
import { keptState } from "../../../src/runtime/kept-state.ts";
import { ortApi } from "../../../src/runtime/ort-api.ts";
import type { Precision, StateEntry } from "../../../src/spec.ts";
import { failure } from "../../data/folder.ts";
import { openTestDevice } from "./device.ts";
import { NOTHING } from "./operators.ts";

const floats = (values: readonly number[], dims: readonly number[] = [values.length]) =>
  new ort.Tensor("float32", Float32Array.from(values), dims);

// The next value of w may be written over it; q is read again for the outputs.
const [w, q, x] = [input("w", "float32", [2]), input("q", "float32", [2]), input("x", "float32", ["2*n", 2])];
const graph = encodeModel(
  buildModel(
    {
      "w.next": add(w, reduceSum(x, { axes: [0] })),
      "q.next": add(q, 1),
      loss: reduceSum(q),
      rows: mul(x, q),
    },
    { name: "test" },
  ),
);
/** The same with the product as a custom operator, for batches of that size. */
function fused(rows: number): Fused {
  const model = decodeModel(graph);
  model.opsetImport.push(opsetOf(DOMAIN, 1));
  const product = model.graph!.node.find(({ opType }) => opType === "Mul")!;
  Object.assign(product, { opType: "product", domain: DOMAIN });
  const [x, q] = [[rows, 2], [2]].map((shape) => ({ dtype: "float32", shape }) as const);
  const operators = [{ type: "product", inputs: [x!, q!], outputs: [x!], work: NOTHING }];
  return { model: encodeModel(model), operators };
}
const runProduct: Run = ({ inputs: [x] }, [at, by], [to]) => {
  const length = 2 * x!.shape[0]!;
  const values = koffi.decode(at!, "float", length) as Float32Array;
  const factors = koffi.decode(by!, "float", 2) as Float32Array;
  koffi.encode(
    to!,
    "float",
    Array.from(values, (v, i) => v * factors[i % 2]!),
    length,
  );
};

const entries = (["w", "q"] as const).map(
  (name): StateEntry => ({
    name,
    role: "buffer",
    dtype: "float32",
    shape: [2],
    init: { kind: "constant", value: 0 },
    next: `${name}.next`,
    ...(name === "w" && { inPlace: true }),
  }),
);
const batch = (rows: number) => ({
  x: floats(
    Array.from({ length: 2 * rows }, (_, i) => i),
    [rows, 2],
  ),
});

/** What a step of that graph does, by its sizes. */
function stepped({ w, q }: { w: number[]; q: number[] }, rows: number) {
  const { data } = batch(rows).x;
  const values = [...(data as Float32Array)];
  const sum = [0, 1].map((c) => values.filter((_, i) => i % 2 === c).reduce((a, b) => a + b, 0));
  return {
    next: { w: w.map((v, c) => v + sum[c]!), q: q.map((v) => v + 1) },
    loss: q[0]! + q[1]!,
    rows: values.map((v, i) => v * q[i % 2]!),
  };
}

/** What is kept of steps that agreed, in memory. */
function keptAgreements(): { readonly keys: readonly string[] } & NonNullable<CapturingOptions["agreed"]> {
  const all = new Map<string, Uint8Array>();
  return {
    get keys() {
      return [...all.keys()];
    },
    read: async (key) => all.get(key),
    keep: async (more) => {
      for (const [key, bytes] of more) all.set(key, bytes);
    },
  };
}

interface Opening {
  agreed?: ReturnType<typeof keptAgreements>;
  refused?: string;
  fault?: string;
  fuse?: Fuse;
  precision?: Precision;
  runOperator?: Run;
}

describe("runtime/cuda/captured", () => {
  before(function () {
    if (!nativeRuntime()) this.skip();
  });

  /**
   * A step on a device of libc's memory. As on CUDA, the first run of a session that captures computes the step several
   * times; `fault` is thrown after that.
   */
  function open({
    refused,
    fault,
    fuse = () => undefined,
    precision,
    runOperator,
    agreed = keptAgreements(),
  }: Opening = {}) {
    const calls: string[] = [];
    const api = ortApi()!;
    const device = openTestDevice();
    const recorded = {
      ...device,
      toDevice: (...args: Parameters<typeof device.toDevice>) => {
        calls.push("to device");
        device.toDevice(...args);
      },
      within: (...args: Parameters<typeof device.within>) => {
        calls.push("within");
        device.within(...args);
      },
      toHost: (...args: Parameters<typeof device.toHost>) => {
        calls.push("to host");
        device.toHost(...args);
      },
    };
    const memory = deviceMemory(api, api.host, recorded);
    const runtime: Pick<NativeRuntime, "open"> = {
      async open(graph, { sizes, capture = false, operators = [] }) {
        const custom = operators.map(({ type }) => `, ${type}`).join("");
        calls.push(`open ${JSON.stringify(sizes ?? {})}${capture ? " to capture" : ""}${custom}`);
        if (capture && refused) throw new Error(refused);
        const session = await nativeRuntime()!.open(graph, { threads: 1, sizes, operators, runOperator });
        let captured = false;
        return {
          ...session,
          run(...args) {
            calls.push("run");
            return session.run(...args);
          },
          runHere(places) {
            calls.push(captured ? "replay" : "capture");
            session.runHere(places);
            if (captured) return;
            session.runHere(places);
            captured = true;
            if (fault) throw new Error(fault);
          },
          close() {
            calls.push("close");
            session.close();
          },
        };
      },
    };
    const state = keptState(memory, entries, { w: floats([1, 2]), q: floats([3, 4]) }, { still: true });
    calls.length = 0;
    const notes: string[] = [];
    const note = (line: string) => notes.push(line);
    const options = { provider: "cuda", note, fuse, precision, agreed } as const;
    const step = capturing(runtime, graph, "a graph", { memory, state }, options);
    const run = async (rows: number) => {
      const { loss, rows: found } = await step.run(batch(rows), ["loss", "rows"]);
      state.advance();
      const next = Object.fromEntries(Object.entries(state.read()).map(([name, t]) => [name, valuesOf(t)]));
      return { next, loss: valuesOf(loss!)[0], rows: valuesOf(found!) };
    };
    const close = async () => {
      await step.close();
      state.release();
    };
    return { calls, device, notes, step, state, run, close };
  }
  const valuesOf = ({ data }: ort.Tensor) => [...(data as Float32Array)];

  it("makes exactly one step of each run, captured or not, on the same state", async () => {
    const { run, notes, calls, close } = open();
    let state = { w: [1, 2], q: [3, 4] };
    for (const rows of [4, 4, 2, 4, 6, 2, 4]) {
      const wanted = stepped(state, rows);
      expect(await run(rows)).to.deep.equal(wanted);
      state = wanted.next;
    }
    expect(notes).to.deep.equal([]);
    expect(calls.filter((call) => call.startsWith("open"))).to.deep.equal([
      'open {"2*n":4} to capture',
      "open {}",
    ]);
    expect(calls.filter((call) => ["capture", "replay", "run"].includes(call)).join()).to.equal(
      "capture,replay,replay,run,replay,run,run,replay",
    );
    await close();
  });

  it("keeps the state while it captures, and then copies what is fed, what is not in place and what is asked for", async () => {
    const { step, state, calls, device, close } = open();
    await step.run(batch(4), ["loss"]);
    expect(calls).to.deep.equal([
      ...["to host", "to host"], // the state, to be put back
      'open {"2*n":4} to capture',
      ...["to device", "capture"],
      ...["to device", "to device"],
      ...["to device", "replay", "to host"],
    ]);
    calls.length = 0;
    state.advance();
    expect(calls).to.deep.equal(["within"]); // q, not w
    expect(device.count).to.equal(3 + 3); // w, q twice; x, loss, rows
    await close();
    expect(device.count).to.equal(0);
  });

  it("says once why it cannot capture, and goes on without", async () => {
    for (const how of [{ refused: "a node on the CPU" }, { fault: `an old driver\n${"x".repeat(999)}` }]) {
      const { run, notes, calls, close } = open(how);
      let state = { w: [1, 2], q: [3, 4] };
      for (const rows of [4, 4, 2]) {
        const wanted = stepped(state, rows);
        expect(await run(rows)).to.deep.equal(wanted);
        state = wanted.next;
      }
      expect(notes).to.have.length(1);
      expect(notes[0]).to.match(/^warning: .* not captured .*: (a node on the CPU|an old driver x+)$/);
      expect(notes[0]!.length).to.be.below(400);
      expect(calls.filter((call) => call === "run")).to.have.length(3);
      if (how.fault) expect(calls, "the session that failed").to.include("close");
      await close();
    }
  });

  it("runs the step that is fused for the sizes of the first batch, and others as they are", async () => {
    const asked: (readonly [number[], Precision])[] = [];
    const fuse: Fuse = (_, sizes, precision) => {
      asked.push([sizes.of(["n", "2*n"]), precision]);
      return fused(4);
    };
    const { run, notes, calls, close } = open({ fuse, precision: "bf16", runOperator: runProduct });
    let state = { w: [1, 2], q: [3, 4] };
    for (const rows of [4, 4, 2, 4]) {
      const wanted = stepped(state, rows);
      expect(await run(rows)).to.deep.equal(wanted);
      state = wanted.next;
    }
    await close();
    expect(notes).to.deep.equal([]);
    expect(asked).to.deep.equal([[[2, 4], "bf16"]]);
    expect(calls.filter((call) => call.startsWith("open"))).to.deep.equal([
      ...['open {"2*n":4} to capture, product', "open {}"], // to compare
      'open {"2*n":4} to capture, product',
      "open {}",
    ]);
  });

  it("holds a fused step to the one as built, once", async () => {
    const agreed = keptAgreements();
    const given = { fuse: () => fused(4), runOperator: runProduct, agreed };
    for (const compares of [1, 0]) {
      const { run, calls, close } = open(given);
      const state = { w: [1, 2], q: [3, 4] };
      expect(await run(4)).to.deep.equal(stepped(state, 4));
      expect(calls.filter((call) => call === "open {}")).to.have.length(compares);
      await close();
    }
    expect(agreed.keys).to.have.length(1);
  });

  it("leaves a fused step that differs from the one as built, and says in what", async () => {
    const agreed = keptAgreements();
    const wrong: Run = (operator, [at, by], outputs, stream) => {
      runProduct(operator, [at!, by!], outputs, stream);
      koffi.encode(outputs[0]!, "float", [99], 1);
    };
    const { run, notes, close, device } = open({ fuse: () => fused(4), runOperator: wrong, agreed });
    let state = { w: [1, 2], q: [3, 4] };
    for (const rows of [4, 4]) {
      const wanted = stepped(state, rows);
      expect(await run(rows)).to.deep.equal(wanted);
      state = wanted.next;
    }
    expect(notes).to.have.length(1);
    expect(notes[0]).to.match(
      /^warning: steps are not fused .*: a fused step differs .*: rows that is \d+ % off$/,
    );
    await close();
    expect(device.count).to.equal(0);
    expect(agreed.keys).to.deep.equal([]);
  });

  it("captures the step as it is, and says why, where it cannot be fused", async () => {
    const failing = (message: string) => () => {
      throw new Error(message);
    };
    const unknown = { ...fused(4).operators[0]!, type: "other" };
    for (const how of [
      { fuse: failing("a shape that is not known") },
      { fuse: () => ({ ...fused(4), operators: [unknown] }), runOperator: runProduct },
      { fuse: () => fused(4), runOperator: failing("CUDA failure 1: invalid argument") },
    ]) {
      const { run, notes, calls, close } = open(how);
      let state = { w: [1, 2], q: [3, 4] };
      for (const rows of [4, 4]) {
        const wanted = stepped(state, rows);
        expect(await run(rows)).to.deep.equal(wanted);
        state = wanted.next;
      }
      await close();
      expect(notes).to.have.length(1);
      expect(notes[0]).to.match(
        /^warning: steps are not fused and so are slower: .*(not known|product|invalid argument)/,
      );
      expect(calls.filter((call) => call === 'open {"2*n":4} to capture')).to.have.length(1);
      expect(calls).not.to.include("run");
    }
  });

  it("tells what a graph lacks that no session takes", async () => {
    const memory = nativeRuntime()!.memory({});
    const state = keptState(memory, entries, { w: floats([1, 2]), q: floats([3, 4]) });
    const runtime = { open: () => Promise.reject(new Error("a damaged graph")) };
    const options = { provider: "cuda", note: () => {} } as const;
    const step = capturing(runtime, graph, "a graph", { memory, state }, options);
    expect(await failure(step.run(batch(4), ["loss"]))).to.match(
      /^a graph: expected a graph that runs on cuda, found: a damaged graph/,
    );
    await step.close();
  });
});
