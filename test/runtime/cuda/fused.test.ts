import { mkdtemp, readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { capturing } from "../../../src/runtime/cuda/captured.ts";
import type { Fused, Operator } from "../../../src/runtime/cuda/kernel.ts";
import { keptState } from "../../../src/runtime/kept-state.ts";
import type { StateEntry } from "../../../src/spec.ts";
import { temporaryFolder } from "../../data/folder.ts";
import { modelOf, SECOND, six } from "./operators.ts";
import { AGREED, type Stubs, stubsOr } from "./stubs.ts";

const [image, kernel] = [
  [1, 1, 6, 1],
  [1, 1, 1, 1],
].map((shape) => ({ dtype: "float32", shape }) as const);
/** The next value of w is v, which is a sum as well; loss is a gradient of a convolution. */
const plain = modelOf({ w: six, v: six, x: image!, dy: image! }, [], { "w.next": six, loss: kernel! }, [
  ["Add", ["w", "v"], ["w.next"]],
  ["Conv", ["x", "dy"], ["loss"]],
]);
const operators: readonly Operator[] = [
  { type: "F0", inputs: [six, six], outputs: [six], work: SECOND },
  {
    type: "W0",
    inputs: [image!, image!],
    outputs: [kernel!],
    work: {
      kind: "cudnn",
      function: "backward-filter",
      pads: [0, 0],
      strides: [1, 1],
      dilations: [1, 1],
    },
  },
];
const fused: Fused = {
  model: modelOf(
    { w: six, v: six, x: image!, dy: image! },
    [
      ["F0", ["w", "v"], ["t"]],
      ["W0", ["x", "dy"], ["loss"]],
    ],
    { "w.next": six, loss: kernel! },
    [
      ["Relu", ["t"], ["u"]],
      ["Identity", ["t"], ["w.next"]],
    ],
  ),
  operators,
};

const numbers = (dims: readonly number[], ...values: number[]) =>
  new ort.Tensor("float32", Float32Array.from(values), [...dims]);
const feeds = {
  v: numbers([6], 1, 2, 3, 4, 5, 6),
  x: numbers([1, 1, 6, 1], 1, 2, 3, 4, 5, 6),
  dy: numbers([1, 1, 6, 1], 1, 0, 1, 0, 1, 0),
};

describe("runtime/cuda: a fused step, captured", () => {
  const folder = temporaryFolder();
  let stubs: Stubs;
  const { ORT_PRETRAIN_CACHE } = process.env;
  before(async function () {
    stubs = stubsOr(this);
    process.env.ORT_PRETRAIN_CACHE = await mkdtemp(join(folder.path, "cache-"));
  });
  after(() => {
    if (ORT_PRETRAIN_CACHE === undefined) delete process.env.ORT_PRETRAIN_CACHE;
    else process.env.ORT_PRETRAIN_CACHE = ORT_PRETRAIN_CACHE;
  });

  const COUNTERS = ["compiled", "launches", "convolutions", "captures", "graph_launches"] as const;
  /** Three steps; what is counted meanwhile. */
  async function steps(form: Fused) {
    const notes: string[] = [];
    const memory = stubs.runtime.memory(stubs.options);
    const entry: StateEntry = {
      name: "w",
      role: "buffer",
      dtype: "float32",
      shape: [6],
      init: { kind: "constant", value: 0 },
      next: "w.next",
    };
    const state = keptState(memory, [entry], { w: numbers([6], 0, 0, 0, 0, 0, 0) }, { still: true });
    const note = (line: string) => notes.push(line);
    const options = { ...stubs.options, asWritten: true, note, agreed: AGREED };
    const where = { memory, state };
    const step = capturing(stubs.runtime, plain, "step", where, { ...options, fuse: () => form });
    const before = COUNTERS.map(stubs.count);
    const losses: number[] = [];
    for (let i = 0; i < 3; i++) {
      const { loss } = await step.run(feeds, ["loss"]);
      losses.push(Number(loss!.data[0]));
      state.advance();
    }
    const counted = COUNTERS.map((name, i) => [name, stubs.count(name) - before[i]!]);
    await step.close();
    state.release();
    return { notes, losses, ...Object.fromEntries(counted) };
  }

  it("compiles its kernels, runs and captures them, and from then on replays them alone", async () => {
    // The runtime runs a graph twice before it captures.
    const captured = { notes: [], launches: 3, convolutions: 3, captures: 1, graph_launches: 1 + 3 };
    const losses = [9, 9, 9];
    expect(await steps(fused)).to.deep.equal({ ...captured, losses, compiled: 1 });
    expect(await readdir(join(process.env.ORT_PRETRAIN_CACHE!, "kernels"))).to.have.length(1);
    expect(await steps(fused)).to.deep.equal({ ...captured, losses, compiled: 0 });
    expect(stubs.count("modules")).to.equal(0);
  });

  it("is captured as it is, with a note, where a kernel does not compile or launch", async () => {
    for (const work of [
      { ...SECOND, source: "#error" },
      { ...SECOND, block: [2048, 1, 1] as const },
    ]) {
      const { notes, captures, graph_launches } = await steps({
        ...fused,
        operators: [{ ...operators[0]!, work }, operators[1]!],
      });
      expect(notes).to.have.length(1);
      expect(notes[0]).to.match(
        /^warning: steps are not fused and so are slower: .*(#error|invalid argument)/,
      );
      expect(captures).to.equal(1);
      expect(graph_launches).to.equal(1 + 3);
      expect(stubs.count("modules")).to.equal(0);
    }
  });
});
