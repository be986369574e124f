import { expect } from "chai";
import type * as ort from "onnxruntime-node";
import { compile } from "../../src/artifact/compile.ts";
import { similarity } from "../../src/methods/similarity.ts";
import { collapseGuard, type Signs, signsOf } from "../../src/train/signs.ts";
import { batchOf, stepperOf } from "./stepping.ts";

const PIXELS = 8;
const artifact = compile({
  method: "similarity",
  encoder: "resnet20",
  imageSize: PIXELS,
  config: { hidden: 32, projection: 16 },
});
const SCALARS = { lr: 0.1, weightDecay: 5e-4 };

const rowsOf = (t: ort.Tensor): number[][] => {
  const d = t.dims.at(-1)!;
  return Array.from({ length: t.data.length / d }, (_, i) =>
    Array.from(t.data.slice(i * d, (i + 1) * d) as Float32Array),
  );
};

describe("similarity, the negative control", () => {
  it("is the negative cosine of the two views of an image, and nothing else", async () => {
    const stepper = await stepperOf(artifact);
    const { outputs, metrics } = await stepper.step(stepper.state(1), batchOf(artifact, 5, PIXELS), SCALARS);
    const z = rowsOf(outputs.embedding!);
    const cosines = z.slice(0, 5).map((a, i) => {
      const b = z[i + 5]!;
      return a.reduce((sum, v, k) => sum + v * b[k]!, 0) / (Math.hypot(...a) * Math.hypot(...b));
    });
    expect(metrics.loss).to.be.closeTo(-cosines.reduce((a, b) => a + b) / 5, 1e-5);
    expect(artifact.manifest.metrics).to.deep.equal(["loss"]);
  });

  it("collapses, with a perfect loss, and the guard of a run stops it", async () => {
    const stepper = await stepperOf(artifact);
    const guard = collapseGuard();
    let state = stepper.state(1);
    const signs: Signs[] = [];
    let [loss, diagnosis]: [number, string | undefined] = [0, undefined];
    let step = 0;
    for (; step < 200 && !diagnosis; ) {
      step++;
      const batch = batchOf(artifact, 12, PIXELS, step);
      const { outputs, metrics, next } = await stepper.step(state, batch, SCALARS);
      const [rows, d] = outputs.embedding!.dims as [number, number];
      signs.push(await signsOf({ data: outputs.embedding!.data as Float32Array, rows, d }));
      if (step % 10 === 0) diagnosis = guard.look(step, signs.at(-1)!, { rows, d, images: 12 });
      loss = metrics.loss!;
      state = next;
    }
    expect(signs[0]!.std, "spread at the start").to.be.above(0.3);
    expect(signs.at(-1)!.std).to.be.below(0.05);
    expect(loss).to.be.below(-0.99);
    expect(diagnosis).to.match(/^the representation has collapsed at step 140: /);
  });

  it("has no blur for small images", () => {
    const [small, large] = [32, 224].map((size) => similarity.views(similarity.config(size).parse({}), size));
    expect([small![0]!.blur.p, large![0]!.blur.p]).to.deep.equal([0, 0.5]);
    expect(large![0]).to.deep.equal(large![1]);
  });
});
