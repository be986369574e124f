import { cp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { isStale } from "../../src/api/early-stop.ts";
import { finetune, finetuneSummary } from "../../src/api/finetune.ts";
import { compareFinetuned, comparisonLines } from "../../src/api/finetune-compare.ts";
import type { FinetuneOptions } from "../../src/api/finetune-start.ts";
import { findTraining } from "../../src/api/supervised.ts";
import { train } from "../../src/api/train.ts";
import { compile } from "../../src/artifact/compile.ts";
import { readEncoderMetadata } from "../../src/export/metadata.ts";
import { verifyFrozen } from "../../src/export/verify.ts";
import { initialState } from "../../src/runtime/state.ts";
import { latestCheckpoint, loadCheckpoint } from "../../src/train/checkpoint.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { labelled, pictures, tinyArtifact } from "../support/pictures.ts";
import { stopAfter } from "../support/stop-after.ts";

describe("api/finetune", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const CLASSES = ["a", "b", "c"];
  const stateOf = async (run: string) =>
    (await loadCheckpoint((await latestCheckpoint(at(`${run}/checkpoints`)))!)).tensors;
  let told: Omit<FinetuneOptions, "out">;

  before(async () => {
    const graph = await tinyArtifact(at("graph"));
    const photos = await pictures(at("photos"), 8);
    await train({ data: photos, graph, out: at("run"), batch: 4, steps: 2, lr: 0.1, threads: 1 });
    const data = await labelled(at("train"), CLASSES, 10);
    const test = await labelled(at("test"), CLASSES, 3);
    told = {
      encoder: at("run"),
      data,
      test,
      batch: 8,
      epochs: 2,
      mixup: 0.5,
      randAugment: { operations: 2, magnitude: 9 },
      ema: 0.9,
      threads: 1,
      heldOut: 0.2,
    };
  });

  it("takes a balanced subset of the labels, one of each class at least, and holds out some of each", async () => {
    const take = (labels: number, heldOut: number, seed = 0) =>
      findTraining(at("train"), { seed }, { labels, heldOut, earlyStop: null });
    const few = await take(0.01, 0.2);
    expect([...few.sources.labels]).to.deep.equal([0, 1, 2]);
    expect(few.heldOut).to.equal(undefined);
    const half = await take(0.5, 0.2);
    const counts = (labels: Int32Array) => [0, 1, 2].map((c) => labels.filter((label) => label === c).length);
    expect(counts(half.sources.labels)).to.deep.equal([4, 4, 4]);
    expect(counts(half.heldOut!.labels)).to.deep.equal([1, 1, 1]);
    expect(new Set([...half.sources.files, ...half.heldOut!.files])).to.have.property("size", 15);
    for (const { files, labels } of [half.sources, half.heldOut!])
      expect(files.map((file) => file[0])).to.deep.equal(Array.from(labels, (label) => CLASSES[label]));
    expect((await take(0.5, 0.2)).sources.files).to.deep.equal(half.sources.files);
    expect((await take(0.5, 0.2, 1)).sources.files).not.to.deep.equal(half.sources.files);
  });

  it("ends with a classifier: probabilities of the classes that its metadata names", async () => {
    const result = await finetune({ ...told, out: at("tuned") });
    expect(result).to.deep.include({ from: "pretrained", images: 24, heldOut: 6, steps: 6, labels: 1 });
    expect(result.validation).to.be.within(0, 100);
    expect(finetuneSummary(result).test).to.include({ images: 9 });
    const bytes = await readFile(result.classifier!);
    expect(readEncoderMetadata(bytes, "classifier")).to.deep.include({
      method: "finetune",
      classes: CLASSES,
    });

    const state = await stateOf("tuned");
    const [weight, bias] = ["weight", "bias"].map(
      (name) => state.get(`average.head.${name}`)!.data as Float32Array,
    );
    const pixels = Uint8Array.from({ length: 2 * 18 * 16 * 3 }, (_, i) => (i * 37) % 256);
    const images = new ort.Tensor("uint8", pixels, [2, 18, 16, 3]);
    const encoder = await ort.InferenceSession.create(at("tuned/encoder.onnx"));
    expect(encoder.outputNames).to.deep.equal(["features"]);
    const features = (await encoder.run({ images })).features!;
    const d = features.dims[1]!;
    const found = await (await ort.InferenceSession.create(bytes)).run({ images });
    for (const row of [0, 1]) {
      const logits = CLASSES.map((_, c) => {
        let sum = bias![c]!;
        for (let j = 0; j < d; j++) sum += weight![c * d + j]! * Number(features.data[row * d + j]);
        return sum;
      });
      const total = logits.reduce((sum, z) => sum + Math.exp(z), 0);
      logits.forEach((z, c) => {
        expect(Number(found.probabilities!.data[row * 3 + c])).to.be.closeTo(Math.exp(z) / total, 1e-4);
      });
    }
    const others = new Map(state);
    const head = state.get("average.head.bias")!;
    others.set("average.head.bias", { ...head, data: Float32Array.of(9, 0, 0) });
    const encode = await readFile(at("tuned/encode.onnx"));
    const compared = { encode, frozen: bytes, images: { data: pixels, shape: [2, 18, 16, 3] as const } };
    const check = (state: typeof others) =>
      verifyFrozen({ ...compared, state, more: ["probabilities"], where: "classifier" });
    await check(new Map(state));
    expect(await failure(check(others))).to.match(/within 0\.1 %/);
  });

  it("goes on after a stop in the midst of an epoch, and comes to the same bytes", async () => {
    const whole = await finetune({ ...told, out: at("whole") });
    const cut = await finetune({ ...told, out: at("cut") }, stopAfter(2));
    expect(cut).to.deep.include({ interrupted: true, classifier: null, steps: 2 });
    const rest = await finetune({ out: at("cut"), resume: true, test: told.test, threads: 1 });
    expect(await stateOf("cut")).to.deep.equal(await stateOf("whole"));
    expect((await readFile(rest.classifier!)).equals(await readFile(whole.classifier!))).to.equal(true);
    expect(rest.test).to.deep.equal(whole.test);
    expect(await failure(finetune({ out: at("cut"), resume: true, lr: 1 }))).to.match(/found lr/);
  });

  it("trains the classifier alone on frozen features, and starts from the seed's weights from scratch", async () => {
    await finetune({ ...told, out: at("frozen"), from: "frozen", heldOut: 0 });
    const [source, found] = [await stateOf("run"), await stateOf("frozen")];
    for (const [name, tensor] of found)
      if (name.startsWith("encoder.")) expect(tensor, name).to.deep.equal(source.get(name));
    const nothing = { epochs: 1, lr: 1e-30, headLr: 1e-30, weightDecay: 0, seed: 3 };
    await finetune({ ...told, ...nothing, out: at("scratch"), from: "scratch" });
    const { manifest } = compile({
      ...{ method: "finetune", encoder: "resnet20", imageSize: 16, config: { classes: 3 } },
    });
    const drawn = initialState(manifest, { seed: 3, images: 24 });
    const name = "encoder.layer2.0.conv1.weight";
    expect((await stateOf("scratch")).get(name)).to.deep.equal(drawn.get(name));
  });

  it("stops early once the images held out show no gain", async () => {
    expect(isStale([], 1)).to.equal(false);
    expect(isStale([50, 60, 55], 2)).to.equal(false);
    expect(isStale([50, 60, 55, 60], 2)).to.equal(true);
    const nothing = { epochs: 9, lr: 1e-30, headLr: 1e-30, weightDecay: 0, heldOut: 0.2, earlyStop: 2 };
    // Running statistics alone change, which the frozen ones do not.
    const early = { ...told, ...nothing, out: at("early"), from: "frozen" as const };
    expect(await finetune(early)).to.deep.include({ epochs: 3, interrupted: false });
    const again = await finetune({ out: at("early"), resume: true, threads: 1 });
    expect(again).to.deep.include({ epochs: 3, interrupted: false });
  });

  it("compares starts over seeds", async () => {
    const starts = ["scratch", "pretrained"] as const;
    const options = { ...told, epochs: 1, starts, shares: [0.5], seeds: 2, heldOut: 0, out: at("compared") };
    const compared = await compareFinetuned(options);
    expect(compared.rows.map(({ from }) => from)).to.deep.equal(starts);
    for (const { values, mean, std, low, high, images } of compared.rows) {
      const [a, b] = values as [number, number];
      expect(images).to.equal(15);
      expect(mean).to.be.closeTo((a + b) / 2, 1e-9);
      expect(std).to.be.closeTo(Math.abs(a - b) / Math.SQRT2, 1e-9);
      expect((high - low) / 2).to.be.closeTo((12.706 * Math.abs(a - b)) / 2, 1e-9);
    }
    expect(comparisonLines(compared)[1]).to.match(/^50 % +scratch +15 +2 /);
  });

  it("refuses what it cannot start from, in one line", async () => {
    const refused = (options: Partial<FinetuneOptions>) =>
      failure(finetune({ ...told, out: at("refused"), ...options }));
    await rm(at("encoder.onnx"), { force: true });
    await cp(at("run/encoder.onnx"), at("encoder.onnx"));
    expect(await refused({ encoder: at("encoder.onnx") })).to.match(
      /with BatchNorm folded into its convolutions; give the folder of the run that wrote it$/,
    );
    expect(await refused({ data: at("photos") })).to.match(/expected one folder per class/);
    expect(await refused({ test: at("photos") })).to.match(/expected one folder per class/);
    const other = await labelled(at("other"), ["a", "d"], 1);
    expect(await refused({ test: other })).to.match(/class "d", which the training set lacks/);
    expect(await failure(finetune({ out: at("run"), resume: true }))).to.match(/expected a run of finetune/);
    expect(await refused({ from: "frozen", freezeUntil: "layer1" })).to.match(/^--freeze-until: expected/);
    expect(await refused({ earlyStop: 1, heldOut: 0 })).to.match(/^--early-stop: expected images held out/);
  });
});
