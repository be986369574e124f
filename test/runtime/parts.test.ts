import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { compile, compileInParts } from "../../src/artifact/compile.ts";
import { inMemory } from "../../src/artifact/files.ts";
import { TrainingScope } from "../../src/artifact/scope.ts";
import { trainingStep } from "../../src/artifact/step.ts";
import { encoderNamed } from "../../src/encoders/index.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input } from "../../src/graph/tensor.ts";
import { methodNamed } from "../../src/methods/index.ts";
import { nativeRuntime } from "../../src/runtime/c-api.ts";
import { fitted } from "../../src/runtime/cpu/fitted.ts";
import { deviceMemory } from "../../src/runtime/cuda/memory.ts";
import { fedMemory, openFed } from "../../src/runtime/fed.ts";
import { hostMemory } from "../../src/runtime/memory.ts";
import { ortApi } from "../../src/runtime/ort-api.ts";
import { openParts } from "../../src/runtime/parts.ts";
import { initialState, toRuntime } from "../../src/runtime/state.ts";
import type { Keeper } from "../../src/runtime/stateful.ts";
import { VIEW_COLUMNS } from "../../src/spec.ts";
import { augment } from "../../src/views/augment.ts";
import { apart } from "../apart.ts";
import { batchOf, openGraph, stepperOf } from "../methods/stepping.ts";
import { openTestDevice } from "./cuda/device.ts";

const SCALARS = {
  lr: 0.1,
  "lr.constant": 0.1,
  weightDecay: 5e-4,
  temperature: 0.5,
  momentum: 0.9,
  step: 1,
};

async function inParts(spec: Parameters<typeof compileInParts>[0], images: number, microBatch: number) {
  const { manifest, graphs } = compileInParts(spec);
  const whole = compile(spec);
  const batch = batchOf(whole, images, spec.imageSize);
  const state = initialState(manifest, { seed: 1, images });
  const feeds: Record<string, ort.Tensor> = { images: batch.images, ...batch.views };
  const scalars = Object.fromEntries(
    manifest.scalars.map(({ name }) => [
      name,
      toRuntime({ dtype: "float32", shape: [], data: Float32Array.of(SCALARS[name as "lr"]) }),
    ]),
  );
  const fed = { ...feeds, ...scalars };
  for (const [name, tensor] of state) fed[name] = toRuntime(tensor);
  const artifact = inMemory(manifest, graphs);
  const own = Object.fromEntries(manifest.state.map(({ name }) => [name, copyOf(fed[name]!)]));
  const parts = await openParts(artifact, microBatch, manifest.state, () => own, { threads: 1 });
  const watched = await parts.run(fed, [...manifest.metrics, manifest.embedding]);
  const after = await parts.read();
  await parts.close();
  const results = {
    ...watched,
    ...Object.fromEntries(manifest.state.map(({ name, next }) => [next, after[name]!])),
  };
  return { manifest, whole, batch, fed, results };
}

const copyOf = ({ data, dims }: ort.Tensor) => new ort.Tensor("float32", data.slice() as Float32Array, dims);

