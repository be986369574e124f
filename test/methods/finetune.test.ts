import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { type CompiledArtifact, compile as compileArtifact } from "../../src/artifact/compile.ts";
import { once } from "../../src/graph/once.ts";
import { input } from "../../src/graph/tensor.ts";
import { sigmoidCrossEntropy, smoothedCrossEntropy } from "../../src/nn/losses.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { drawBeta, randomFor } from "../../src/random.ts";
import { initialState } from "../../src/runtime/state.ts";
import { compile, floats } from "../support/run.ts";
import { batchOf, openGraph, type Stepper, type StepResult, stepperOf } from "./stepping.ts";

const [N, CLASSES] = [4, 3];

describe("fine-tuning: the loss", () => {
  it("is the cross-entropy of smoothed, mixed targets, with its gradient", async () => {
    const random = randomFor("fine-tuning");
    const logits = Array.from({ length: N }, () =>
      Array.from({ length: CLASSES }, () => 2 * random.normal()),
    );
    const [first, second] = [
      [0, 2, 1, 1],
      [1, 2, 0, 2],
    ];
    const [smoothing, share] = [0.2, 0.3];
    const [x, labels] = [input("x", "float32", ["n", CLASSES]), input("labels", "float32", ["n"])];
    const mixed = { labels: input("others", "float32", ["n"]), share: input("share", "float32", []) };
    const { loss, accuracy } = smoothedCrossEntropy(x, labels, smoothing, mixed);
    const run = await compile({ loss, accuracy, slope: gradients(loss, [x])[0]! });
    const found = await run({
      x: floats(logits.flat(), [N, CLASSES]),
      labels: floats(first!, [N]),
      others: floats(second!, [N]),
      share: floats([share], []),
    });
    let wanted = 0;
    const slope = logits.map((row, i) => {
      const sum = row.reduce((total, z) => total + Math.exp(z), 0);
      return row.map((z, c) => {
        const hard = share * (first![i] === c ? 1 : 0) + (1 - share) * (second![i] === c ? 1 : 0);
        const target = (1 - smoothing) * hard + smoothing / CLASSES;
        wanted -= (target * (z - Math.log(sum))) / N;
        return (Math.exp(z) / sum - target) / N;
      });
    });
    const right = logits.filter((row, i) => row.indexOf(Math.max(...row)) === first![i]).length;
    expect(Number(found.loss!.data[0])).to.be.closeTo(wanted, 1e-5);
    expect(Number(found.accuracy!.data[0])).to.be.closeTo(right / N, 1e-6);
    slope.flat().forEach((g, i) => {
      expect(Number(found.slope!.data[i])).to.be.closeTo(g, 1e-6);
    });
  });

  it("of independent classes is the sum of their own, with its gradient, however great a logit", async () => {
    const logits = [0, 2, -1.5, 90, -90, 0.5];
    const targets = [1, 0, 0.3, 0, 1, 0.7];
    const smoothing = 0.2;
    const [x, wanted] = [input("x", "float32", ["n", CLASSES]), input("targets", "float32", ["n", CLASSES])];
    const loss = sigmoidCrossEntropy(x, wanted, smoothing);
    const run = await compile({ loss, slope: gradients(loss, [x])[0]! });
    const found = await run({ x: floats(logits, [2, CLASSES]), targets: floats(targets, [2, CLASSES]) });
    let sum = 0;
    logits.forEach((z, i) => {
      const target = (1 - smoothing) * targets[i]! + smoothing / 2;
      // log(1 + exp(z)) in double precision
      sum += target * Math.log1p(Math.exp(-z)) + (1 - target) * Math.log1p(Math.exp(z));
      expect(Number(found.slope!.data[i])).to.be.closeTo((1 / (1 + Math.exp(-z)) - target) / 2, 1e-6);
    });
    expect(Number(found.loss!.data[0])).to.be.closeTo(sum / 2, 1e-4);
  });

  it("draws its shares from Beta(alpha, alpha)", () => {
    for (const alpha of [0.2, 1, 3]) {
      const draws = Array.from({ length: 4000 }, (_, i) => drawBeta(randomFor("beta", alpha, i), alpha));
      const mean = draws.reduce((sum, x) => sum + x, 0) / draws.length;
      const variance = draws.reduce((sum, x) => sum + (x - mean) ** 2, 0) / draws.length;
      expect(mean).to.be.closeTo(0.5, 0.03);
      expect(variance).to.be.closeTo(1 / (4 * (2 * alpha + 1)), 0.01);
    }
  });
});

