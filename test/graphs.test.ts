/** The prebuilt artifacts: rebuilt byte for byte, and run by another ONNX Runtime, compiled for the web. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import * as web from "onnxruntime-training-web";
import { PREBUILT } from "../scripts/build-graphs.ts";
import { GRAPHS, prebuiltFolders } from "../src/api/artifacts.ts";
import { compile } from "../src/artifact/compile.ts";
import { readArtifact } from "../src/artifact/files.ts";
import { batchOf, stepperOf } from "./methods/stepping.ts";

describe("prebuilt artifacts", () => {
  it("are what the code builds, byte for byte", async () => {
    const names: string[] = [];
    for (const spec of PREBUILT) {
      const { manifest, graphs } = compile(spec);
      names.push(manifest.name);
      const { files, ...stored } = (await readArtifact(join(GRAPHS, manifest.name))).manifest;
      const advice = `${manifest.name} has changed: run npm run graphs`;
      expect(stored, advice).to.deep.equal(JSON.parse(JSON.stringify(manifest)));
      for (const which of ["step", "encode"] as const) {
        const bytes = await readFile(join(GRAPHS, manifest.name, files[which]!.file));
        expect(bytes.equals(graphs[which]), advice).to.equal(true);
      }
    }
    expect(prebuiltFolders().map((dir) => dir.split(/[\\/]/).at(-1))).to.deep.equal(names.sort());
  });

  it("take a step in ONNX Runtime for the web as they do here", async () => {
    const compiled = compile({ method: "simclr", encoder: "resnet20", imageSize: 32 });
    const stepper = await stepperOf(compiled);
    const state = stepper.state(0);
    const batch = batchOf(compiled, 4, 32);
    const scalars = { lr: 0.1, weightDecay: 1e-4, temperature: 0.5 };
    const here = await stepper.step(state, batch, scalars);

    web.env.wasm.numThreads = 1;
    const session = await web.InferenceSession.create(compiled.graphs.step);
    const feeds: Record<string, web.Tensor> = {};
    for (const [name, t] of [...Object.entries({ images: batch.images, ...batch.views }), ...state]) {
      feeds[name] = new web.Tensor(t.type as "float32", t.data as Float32Array, t.dims);
    }
    for (const [name, value] of Object.entries(scalars)) {
      feeds[name] = new web.Tensor("float32", Float32Array.of(value), []);
    }
    const there = await session.run(feeds);
    expect(there.loss!.data[0]).to.be.closeTo(here.metrics.loss!, 1e-4);
    // Kernels sum in other orders and a ReLU near 0 may fall on either side: the update as a whole must agree.
    const name = "encoder.conv1.weight";
    const before = state.get(name)!.data as Float32Array;
    const [ours, theirs] = [here.outputs, there].map((o) => o[`${name}.next`]!.data as Float32Array);
    const length = (of: (i: number) => number) => Math.hypot(...before.map((_, i) => of(i)));
    const apart = length((i) => ours![i]! - theirs![i]!) / length((i) => ours![i]! - before[i]!);
    expect(apart).to.be.below(0.02);
  });
});
