import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { readEncoderMetadata } from "../../src/export/metadata.ts";
import { temporaryFolder } from "../data/folder.ts";
import { labelled, tinyArtifact } from "../support/pictures.ts";
import { json, run } from "../support/program.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

describe("cli: third-party encoders, and layers of ours", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const sets = () => ["--train", at("train"), "--test", at("test"), "--threads", "1"];

  before(async () => {
    await tinyArtifact(at("graph"));
    await labelled(at("train"), ["green", "red"], 4);
    await labelled(at("test"), ["green", "red"], 2);
    const data = ["--data", at("train"), "--graph", at("graph"), "--batch", "4"];
    await json(["train", ...data, "--steps", "0", "--out", at("run")]);
  });

  it("embed takes a model's inner value, and says beside the features how", async () => {
    const { inner } = JSON.parse(await readFile(fixture("encoders.json"), "utf8"));
    const model = ["--size", "8", "--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.2", "--output", inner];
    const args = [fixture("encoder-classifier.onnx"), "--data", at("test"), "--out", at("f.npy"), ...model];
    expect(await json(["embed", ...args])).to.include({ images: 4, length: 6 });
    const { encoder } = JSON.parse(await readFile(at("f.json"), "utf8"));
    expect(encoder).to.deep.include({
      output: inner,
      mean: [0.5, 0.5, 0.5],
      std: [0.2, 0.2, 0.2],
      features: 6,
    });
  });

  it("probe takes a model's tokens, also without labels", async () => {
    const model = [fixture("encoder-tokens.onnx"), "--mean", "imagenet", "--pool", "mean"];
    expect(await json(["probe", ...model, "--kind", "knn", ...sets()])).to.include({
      train: 8,
      test: 4,
      features: 8,
    });
    const rank = await json(["probe", ...model, "--kind", "rank", "--data", at("train")]);
    expect(rank).to.include({ images: 8, features: 8 });
  });

  it("probe takes a model's stages by their names, and trains on views of the model's size", async () => {
    const stages = ["/patch_embed/proj/Conv_output_0", "/blocks/blocks.0/Add_output_0"];
    const kinds = ["--kind", "layers,linear", "--stages", stages.join(), "--augment", "--epochs", "1"];
    const { probes } = await json([
      ...["probe", fixture("encoder-tokens.onnx"), "--mean", "imagenet"],
      ...[...kinds, ...sets()],
    ]);
    const [layers, linear] = probes as [{ layers: { name: string }[] }, object];
    expect(layers.layers.map(({ name }) => name)).to.deep.equal([...stages, "features"]);
    expect(linear).to.include({ kind: "linear", augment: true, features: 8 });
  });

  it("export --stages writes what probe --kind layers shows as a table", async () => {
    const { encoder } = await json(["export", at("run"), "--stages", "--out", at("staged")]);
    const { stages } = readEncoderMetadata(await readFile(encoder as string), "encoder.onnx");
    expect(stages!.map(({ name }) => name)).to.deep.equal(["conv1", "layer1", "layer2", "layer3"]);
    const { stdout } = await run(["probe", encoder as string, "--kind", "layers", ...sets()]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines[0]).to.equal("layers top-1 (28 epochs; 8 train and 4 test images)");
    expect(lines.slice(1).map((line) => line.trim().split(" ")[0])).to.deep.equal([
      ...["conv1", "layer1", "layer2", "layer3", "features"],
    ]);
    expect(lines[1]).to.match(/^ {2}conv1 {5}\d+\.\d\d % {2}\(95 %: [\d.]+ to [\d.]+; 4096 values\)$/);
  });
});