describe("a step in micro-batches", () => {
  const cut = {
    simclr: { hidden: 32 },
    "barlow-twins": { width: 16 },
    vicreg: { width: 16 },
    byol: { hidden: 16, projection: 8 },
    simsiam: { projection: 16, predictor: 8 },
  };
  for (const [method, config] of Object.entries(cut)) {
    it(`of ${method} equals the whole step where one micro-batch holds all images, to 1e-4`, async () => {
      const spec = { method, encoder: "resnet20", imageSize: 16, config, optimizer: "sgd" };
      const { manifest, whole, batch, results } = await inParts(spec, 6, 6);
      // With the same convolutions: the mean of what is normalised is nothing but their rounding errors.
      const step = await fitted(whole.graphs.step);
      const stepper = await stepperOf({ ...whole, graphs: { ...whole.graphs, step } });
      const wanted = await stepper.step(stepper.state(1), batch, SCALARS);
      expect(Object.keys(results)).to.include.members(Object.keys(wanted.outputs));
      expect(results.loss!.data[0]).to.be.closeTo(
        wanted.metrics.loss!,
        1e-5 * Math.abs(wanted.metrics.loss!),
      );
      for (const { name, next } of manifest.state) {
        const [a, b] = [results[next]!.data as Float32Array, wanted.outputs[next]!.data as Float32Array];
        expect(apart(a, b), name).to.be.below(1e-4);
      }
    });
  }

  it("equals a whole step that normalises the same images together, to 1e-4", async () => {
    const [images, microBatch] = [12, 4];
    const spec = { method: "simclr", encoder: "resnet20", imageSize: 16, config: { projection: 16 } };
    const { manifest, fed, results } = await inParts(spec, images, microBatch);

    // The whole step with its batch split in three. Part i of a split batch holds the rows i, i + 3, ...
    const method = methodNamed("simclr");
    const config = method.config(16).parse(spec.config);
    const n = "3*n";
    const pixels = input("images", "uint8", [n, "h", "w", 3]);
    const params = [0, 1].map((i) => input(`view${i}`, "float32", [n, VIEW_COLUMNS.length]));
    const recipes = method.views(config, 16);
    const views = augment(pixels, params, recipes);
    const encode = (s: TrainingScope, x: typeof pixels) => encoderNamed("resnet20").build(s, x, 16);
    const scope = new TrainingScope({ views, params, encode: encode as never });
    const { outputs } = scope.with({ splits: 3 }, () =>
      trainingStep(scope, method, config, method.optimizer(16)),
    );
    const session = await openGraph(encodeModel(buildModel(outputs, { name: "split" })));
    const parts = images / microBatch;
    const order = Array.from({ length: images }, (_, i) => (i % parts) * microBatch + Math.floor(i / parts));
    const turned = Object.fromEntries(
      session.inputNames.map((name) => {
        const t = fed[name]!;
        if (t.dims[0] !== images || !["images", "view0", "view1"].includes(name)) return [name, t];
        const size = t.data.length / images;
        const data = t.data.slice() as Float32Array;
        order.forEach((from, to) => {
          data.set((t.data as Float32Array).subarray(from * size, (from + 1) * size), to * size);
        });
        return [name, new (t.constructor as typeof ort.Tensor)(t.type as "float32", data, t.dims)];
      }),
    );
    const wanted = await session.run(turned);
    expect(Number(results.loss!.data[0])).to.be.closeTo(Number(wanted.loss!.data[0]), 1e-5);
    for (const { name, next, role } of manifest.state) {
      if (role !== "param" && role !== "optimizer") continue;
      const [a, b] = [results[next]!.data as Float32Array, wanted[next]!.data as Float32Array];
      expect(apart(a, b), name).to.be.below(1e-4);
    }
    // Running statistics follow each part in turn.
    const { data } = results["encoder.bn1.running_mean.next"]!;
    expect(data).not.to.deep.equal(fed["encoder.bn1.running_mean"]!.data);
  });

  it("contrasts all images of the batch, where the last micro-batch may be smaller", async () => {
    const spec = { method: "simclr", encoder: "resnet20", imageSize: 16, config: { projection: 8 } };
    const { results } = await inParts(spec, 7, 3);
    expect(results.embedding!.dims).to.deep.equal([14, 8]);
    expect(Number(results.loss!.data[0])).to.be.within(1.5, 4);
  });

  it("keeps its state and the sums of gradients where it computes: the same bytes as fed", async function () {
    const api = ortApi();
    if (!api) this.skip();
    const config = { hidden: 16, projection: 8 };
    const { manifest, graphs } = compileInParts({
      method: "byol",
      encoder: "resnet20",
      imageSize: 16,
      config,
    });
    const { images, views } = batchOf({ manifest, graphs } as never, 7, 16);
    const feeds: Record<string, ort.Tensor> = { images, ...views };
    for (const { name } of manifest.scalars)
      feeds[name] = new ort.Tensor("float32", [SCALARS[name as "lr"]], []);
    const device = openTestDevice();
    const native: Keeper["open"] = (graph, _, options) => nativeRuntime()!.open(graph, options);
    const places: Record<string, Keeper> = {
      fed: { memory: fedMemory, open: openFed },
      "in place": { memory: hostMemory(api), open: native },
      "on a device": { memory: deviceMemory(api, api.host, device), open: native },
    };
    const found: unknown[] = [];
    for (const [name, place] of Object.entries(places)) {
      const drawn = initialState(manifest, { seed: 1, images: 7 });
      const state = Object.fromEntries([...drawn].map(([name, tensor]) => [name, toRuntime(tensor)]));
      const artifact = inMemory(manifest, graphs);
      const options = { threads: 1 };
      const parts = await openParts(artifact, 3, manifest.state, () => state, options, place);
      const losses: unknown[] = [];
      for (let step = 0; step < 2; step++) {
        const { loss, embedding } = await parts.run(feeds, ["loss", "embedding"]);
        losses.push(loss!.data, embedding!.data);
      }
      expect(device.copied, "bytes that steps copy from the device").to.equal(0);
      const after = Object.entries(await parts.read()).map(([name, { data }]) => [name, data.slice()]);
      if (name === "on a device") expect(device.count).to.be.greaterThan(2 * after.length);
      await parts.close();
      found.push({ losses, after: Object.fromEntries(after) });
    }
    expect(found[1]).to.deep.equal(found[0]);
    expect(found[2]).to.deep.equal(found[0]);
    expect(device.count, "tensors left on the device").to.equal(0);
  });

  it("is refused where the loss sees images otherwise", () => {
    expect(() => compileInParts({ method: "moco", encoder: "resnet20", imageSize: 16 })).to.throw(
      "--micro-batch: expected a method whose loss sees images through embeddings alone, such as simclr, found moco",
    );
  });
});
