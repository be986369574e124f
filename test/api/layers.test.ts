import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { openEncoder } from "../../src/api/encoder.ts";
import { exportEncoder } from "../../src/api/export.ts";
import { checkRoom } from "../../src/api/features.ts";
import { columnsOf, openLayers } from "../../src/api/layers.ts";
import { probe, probes } from "../../src/api/probe.ts";
import { train } from "../../src/api/train.ts";
import { readEncoderMetadata } from "../../src/export/metadata.ts";
import { randomFor } from "../../src/random.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { labelled, tinyArtifact } from "../support/pictures.ts";

describe("api/layers", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const images = (encoder: string) => ({
    encoder: at(encoder),
    train: at("train"),
    test: at("test"),
    threads: 1,
  });
  const SIZE = 16;

  before(async () => {
    await tinyArtifact(at("graph"));
    await labelled(at("train"), ["green", "red"], 4);
    await labelled(at("test"), ["green", "red"], 3);
    await train({ data: at("train"), out: at("run"), graph: at("graph"), batch: 4, steps: 2, threads: 1 });
    await exportEncoder(at("run"), { out: at("staged"), stages: true, threads: 1 });
  });

  it("gives a linear classifier's accuracy at each layer, of a run or of its encoder with stages", async () => {
    const [layers, knn] = await probes({ ...images("run"), kinds: ["layers", "knn"] });
    const sizes = layers!.layers!.map(({ name, features }) => [name, features]);
    expect(sizes).to.deep.equal([
      ["conv1", 16 * SIZE ** 2],
      ["layer1", 16 * SIZE ** 2],
      ["layer2", 32 * (SIZE / 2) ** 2],
      ["layer3", 64 * (SIZE / 4) ** 2],
      ["features", 64],
    ]);
    for (const { top1, low, high, lr } of layers!.layers!) {
      expect(low).to.be.at.most(top1);
      expect(high).to.be.at.least(top1);
      expect(lr).to.be.above(0);
    }
    expect(layers!.layers![0]!.top1, "hues are told apart from the first layer on").to.equal(100);
    const last = layers!.layers!.at(-1)!;
    expect(layers).to.deep.include({
      kind: "layers",
      epochs: 28,
      top1: last.top1,
      features: 64,
      train: 8,
      test: 6,
    });
    expect(knn).to.deep.equal(await probe({ ...images("run"), kind: "knn" }));
    expect(await probe({ ...images("staged"), kind: "layers" })).to.deep.equal(layers);
  });

  it("opens an encoder with stages whose features are those of the plain one, after the layers before", async () => {
    const random = randomFor("layers");
    const pixels = Uint8Array.from({ length: 3 * SIZE * SIZE * 3 }, () => random.integer(256));
    const plain = await openEncoder(at("run"), { threads: 1 });
    const staged = await openEncoder(at("staged"), { threads: 1 });
    const layered = await openLayers(at("staged"), { threads: 1 });
    const [wanted, same, all] = [
      await plain.encode(pixels, [3, SIZE, SIZE, 3]),
      await staged.encode(pixels, [3, SIZE, SIZE, 3]),
      await layered.encode(pixels, [3, SIZE, SIZE, 3]),
    ];
    expect(same).to.deep.equal(wanted);
    const { features: d } = layered.metadata;
    const wide = { data: all, n: 3, d, labels: new Int32Array(3), classes: ["a"] };
    expect(columnsOf(wide, layered.layers.at(-1)!).data).to.deep.equal(wanted);
    // The mean over a layer's map, which a grid as fine as the map leaves as it is, is what the features are.
    const map = columnsOf(wide, layered.layers.at(-2)!);
    const places = (SIZE / 4) ** 2;
    for (let i = 0; i < 3 * 64; i++) {
      const mean = map.data.subarray(i * places, (i + 1) * places).reduce((sum, x) => sum + x, 0) / places;
      expect(wanted[i]).to.be.closeTo(mean, 1e-5);
    }
    for (const encoder of [plain, staged, layered]) await encoder.close();
    const { stages } = readEncoderMetadata(await readFile(at("staged/encoder.onnx")), "staged");
    expect(stages![3]).to.deep.equal({ name: "layer3", channels: 64, places });
  });

  it("refuses an encoder without its stages, features, and what it says itself", async () => {
    const refused = async (options: object) => await failure(probe({ kind: "layers", ...options }));
    const file = at("run/encoder.onnx");
    expect(await refused({ ...images("run"), encoder: file })).to.match(
      /encoder\.onnx: expected an encoder with its stages, found one without; export it with --stages, or give the run's/,
    );
    expect(await refused({ features: ["a.npy", "b.npy"] })).to.match(
      /kind layers: expected an encoder with folders, found features; embed writes the last layer alone/,
    );
    expect(await refused({ ...images("run"), encoder: at("graph/encode.onnx") })).to.match(
      /encode\.onnx: expected one input, for images, that --output depends on, found \d+/,
    );
    for (const encoder of ["run", "staged"])
      expect(await refused({ ...images(encoder), stages: ["conv1"] })).to.match(
        /--stages: expected it with a third-party model, found .*, which says it itself/,
      );
    const model = { mean: "half" } as const;
    for (const kind of ["layers", "knn"] as const) {
      expect(await failure(probe({ ...images("run"), kind, model }))).to.match(
        /--mean: expected it with a third-party model, found .*run.*, which says it itself/,
      );
    }
    expect(await failure(probe({ kind: "knn", features: ["a.npy", "b.npy"], model }))).to.match(
      /expected an encoder with folders, or features, found both/,
    );
    expect(() => checkRoom(1e9, 1e6)).to.throw(
      /GB, found 4000000\.0 GB of 1000000000 images; take fewer images with --limit/,
    );
  });
});
