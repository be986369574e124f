import { createHash } from "node:crypto";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import type { ArtifactSpec } from "../../src/artifact/artifact-spec.ts";
import { compile, targetNamed } from "../../src/artifact/compile.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input, type Tensor } from "../../src/graph/tensor.ts";
import { add, mul } from "../../src/ops/elementwise.ts";
import { cast, concat } from "../../src/ops/movement.ts";
import { type NativeSession, nativeRuntime } from "../../src/runtime/c-api.ts";
import { fitted } from "../../src/runtime/cpu/fitted.ts";
import { deviceMemory } from "../../src/runtime/cuda/memory.ts";
import { feeding } from "../../src/runtime/feeding.ts";
import { ortApi } from "../../src/runtime/ort-api.ts";
import { openSession } from "../../src/runtime/session.ts";
import { initialState, toRuntime } from "../../src/runtime/state.ts";
import { inPlace, type StatefulSession } from "../../src/runtime/stateful.ts";
import type { StateEntry } from "../../src/spec.ts";
import { failure } from "../data/folder.ts";
import { batchOf } from "../methods/stepping.ts";
import { openTestDevice } from "./cuda/device.ts";

const OPTIONS = { threads: 1, asWritten: true };
const [IMAGES, STEPS] = [8, 3];

const pixelsOf = (side: number) =>
  new ort.Tensor(
    "uint8",
    Uint8Array.from({ length: 2 * side * side * 3 }, (_, i) => (i * 97) % 256),
    [2, side, side, 3],
  );
const floats = (values: readonly number[], dims: readonly number[] = [values.length]) =>
  new ort.Tensor("float32", Float32Array.from(values), dims);