describe("fine-tuning: the step", () => {
  const CONFIG = { classes: CLASSES, smoothing: 0 };
  const artifactOf = (config: object) =>
    compileArtifact({
      method: "finetune",
      encoder: "resnet20",
      imageSize: 16,
      config: { ...CONFIG, ...config },
    });
  const plain = artifactOf({});

  /** An artifact and what runs its step, once for each configuration. */
  const opened = new Map<string, Promise<{ artifact: CompiledArtifact; stepper: Stepper }>>();
  const open = (config: object) =>
    once(opened, JSON.stringify(config), async () => {
      const artifact = artifactOf(config);
      return { artifact, stepper: await stepperOf(artifact) };
    });

  /** A first step, from the same weights and images whatever the settings. */
  async function stepOf(config: object, more: Readonly<Record<string, ort.Tensor>> = {}) {
    const { artifact, stepper } = await open(config);
    const state = stepper.state(1);
    const { images, views } = batchOf(plain, N, 16);
    const labels = new ort.Tensor("int64", BigInt64Array.of(0n, 2n, 1n, 2n), [N]);
    const scalars = { lr: 0.1, "lr.head": 0.5, weightDecay: 0, step: 1 };
    const done = await stepper.step(state, { images, views: { ...views, labels, ...more } }, scalars);
    const change = (name: string) => {
      const [from, to] = [state.get(name)!.data, done.next.get(name)!.data] as [Float32Array, Float32Array];
      return to.map((x, i) => x - from[i]!);
    };
    return { artifact, stepper, state, done, change };
  }

  it("gives a stage the rate of the next one times the decay, and the classifier its own", async () => {
    const [even, decayed] = [await stepOf({}), await stepOf({ layerDecay: 0.5 })];
    const factors = {
      "encoder.conv1.weight": 0.5 ** 4,
      "encoder.bn1.bias": 0.5 ** 4,
      "encoder.layer1.0.conv1.weight": 0.5 ** 3,
      "encoder.layer3.2.bn2.weight": 0.5,
      "head.weight": 1,
    };
    for (const [name, factor] of Object.entries(factors)) {
      const [whole, part] = [even.change(name), decayed.change(name)];
      const at = whole.reduce((best, x, i) => (Math.abs(x) > Math.abs(whole[best]!) ? i : best), 0);
      expect(part[at]! / whole[at]!, name).to.be.closeTo(factor, 0.02 * factor);
    }
    expect(even.artifact.manifest.scalars.find(({ name }) => name === "lr.head")?.schedule).to.deep.include({
      from: 0.5,
    });
  });

  it("keeps the bytes of frozen stages, their running statistics too, and has no momentum for them", async () => {
    const { artifact, state, done } = await stepOf({ freezeUntil: "layer2" });
    const isFrozen = (name: string) => /^encoder\.(conv1|bn1|layer1|layer2)\./.test(name);
    for (const { name, role } of artifact.manifest.state) {
      const same = Buffer.from((done.next.get(name)!.data as Float32Array).buffer).equals(
        Buffer.from((state.get(name)!.data as Float32Array).buffer),
      );
      expect(same, name).to.equal(isFrozen(name));
      if (role === "optimizer") expect(isFrozen(name.replace(/^momentum\./, "")), name).to.equal(false);
    }
    const head = artifactOf({ freezeUntil: "features" }).manifest.state.filter(
      ({ role }) => role === "optimizer",
    );
    expect(head.map(({ name }) => name)).to.deep.equal(["momentum.head.weight", "momentum.head.bias"]);
    expect(() => artifactOf({ freezeUntil: "layer9" })).to.throw(
      /unknown stage "layer9": did you mean "layer/,
    );
  });

  it("exports moving averages of weights and running statistics, warmed up", async () => {
    const { artifact, stepper, state, done } = await stepOf({ ema: 0.99 });
    const names = ["encoder.layer1.0.conv1.weight", "encoder.bn1.running_mean", "head.bias"];
    const { images, views } = batchOf(plain, N, 16);
    const labels = new ort.Tensor("int64", BigInt64Array.of(0n, 2n, 1n, 2n), [N]);
    const scalars = { lr: 0.1, "lr.head": 0.5, weightDecay: 0, step: 2 };
    const second = await stepper.step(done.next, { images, views: { ...views, labels } }, scalars);
    const kept = 3 / 12;
    for (const name of names) {
      const [from, to] = [state.get(name)!.data, done.next.get(name)!.data] as [Float32Array, Float32Array];
      const average = second.next.get(`average.${name}`)!.data as Float32Array;
      from.forEach((x, i) => {
        expect(average[i], name).to.be.closeTo(kept * x + (1 - kept) * to[i]!, 1e-5);
      });
    }
    const encode = await openGraph(artifact.graphs.encode);
    const read = encode.inputNames.filter((name) => name !== "images");
    expect(read).to.include.members(names.map((name) => `average.${name}`));
    expect(read.every((name) => name.startsWith("average."))).to.equal(true);
  });

  it("mixes classes as it mixes images", async () => {
    const order = new ort.Tensor("int64", BigInt64Array.of(3n, 2n, 0n, 1n), [N]);
    const at = (share: number) =>
      stepOf({ mixup: 1 }, { mixup: order, "mixup.share": new ort.Tensor("float32", [share], []) });
    const lossOf = ({ done }: { done: StepResult }) => done.metrics.loss!;
    const unmixed = lossOf(await stepOf({}));
    expect(lossOf(await at(1))).to.be.closeTo(unmixed, 1e-5);
    expect(lossOf(await at(0))).to.be.closeTo(unmixed, 1e-5); // all of the others, with their classes
    expect(lossOf(await at(0.5))).not.to.be.closeTo(unmixed, 1e-3);
  });

  it("takes any number of classes of an image, mixes them as images, and gives each its own probability", async () => {
    const { manifest, graphs } = artifactOf({ independent: true });
    expect(manifest).to.deep.include({ labels: "labels", multiHot: CLASSES });
    expect(plain.manifest).not.to.have.property("multiHot");
    const rows = [0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 1, 1]; // of no class, of one, of two, of two
    const labels = new ort.Tensor("float32", rows, [N, CLASSES]);
    const order = new ort.Tensor("int64", BigInt64Array.of(3n, 2n, 0n, 1n), [N]);
    const lossOf = async (config: object, more: object = {}) =>
      (await stepOf({ independent: true, ...config }, { labels, ...more })).done.metrics.loss!;
    const at = (share: number) =>
      lossOf({ mixup: 1 }, { mixup: order, "mixup.share": new ort.Tensor("float32", [share], []) });
    const unmixed = await lossOf({});
    expect(await at(1)).to.be.closeTo(unmixed, 1e-4);
    expect(await at(0)).to.be.closeTo(unmixed, 1e-4); // all of the others, with their classes
    expect(await at(0.5)).not.to.be.closeTo(unmixed, 1e-3);

    const encode = await openGraph(graphs.encode);
    const state = initialState(manifest, { seed: 1, images: N });
    const feeds = encode.inputNames.map((name) => {
      const entry = state.get(name);
      if (entry) return [name, new ort.Tensor("float32", entry.data as Float32Array, [...entry.shape])];
      return [name, new ort.Tensor("uint8", new Uint8Array(16 * 16 * 3).fill(90), [1, 16, 16, 3])];
    });
    const found = await encode.run(Object.fromEntries(feeds));
    const [weight, bias] = ["weight", "bias"].map((name) => state.get(`head.${name}`)!.data as Float32Array);
    const features = found.features!.data as Float32Array;
    for (let c = 0; c < CLASSES; c++) {
      const logit = features.reduce((sum, x, j) => sum + x * weight![c * features.length + j]!, bias![c]!);
      expect(Number(found.probabilities!.data[c])).to.be.closeTo(1 / (1 + Math.exp(-logit)), 1e-5);
    }
  });
});
