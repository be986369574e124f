import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { writeDetector } from "../../src/export/detector.ts";
import { readDetectorMetadata } from "../../src/export/detector-metadata.ts";
import { readEncoderMetadata } from "../../src/export/metadata.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { linearDetector, SIDE, writeLinearDetector } from "../support/linear-detector.ts";

const classes = ["cat", "dog"];
/** Two cats that overlap, a dog in their place, and a box that reaches beyond the image. */
const objects = [
  [0, 0, 8, 8, 0.5, 0],
  [1, 0, 8, 8, 0.75, 0.25],
  [12, 4, 20, 20, 0, 0.125],
];
/** On white images the last one is found before the others. */
const gain = [
  [0, 0, 0, 0, 0, 0],
  [0, 0, 0, 0, 0, 0],
  [0, 0, 0, 0, 0, 0.75],
];

describe("export/detector", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);

  /** What the plain runtime gives for an image of one shade. */
  async function detect(file: string, shade: number, height: number, width: number) {
    const session = await ort.InferenceSession.create(file, { intraOpNumThreads: 1 });
    const pixels = new Uint8Array(height * width * 3).fill(shade);
    const images = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
    const { boxes, scores, classes, ...others } = await session.run({ images });
    expect(others).to.deep.equal({});
    expect([session.inputNames, session.outputNames]).to.deep.equal([
      ["images"],
      ["boxes", "scores", "classes"],
    ]);
    await session.release();
    const of = [...(scores!.data as Float32Array)].map((score) => Number(score.toFixed(4)));
    return {
      boxes: [...(boxes!.data as Float32Array)],
      scores: of,
      classes: [...(classes!.data as BigInt64Array)],
    };
  }

  it("finds boxes on images of any size in the plain runtime", async () => {
    const { bytes, maxRelative } = await writeLinearDetector(at("detector.onnx"), { objects, gain, classes });
    const file = await readFile(at("detector.onnx"));
    expect(file.length).to.equal(bytes);
    expect(maxRelative).to.be.below(1e-4);
    expect(readDetectorMetadata(file, "d")).to.deep.equal({
      ...{ method: "linear", encoder: "linear", imageSize: SIDE, features: 1, steps: 3, images: 1, seed: 0 },
      classes,
    });
    // A square of 160 pixels: 10 for each of the 16 that the boxes lie in.
    const [cat, dog, corner] = [
      [10, 0, 80, 80],
      [10, 0, 80, 80],
      [120, 40, 160, 100],
    ] as const;
    const dark = await detect(at("detector.onnx"), 0, 100, 160);
    expect(dark.scores).to.deep.equal([0.75, 0.25, 0.125]);
    expect(dark.classes).to.deep.equal([0n, 1n, 1n]);
    [...cat, ...dog, ...corner].forEach((x, i) => {
      expect(dark.boxes[i]).to.be.closeTo(x, 1e-3);
    });
    const bright = await detect(at("detector.onnx"), 255, 16, 16);
    expect(bright.scores).to.deep.equal([0.875, 0.75, 0.25]);
    expect(bright.classes).to.deep.equal([1n, 0n, 1n]);
  });

  it("finds none where nothing scores", async () => {
    await writeLinearDetector(at("none.onnx"), { objects: [[0, 0, 8, 8, 0.05]], classes: ["cat"] });
    expect(await detect(at("none.onnx"), 9, 7, 5)).to.deep.equal({ boxes: [], scores: [], classes: [] });
  });

  it("is no encoder, as an encoder is no detector", async () => {
    const file = await readFile(at("detector.onnx"));
    expect(() => readEncoderMetadata(file, "d.onnx")).to.throw(
      'd.onnx: expected an encoder of images, found "detection"; see ort-pretrain detect',
    );
    const wanted = "e.onnx: expected a detector written by ort-pretrain, found";
    const [{ encode }] = linearDetector({ objects, classes });
    expect(() => readDetectorMetadata(encode, "e.onnx")).to.throw(`${wanted} another model`);
    expect(() => readDetectorMetadata(Buffer.from("?"), "e.onnx")).to.throw(`${wanted} something else`);
  });

  it("is not written where scores differ from those of the training-time graph, however large boxes are", async () => {
    const [parts, names] = linearDetector({ objects: [[0, 0, 1e4, 1e4, 0.5]], classes: ["cat"] });
    const work = writeDetector(at("other.onnx"), parts, names); // frozen at once
    parts.state.get("head.bias")!.data[4] = 0.51;
    expect(await failure(work)).to.match(
      /other\.onnx: expected .* within 0\.1 %, found [12]\.\d+ % off; the file was/,
    );
    expect(await readdir(folder.path)).to.not.include("other.onnx");
  });

  it("is not written with other classes than its head has", async () => {
    const [parts] = linearDetector({ objects, classes });
    expect(await failure(writeDetector(at("other.onnx"), parts, ["cat"]))).to.equal(
      "encode.onnx: expected objects [n, places, 4 + 1 classes], found [3, 6]",
    );
  });
});
