import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import sharp from "sharp";
import { SHAPES, shapes, writeMask } from "../../scripts/shapes.ts";
import { openEncoder } from "../../src/api/encoder.ts";
import { openMap } from "../../src/api/layers.ts";
import { report } from "../../src/api/report.ts";
import { type SegmentationResult, segmentation, segmentationSummary } from "../../src/api/segmentation.ts";
import { train } from "../../src/api/train.ts";
import { compile, targetNamed } from "../../src/artifact/compile.ts";
import { writeArtifact } from "../../src/artifact/files.ts";
import { decodePlane } from "../../src/data/png.ts";
import { readProbes } from "../../src/report/probes.ts";
import { colorOf } from "../../src/report/segmentation.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { tinyArtifact } from "../support/pictures.ts";
import { json, run as program, refusal } from "../support/program.ts";

const CLASSIFIER = fileURLToPath(new URL("../fixtures/encoder-classifier.onnx", import.meta.url));
const TOKENS = fileURLToPath(new URL("../fixtures/encoder-tokens.onnx", import.meta.url));
const BLOCK = "/blocks/blocks.0/Add_output_0";
const PATCHES = "/patch_embed/proj/Conv_output_0";

describe("api/segmentation", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const asked = () => ({ encoder: at("run"), data: at("data"), epochs: 4, threads: 1 });
  let result: SegmentationResult;

  before(async () => {
    await shapes(at("data"), 12, { width: 30, height: 20 });
    await shapes(at("test"), 3, { width: 16, height: 16, seed: 1 });
    await tinyArtifact(at("graph"));
    const images = at("data/images");
    await train({ data: images, out: at("run"), graph: at("graph"), batch: 4, steps: 1, threads: 1 });
    result = await segmentation(asked());
  });

  it("tells mean IoU, each class's and pixel accuracy of images held out, and gives the same again", async () => {
    expect(result).to.deep.include({ train: 10, test: 2, stage: "layer3", grid: 4, features: 64, epochs: 4 });
    const { names, counts } = result.confusion;
    const place = (name: string) => names.indexOf(name);
    const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
    for (const { class: name, pixels, iou } of result.classes) {
      const own = counts[place(name)]!;
      const both = own[place(name)]!;
      expect(sum(own)).to.equal(pixels);
      const taken = sum(counts.map((row) => row[place(name)]!));
      expect(iou).to.be.closeTo((100 * both) / (pixels + taken - both), 1e-9);
    }
    expect(result.meanIoU).to.be.closeTo(
      sum(result.classes.map(({ iou }) => iou)) / result.classes.length,
      1e-9,
    );
    const right = sum(counts.map((row, i) => row[i]!));
    expect(result.pixelAccuracy).to.be.closeTo((100 * right) / sum(counts.flat()), 1e-9);
    expect(result.low).to.be.at.most(result.meanIoU);
    expect(result.high).to.be.at.least(result.meanIoU);
    expect(await segmentation(asked())).to.deep.equal(result);
  });

  it("takes other images to test on, another stage, and no more pixels than the masks hold", async () => {
    const options = { ...asked(), test: at("test"), stage: "layer1", epochs: 1, limit: 8 };
    const other = await segmentation(options);
    expect(other).to.deep.include({ train: 8, test: 3, stage: "layer1", grid: 16, features: 16 });
    let labelled = 0;
    for (const name of ["000", "001", "002"]) {
      const { values } = await decodePlane(at(`test/masks/${name}.png`));
      labelled += values.filter((value) => value !== 255).length;
    }
    expect(other.classes.reduce((sum, { pixels }) => sum + pixels, 0)).to.equal(labelled);
  });

  it("learns what colours tell, from images whose squares overlap, small ones and such as lie in a margin", async () => {
    // Two hues, on either side of a slanting line: a linear classifier of any stage tells them apart.
    for (const [set, seed] of [["hues", 0] as const, ["hues-test", 1] as const]) {
      await shapes(at(set), 6, { width: 36, height: 24 });
      for (let i = 0; i < 6; i++) {
        const isLeft = (j: number) => (j % 36) + Math.floor(j / 36) / 2 < 12 + 3 * i + seed;
        const mask = Uint8Array.from({ length: 36 * 24 }, (_, j) => (isLeft(j) ? 0 : 3));
        const pixels = Uint8Array.from({ length: 3 * 36 * 24 }, (_, j) =>
          j % 3 === (isLeft(Math.floor(j / 3)) ? 0 : 2) ? 220 : 20,
        );
        const raw = { width: 36, height: 24, channels: 3 } as const;
        await sharp(pixels, { raw }).toFile(at(`${set}/images/00${i}.png`));
        await writeMask(at(`${set}/masks/00${i}.png`), mask, 36, 24);
      }
    }
    await tinyArtifact(at("large-graph"), { method: "simclr", imageSize: 72 });
    const run = { graph: at("large-graph"), batch: 4, steps: 0, threads: 1, rank: false, report: false };
    await train({ ...run, data: at("data/images"), out: at("large") });
    for (const [encoder, grid, epochs] of [["run", 16, undefined] as const, ["large", 36, 100] as const]) {
      const options = { ...asked(), encoder: at(encoder), data: at("hues"), test: at("hues-test") };
      const found = await segmentation({ ...options, stage: "conv1", epochs });
      expect(found.classes.map((one) => one.class)).to.deep.equal(["ground", "triangle"]);
      expect(found).to.deep.include({ grid, epochs: epochs ?? 1000 }); // of one step each
      expect(found.meanIoU, encoder).to.be.above(95);
    }
  });

  it("sees an image whole, as the encoder would see it alone", async () => {
    const map = await openMap(at("run"), { threads: 1 });
    const encoder = await openEncoder(at("run"), { threads: 1 });
    const pixels = Uint8Array.from({ length: 2 * 16 * 16 * 3 }, (_, i) => (i * i) % 251);
    const rows = await map.encode(pixels, [2, 16, 16, 3]);
    const features = await encoder.encode(pixels, [2, 16, 16, 3]);
    expect(map.layers[0]).to.deep.equal({ name: "layer3", channels: 64, places: 16, from: 0 });
    // The features of a ResNet are the means of its last map.
    for (const i of [0, 1])
      for (let c = 0; c < 64; c++) {
        const from = i * map.metadata.features + 16 * c;
        const mean = rows.subarray(from, from + 16).reduce((sum, x) => sum + x, 0) / 16;
        expect(mean).to.be.closeTo(features[64 * i + c]!, 1e-5);
      }
    await map.close();
    await encoder.close();
  });

  it("takes the patch tokens of a ViT's last block", async () => {
    const spec = { method: "simclr", encoder: "vit-tiny", imageSize: 16 };
    const { manifest, graphs } = compile(spec, targetNamed("cpu", 1));
    await writeArtifact(at("vit-graph"), manifest, graphs);
    const options = { graph: at("vit-graph"), batch: 4, steps: 0, threads: 1, rank: false, report: false };
    await train({ ...options, data: at("data/images"), out: at("vit") });
    const found = await segmentation({ ...asked(), encoder: at("vit"), epochs: 1 });
    expect(found).to.deep.include({ stage: "blocks.11", grid: 4, features: 192 });
  });

  it("takes tokens and maps of a third-party model, and says which there are", async () => {
    const vector = { encoder: CLASSIFIER, model: { mean: "half", output: "view" } as const };
    expect(await failure(segmentation({ ...asked(), ...vector }))).to.match(
      /encoder-classifier\.onnx: expected --stage NAME, tokens \[n, t, d\] or a map \[n, c, h, w\] of it, found none, and its output has no places; name one of "getitem" \[n, 8, 4, 4\], /,
    );
    expect(await segmentation({ ...asked(), ...vector, stage: "relu", epochs: 1 })).to.deep.include({
      ...{ stage: "relu", grid: 4, features: 8 },
    });
    expect(await failure(segmentation({ ...asked(), ...vector, stage: "view" }))).to.match(
      /expected tokens \[n, t, d\] or a map \[n, c, h, w\] as --stage view, found \[2, \d+\]/,
    );
    const foreign = { ...asked(), encoder: TOKENS, model: { mean: "imagenet" } as const, epochs: 1 };
    const whole = await segmentation(foreign);
    expect(whole).to.deep.include({ grid: 2, features: 8 });
    // As the model's output it needs no name; named, it is another stage's.
    const named = await segmentation({ ...foreign, stage: BLOCK });
    const model = { ...foreign.model, output: BLOCK };
    expect(await segmentation({ ...foreign, model })).to.deep.equal(named);
    expect((await segmentation({ ...foreign, stage: PATCHES })).grid).to.equal(2);
  });

  it("refuses what it cannot work with, in one line", async () => {
    const refused = (more: object) => failure(segmentation({ ...asked(), ...more }));
    expect(await refused({ encoder: at("run/encoder.onnx") })).to.match(
      /expected the folder of a run, or a third-party model, found an encoder\.onnx, which holds no map of a stage; give the run's folder$/,
    );
    expect(await refused({ stage: "layer4" })).to.equal(
      'unknown stage "layer4": did you mean "layer1"? (known: conv1, layer1, layer2, layer3)',
    );
    expect(await refused({ limit: 1 })).to.match(
      /expected two images or more, to train and to test on, found one/,
    );
    await cp(at("data"), at("one"), { recursive: true });
    for (let i = 0; i < 12; i++)
      await writeMask(at(`one/masks/${String(i).padStart(3, "0")}.png`), new Uint8Array(600).fill(2), 30, 20);
    expect(await refused({ data: at("one") })).to.equal(
      'segmentation probe, training set: expected masks of two classes or more, found one class, "square"',
    );
    await cp(at("test"), at("renamed"), { recursive: true });
    await writeFile(at("renamed/classes.txt"), "ground\ndisc\nbox\ntriangle\n");
    expect(await refused({ test: at("renamed") })).to.equal(
      'segmentation probe, test set: expected the classes.txt of the training set, found class 2 named "box"',
    );
    await cp(at("data"), at("broken"), { recursive: true });
    await rm(at("broken/images/000.png"));
    await writeFile(at("broken/images/000.png"), "no image");
    const stream = new PassThrough();
    const rest = await segmentation(
      { ...asked(), data: at("broken"), epochs: 1 },
      { output: { stream, quiet: true } },
    );
    expect(rest.train + rest.test).to.equal(11);
    expect(String(stream.read()).match(/warning: .*000\.png/g)).to.have.length(1);
  });

  it("is printed, recorded and shown in the report, with pictures", async () => {
    const words = ["--data", at("data"), "--epochs", "4", "--threads", "1", "--confusion", at("pixels.csv")];
    const printed = await json(["probe", at("run"), "--kind", "segmentation", ...words]);
    expect(printed).to.deep.equal(segmentationSummary(result));
    const csv = (await readFile(at("pixels.csv"), "utf8")).trim().split("\n");
    expect(csv[0]).to.equal(["class", ...SHAPES].join(","));
    expect(csv[1]).to.equal(["ground", ...result.confusion.counts[0]!].join(","));
    const [probe] = await readProbes(at("run"));
    expect(probe).to.deep.include({ kind: "segmentation", meanIoU: result.meanIoU, step: 1 });
    expect(probe!.data).to.deep.equal({ images: at("data") });

    const { sprite, files, classes } = result.pictures;
    expect(files).to.have.length(2);
    expect([sprite.columns, sprite.rows]).to.deep.equal([3, 2]);
    const bytes = Buffer.from(sprite.url.slice(sprite.url.indexOf(",") + 1), "base64");
    const { data, info } = await sharp(bytes).raw().toBuffer({ resolveWithObject: true });
    const pixel = (x: number, y: number) =>
      [...data.subarray((y * info.width + x) * info.channels)].slice(0, 3);
    const mask = await sharp(at(`data/masks/${files[0]}`))
      .toColourspace("b-w")
      .raw()
      .toBuffer();
    for (const [x, y] of [
      [3, 3],
      [26, 5],
      [15, 12],
    ] as const) {
      const scale = sprite.cell / 30;
      const top = (sprite.cell - Math.round(20 * scale)) >> 1;
      const found = pixel(sprite.cell + Math.floor((x + 0.5) * scale), top + Math.floor((y + 0.5) * scale));
      expect(found).to.deep.equal([...colorOf(mask[y * 30 + x]!)]);
    }
    expect(classes.every((one) => SHAPES[one.index] === one.class)).to.equal(true);
    expect([0, 1, 2, 15, 255].map(colorOf)).to.deep.equal([
      [0, 0, 0],
      [128, 0, 0],
      [0, 128, 0],
      [192, 128, 128],
      [224, 224, 192],
    ]);

    await report(at("run"), { threads: 1 });
    const page = await readFile(at("run/report.html"), "utf8");
    expect(page)
      .to.include(sprite.url)
      .and.include(`mean IoU, linear on layer3</bdi></th><td><strong>${result.meanIoU.toFixed(2)} %`);
    expect(page).to.include("Row: the class of the pixels");
  });

  it("takes no option of other kinds, nor gives its own to them", async () => {
    const says = async (...args: readonly string[]) => refusal(await program(["probe", at("run"), ...args]));
    const data = ["--data", at("data")];
    expect(await says("--kind", "segmentation")).to.match(
      /a run and --data DIR, with images\/ and masks\/, found no/,
    );
    expect(await says("--kind", "segmentation,knn", ...data)).to.match(/expected segmentation by itself/);
    expect(await says("--kind", "segmentation", ...data, "--baseline", "x.json")).to.match(
      /--baseline: expected it with --kind knn or linear or layers or rank, found --kind segmentation/,
    );
    expect(await says("--kind", "rank", ...data, "--stage", "layer1")).to.match(
      /--stage: expected it with --kind segmentation/,
    );
  });
});
