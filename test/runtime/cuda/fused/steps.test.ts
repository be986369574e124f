import { expect } from "chai";
import type * as ort from "onnxruntime-node";
import { type ArtifactSpec, compile, targetNamed } from "../../../../src/artifact/compile.ts";
import type { OptimizerChoice } from "../../../../src/methods/method.ts";
import { lowered } from "../../../../src/runtime/cuda/fused/lower.ts";
import { scheduleValue } from "../../../../src/train/schedules.ts";
import { batchOf, stepperOf } from "../../../methods/stepping.ts";
import { evaluate } from "./evaluate.ts";

const at = { step: 50, steps: 100, stepsPerEpoch: 50, images: 10000 };

/** |a - b| / |b|; 0 where both are nothing but rounding, as of gradients that are zero: those of biases before BatchNorm. */
function distance(a: ArrayLike<number>, b: ArrayLike<number>, rounding: number): number {
  let [difference, of, than] = [0, 0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    of += a[i]! ** 2;
    than += b[i]! ** 2;
  }
  if (Math.max(of, than) <= b.length * rounding ** 2) return 0;
  return Math.sqrt(difference / than);
}

/** With an epsilon far above that rounding. */
const adamw: OptimizerChoice = {
  name: "adamw",
  lr: 5e-4,
  weightDecay: 0.05,
  warmupEpochs: 5,
  config: { eps: 1e-3 },
};

const cases: readonly { readonly spec: ArtifactSpec; readonly images: number }[] = [
  { spec: { method: "simclr", encoder: "resnet20", imageSize: 16 }, images: 5 },
  { spec: { method: "simclr", encoder: "vit-tiny", imageSize: 16, optimizer: adamw }, images: 2 },
  { spec: { method: "moco", encoder: "resnet20", imageSize: 16, config: { queue: 32 } }, images: 8 },
  { spec: { method: "swav", encoder: "resnet20", imageSize: 16, optimizer: adamw }, images: 4 },
  { spec: { method: "byol", encoder: "resnet20", imageSize: 16 }, images: 4 },
];

describe("runtime/cuda/fused: whole steps", () => {
  for (const { spec, images } of cases) {
    it(`has the loss and the next state of the plain step: ${spec.method} ${spec.encoder}`, async () => {
      const artifact = compile(spec, targetNamed("cuda", 1));
      const { manifest, graphs } = artifact;
      const stepper = await stepperOf(artifact);
      const batch = batchOf(artifact, images, spec.imageSize);
      const scalars = Object.fromEntries(
        manifest.scalars.map(({ name, schedule }) => [name, scheduleValue(schedule, at)]),
      );
      const state = stepper.state(1);
      const plain = await stepper.step(state, batch, scalars);
      const feeds: Record<string, ort.Tensor> = {
        images: batch.images,
        ...batch.views,
        ...stepper.feeds(state, scalars),
      };
      const fed = new Map(Object.entries(feeds).map(([name, { dims }]) => [name, dims]));
      const step = lowered(graphs.step, fed);
      const names = [...manifest.metrics, ...manifest.state.map(({ next }) => next)];
      const t = performance.now();
      const found = await evaluate(step, feeds, names);
      console.log("evaluated", Math.round(performance.now() - t));
      const far = names.map((name) => ({
        name,
        by: distance(
          found.get(name) as Float32Array,
          plain.outputs[name]!.data as Float32Array,
          name.startsWith("moment2.") ? 1e-16 : 1e-8,
        ),
      }));
      far.sort((a, b) => b.by - a.by);
      console.log(
        far
          .slice(0, 8)
          .map((x) => `${x.name} ${x.by.toExponential(1)}`)
          .join(" | "),
        far.length,
        "loss",
        found.get("loss")![0],
        plain.metrics.loss,
      );
      for (const x of far.slice(0, 6))
        console.log(
          x.name,
          (plain.outputs[x.name]!.data as Float32Array).slice(0, 4),
          (found.get(x.name) as Float32Array).slice(0, 4),
        );
      expect(far.filter(({ by }) => !(by < 1e-4))).to.deep.equal([]);
    });
  }
});