describe("runtime/stateful", () => {
  before(function () {
    if (process.platform !== "linux") this.skip();
  });

  const native = async (graph: Uint8Array) => nativeRuntime()!.open(graph, OPTIONS);
  /** The session computes on the host all the same, in memory that it is told to be the host's. */
  const onDevice = (session: NativeSession, device = openTestDevice()): NativeSession => {
    const api = ortApi()!;
    return { ...session, memory: deviceMemory(api, api.host, device) };
  };

  const compiled = (spec: ArtifactSpec, pieces = 1) => {
    const artifact = compile(spec, targetNamed("cpu", pieces));
    return { ...artifact, initial: initialState(artifact.manifest, { seed: 1, images: IMAGES }) };
  };

  /** The state after some steps, and what each put out. */
  async function run(
    { manifest, graphs, initial }: ReturnType<typeof compiled>,
    way: "fed" | "in place" | "on a device",
  ) {
    const { images, views } = batchOf({ manifest, graphs }, IMAGES, manifest.encoder.imageSize);
    const [whole, banks] = [manifest.state.filter((s) => !s.rows), manifest.state.filter((s) => s.rows)];
    const own = [...initial].map(
      ([name, tensor]) => [name, { ...tensor, data: tensor.data.slice() }] as const,
    );
    const named = Object.fromEntries(own.map(([name, tensor]) => [name, toRuntime(tensor)]));
    const state = Object.fromEntries(whole.map(({ name }) => [name, named[name]!]));
    const step = await fitted(graphs.step);
    const device = openTestDevice();
    const open: Record<typeof way, () => Promise<StatefulSession>> = {
      fed: async () => feeding(await openSession(step, "step", OPTIONS), whole, state, { open: openSession }),
      "in place": async () => inPlace(await native(step), whole, state),
      "on a device": async () => inPlace(onDevice(await native(step), device), whole, state),
    };
    const session = await open[way]();
    const reader = await session.openReader(await fitted(graphs.encode), "encode", OPTIONS);
    const outputs = [...manifest.metrics, manifest.embedding, ...banks.map(({ next }) => next)];
    const seen: number[][] = [];
    for (let step = 1; step <= STEPS; step++) {
      const scalars = manifest.scalars.map(
        ({ name }) => [name, { step }[name] ?? 0.05 + 0.1 * step] as const,
      );
      const feeds: Record<string, ort.Tensor> = { images, ...views };
      for (const [name, value] of scalars) feeds[name] = new ort.Tensor("float32", [value], []);
      for (const { name } of banks) feeds[name] = named[name]!;
      const results = await session.run(feeds, outputs);
      seen.push(...outputs.map((name) => [...(results[name]!.data as Float32Array)]));
      for (const { name, next } of banks) named[name] = results[next]!;
      const { features } = await reader.run({ images: pixelsOf(manifest.encoder.side) }, ["features"]);
      seen.push([...(features!.data as Float32Array)]);
    }
    expect(device.copied, "bytes that steps copy from the device").to.equal(0);
    const values = Object.entries(await session.read()).map(([name, { dims, data }]) => ({
      name,
      dims: [...dims],
      sha256: createHash("sha256")
        .update(data as Float32Array)
        .digest("hex"),
    }));
    await reader.close();
    await session.close();
    expect(device.count, "tensors left on the device").to.equal(0);
    return { seen, values, whole };
  }

  const specs: Record<string, Partial<ArtifactSpec> & { pieces?: number }> = {
    simclr: { optimizer: "adamw", pieces: 2 },
    "barlow-twins": { encoder: "resnet18", pieces: 2, config: { width: 32 } },
    moco: { config: { queue: 16, splits: 2 } },
    byol: { optimizer: "lars", config: { hidden: 16, projection: 8 } },
    swav: { config: { queue: 16, queueStart: 0, prototypes: 12 } },
    dino: { config: { outputs: 32 } },
    pirl: {},
    simsiam: { precision: "fp16" },
  };
  for (const [method, own] of Object.entries(specs)) {
    const device = ["simclr", "moco", "pirl"].includes(method);
    it(`gives the same bytes in place${device ? " and on a device" : ""} as fed: ${method}`, async () => {
      const { pieces, ...settings } = own;
      const spec = { method, encoder: "resnet20", imageSize: method === "pirl" ? 32 : 16, ...settings };
      const artifact = compiled(spec, pieces);
      const [fed, written] = [await run(artifact, "fed"), await run(artifact, "in place")];
      expect(written.seen).to.deep.equal(fed.seen);
      expect(written.values).to.deep.equal(fed.values);
      if (device) expect(await run(artifact, "on a device")).to.deep.equal(written);
      const over = (role: string) => fed.whole.filter((s) => s.role === role && s.inPlace).length;
      expect(over("optimizer"), "moments that are written over").to.be.greaterThan(0);
      if (own.encoder) expect(over("param"), "large weights that are").to.be.greaterThan(15);
    });
  }

  // x + y is read again after z, the next value of x, is made.
  const [x, y] = [input("x", "float32", [2]), input("y", "float32", ["n", 2])];
  const graph = encodeModel(buildModel({ z: add(x, 1), sum: mul(add(x, y), 2) }, { name: "test" }));
  const entry: StateEntry = {
    name: "x",
    role: "buffer",
    dtype: "float32",
    shape: [2],
    init: { kind: "constant", value: 0 },
    next: "z",
  };

  it("keeps what is not updated in place in two arrays that take turns", async () => {
    const initial = { x: floats([1, 2]) };
    const session = inPlace(await native(graph), [entry], initial);
    const found: number[][] = [];
    for (let i = 0; i < 3; i++) {
      const { sum } = await session.run({ y: floats([10, 20], [1, 2]) }, ["sum"]);
      found.push([...(sum!.data as Float32Array)], [...((await session.read()).x!.data as Float32Array)]);
    }
    expect(found).to.deep.equal([
      [22, 44],
      [2, 3],
      [24, 46],
      [3, 4],
      [26, 48],
      [4, 5],
    ]);
    expect([...(initial.x.data as Float32Array)]).to.deep.equal([3, 4]); // taken over
    await session.close();
  });

  it("does not give state that a failed run may have left half written", async () => {
    const session = inPlace(await native(graph), [entry], { x: floats([1, 2]) });
    expect(await failure(session.run({ y: floats([1, 2, 3], [1, 3]) }, ["sum"]))).to.match(/Expected: 2/);
    expect(await failure(session.read())).to.match(/half written/);
    await session.close();
  });

  it("keeps fed state where its place is: a run that fails leaves it, one that does not replaces it", async () => {
    const done: string[] = [];
    let value = 0;
    const run = async () => {
      if (value === 2) throw new Error("out of memory");
      return { z: floats([++value]) };
    };
    const valuesOf = (tensors: readonly ort.Tensor[]) => tensors.map(({ data }) => data[0]).join();
    const session = feeding(
      { run, close: async () => void done.push("close") },
      [entry],
      { x: floats([0]) },
      {
        open: openSession,
        place: {
          read: async ({ x }) => ({ x: floats([10 * Number(x!.data[0])]) }),
          release: (tensors) => void done.push(`free ${valuesOf(tensors)}`),
          close: async (state) => void done.push(`free ${valuesOf(Object.values(state))} at last`),
        },
      },
    );
    for (let i = 0; i < 2; i++) await session.run({}, []);
    expect(await failure(session.run({}, []))).to.equal("out of memory");
    expect((await session.read()).x!.data[0]).to.equal(20);
    await session.close();
    // The initial value is not the session's to free; what is left goes before the session that allocated it.
    expect(done).to.deep.equal(["free 1", "free 2 at last", "close"]);
  });

  it("keeps the initial arrays of state on a device as they were, and all of it there", async () => {
    const [initial, device] = [{ x: floats([1, 2]) }, openTestDevice()];
    const session = inPlace(onDevice(await native(graph), device), [entry], initial);
    expect(device.count).to.equal(2); // two that take turns
    for (let i = 0; i < 3; i++) await session.run({ y: floats([10, 20], [1, 2]) }, ["sum"]);
    expect([...(initial.x.data as Float32Array)]).to.deep.equal([1, 2]);
    const found = await session.read();
    await session.run({ y: floats([10, 20], [1, 2]) }, ["sum"]);
    expect([...(found.x!.data as Float32Array)]).to.deep.equal([4, 5]); // a copy
    await session.close();
    expect(device.count).to.equal(0);
  });

  it("leaves nothing on a device that has no room for the state", async () => {
    const device = openTestDevice(12);
    const session = onDevice(await native(graph), device);
    expect(() => inPlace(session, [entry], { x: floats([1, 2]) })).to.throw("CUDA failure 2: out of memory");
    expect(device.count).to.equal(0);
  });

  it("refuses next values of another type or size than the state's: they would be written beside it", async () => {
    const run = async (next: Tensor, feeds: Record<string, ort.Tensor> = {}) => {
      const bytes = encodeModel(buildModel({ z: next, one: add(x, 1) }, { name: "test" }));
      const session = inPlace(await native(bytes), [entry], { x: floats([1, 2]) });
      return failure(session.run(feeds, ["one"]));
    };
    expect(await run(cast(x, "int64"))).to.match(/Unexpected output data type/);
    expect(await run(concat([x, x], 0))).to.match(/Got: 2 Expected: 4/);
    const more = input("more", "float32", ["n"]);
    expect(await run(concat([x, more], 0), { more: floats([1, 2, 3]) })).to.match(/Concat node/);
  });

  it("says what the library says of feeds and graphs that do not fit, and goes on", async () => {
    const session = inPlace(await native(graph), [entry], { x: floats([1, 2]) });
    expect(await failure(session.run({ y: floats([1, 2, 3], [1, 3]) }, ["sum"]))).to.match(
      /Got: 3 Expected: 2/,
    );
    expect(await failure(session.run({}, ["sum"]))).to.match(/y/);
    const { sum } = await session.run({ y: floats([10, 20], [1, 2]) }, ["sum"]);
    expect(sum!.dims).to.deep.equal([1, 2]);
    await session.close();
    expect(await failure(native(graph.subarray(0, graph.length - 9)))).to.match(/protobuf|parse/i);
  });
});
