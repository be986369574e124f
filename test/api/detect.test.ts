import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import sharp from "sharp";
import { detect } from "../../src/api/detect.ts";
import { evaluateDetector } from "../../src/api/detection-scores.ts";
import type { Objects } from "../../src/data/objects/objects.ts";
import { readDetectorMetadata } from "../../src/export/detector-metadata.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { constant, input } from "../../src/graph/tensor.ts";
import { failure, plain, temporaryFolder } from "../data/folder.ts";
import { writeLinearDetector } from "../support/linear-detector.ts";

const classes = ["cat", "dog"];
/** In units of the longer side over 16. */
const objects = [
  [0, 0, 4, 4, 0.25, 0],
  [4, 2, 12, 20, 0, 0.75],
];

describe("api/detect", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const detector = () => at("detector.onnx");
  const options = { threads: 1 };

  before(async () => {
    await writeLinearDetector(detector(), { objects, classes });
    await folder.write("photos/broken.jpg", "no image");
    await folder.write("photos/inner/.keep", "");
    await folder.write("long/.keep", "");
    await plain(320, 160, "gray").png().toFile(at("photos/wide.png"));
    await plain(100, 200, "gray").png().toFile(at("high.png"));
    await plain(160, 320, "gray")
      .withMetadata({ orientation: 6 })
      .tiff()
      .toFile(at("photos/inner/turned.tif"));
  });

  it("gives boxes in pixels of the image as it is shown, best first", async () => {
    const wide = { width: 320, height: 160, boxes: [[80, 40, 240, 160]], scores: [0.75], classes: ["dog"] };
    const one = await detect(detector(), { ...options, images: at("photos/wide.png") });
    expect(one).to.deep.equal({ images: [{ file: at("photos/wide.png"), ...wide }], out: null });
    const high = await detect(detector(), { ...options, images: at("high.png") });
    expect(high.images[0]!.boxes).to.deep.equal([[50, 25, 100, 200]]);
    const all = await detect(detector(), { ...options, images: at("photos/inner"), score: 0.1 });
    expect(all.images).to.deep.equal([
      {
        ...{ file: "turned.tif", width: 320, height: 160, scores: [0.75, 0.25], classes: ["dog", "cat"] },
        boxes: [
          [80, 40, 240, 160],
          [0, 0, 80, 80],
        ],
      },
    ]);
  });

  it("draws what was found on the images of a folder, and leaves out one that is broken", async () => {
    const said = new PassThrough().setEncoding("utf8");
    const output = { stream: said, quiet: true };
    const { images } = await detect(
      detector(),
      { ...options, images: at("photos"), out: at("drawn") },
      { output },
    );
    expect(images.map(({ file }) => file)).to.deep.equal(["inner/turned.tif", "wide.png"]);
    expect(said.read()).to.match(/^warning: .*broken\.jpg: expected an image .*; it is left out\n$/);
    expect((await readdir(at("drawn"), { recursive: true })).sort()).to.deep.equal([
      "inner",
      "inner/turned.tif.png",
      "wide.png",
    ]);
    for (const file of ["drawn/wide.png", "drawn/inner/turned.tif.png"]) {
      const { data, info } = await sharp(at(file)).raw().toBuffer({ resolveWithObject: true });
      expect([info.width, info.height, info.channels]).to.deep.equal([320, 160, 3]);
      const pixel = (x: number, y: number) => [...data.subarray(3 * (y * 320 + x), 3 * (y * 320 + x) + 3)];
      const gray = [128, 128, 128];
      expect(pixel(160, 100), "within the box").to.deep.equal(gray);
      expect(pixel(300, 20), "beside it").to.deep.equal(gray);
      expect(pixel(80, 100), "on its edge").to.not.deep.equal(gray);
      expect(pixel(239, 100)).to.deep.equal(pixel(80, 100)).and.to.deep.equal(pixel(160, 159));
    }
  });

  it("leaves an image undrawn that is too large for its format, among others", async () => {
    await plain(16_500, 4, "gray").png().toFile(at("long/long.png"));
    const as = (name: string) =>
      detect(detector(), { ...options, images: at("long/long.png"), out: at(name) });
    expect(await failure(as("long.webp"))).to.match(
      /long\.png: expected an image that can be drawn as webp, found .*; draw it as PNG$/,
    );
    await as("long.png");
    await plain(33_000, 4, "gray").png().toFile(at("long/longer.png"));
    const said = new PassThrough().setEncoding("utf8");
    const all = { ...options, images: at("long"), out: at("drawn-long") };
    const { images } = await detect(detector(), all, { output: { stream: said, quiet: true } });
    expect(images).to.have.length(2);
    expect(said.read()).to.match(
      /^warning: .*longer\.png: expected an image of at most 32767 .*; it is not drawn\n$/,
    );
    expect(await readdir(at("drawn-long"))).to.deep.equal(["long.png"]);
  });

  it("writes the format that a file's name ends in", async () => {
    for (const [name, format] of [
      ["a.JPG", "jpeg"],
      ["a.webp", "webp"],
    ] as const) {
      await detect(detector(), { ...options, images: at("photos/wide.png"), out: at(name) });
      expect((await sharp(at(name)).metadata()).format).to.equal(format);
    }
  });

  /** A model with a detector's metadata and outputs of its own. */
  async function forged(name: string, dims: readonly number[]): Promise<string> {
    const length = dims.reduce((a, b) => a * b, 1);
    const value = constant(new Float32Array(length), dims);
    const outputs = { boxes: value, scores: value, classes: value };
    const texts = {
      ...{
        format: "1",
        task: "detection",
        method: "m",
        encoder: "e",
        features: "1",
        steps: "0",
        images: "1",
      },
      ...{ seed: "0", imageSize: "16", classes: '["cat"]' },
    };
    const metadata = Object.fromEntries(
      Object.entries(texts).map(([key, text]) => [`ort-pretrain.${key}`, text]),
    );
    const images = input("images", "uint8", [1, "h", "w", 3]);
    await writeFile(at(name), encodeModel(buildModel(outputs, { name, inputs: [images], metadata })));
    return at(name);
  }

  it("says in one line what cannot be done", async () => {
    const photo = at("photos/wide.png");
    const of = (more: Partial<Parameters<typeof detect>[1]>, file = detector()) =>
      failure(detect(file, { ...options, images: photo, ...more }));
    expect(await of({}, at("none.onnx"))).to.match(
      /none\.onnx: expected a detector\.onnx, found no such file$/,
    );
    expect(await of({}, photo)).to.match(
      /wide\.png: expected a detector written by ort-pretrain, found something else/,
    );
    expect(await of({}, await forged("forged.onnx", [2]))).to.match(
      /forged\.onnx: expected boxes float32 \[k, 4\], scores .*, found boxes float32 \[2\],/,
    );
    expect(await of({ images: at("gone.png") })).to.match(
      /gone\.png: expected an image or a folder .* nothing at/,
    );
    expect(await of({ images: at("photos/broken.jpg") })).to.match(
      /broken\.jpg: expected an image that can be dec/,
    );
    expect(await of({ out: at("photos") })).to.match(
      /--out: expected a file that ends in \.png, \.jpg or \.webp/,
    );
    expect(await of({ out: photo })).to.match(/--out: expected another file than the image/);
    await folder.write("taken.png/file", "");
    expect(await of({ out: at("taken.png") })).to.match(
      /taken\.png: expected a file or none, found something else/,
    );
    expect(await of({ images: at("photos"), out: photo })).to.match(
      /wide\.png: expected a folder, found a file/,
    );
    expect(await of({ images: at("photos"), out: at("photos/") })).to.match(/--out: expected another folder/);
  });

  it("refuses metadata that names no class", async () => {
    const file = await readFile(await forged("classes.onnx", [1]));
    const with_ = (names: string) => Buffer.from(file.toString("latin1").replace('["cat"]', names), "latin1");
    expect(readDetectorMetadata(with_('["dog"]'), "d").classes).to.deep.equal(["dog"]);
    for (const names of ["[     ]", '{"a":1}', "[12345]", "       "])
      expect(() => readDetectorMetadata(with_(names), "d")).to.throw(
        /^d: metadata ort-pretrain.classes: expected /,
      );
  });

  describe("evaluateDetector", () => {
    const sources = (
      files: readonly string[],
      each: readonly Partial<Objects>[],
      names = ["dog", "cat"],
    ) => ({
      root: at("photos"),
      files,
      classes: names,
      labels: new Int32Array(0),
      notes: [],
      objects: each.map(
        (one): Objects => ({
          ...{ boxes: new Float32Array(0), classes: new Int32Array(0), ignored: new Uint8Array(0) },
          ...{ width: 320, height: 160, ...one },
        }),
      ),
    });
    /** What the detector finds, as shares; the classes are counted in another order. */
    const right = {
      boxes: Float32Array.of(0.25, 0.25, 0.75, 1, 0, 0, 0.25, 0.5),
      classes: Int32Array.of(0, 1),
      ignored: new Uint8Array(2),
    };

    it("gives average precision of images with objects, classes by their names", async () => {
      const all = sources(["inner/turned.tif", "wide.png"], [right, right]);
      const found = await evaluateDetector(detector(), all, options);
      expect(found).to.deep.include({ ap: 100, ap50: 100, images: 2, objects: 4, low: 100, high: 100 });
      expect(found.voc).to.deep.equal({ ap50: 100, elevenPoint: 100 });
      expect(found.classes.map((own) => [own.class, own.objects, own.ap])).to.deep.equal([
        ["cat", 2, 100],
        ["dog", 2, 100],
      ]);
      // In one of two images the dog is not where it is found; the cat is not to be found.
      const wrong = {
        ...right,
        boxes: right.boxes.map((x, i) => (i === 2 ? 0.35 : x)),
        ignored: Uint8Array.of(0, 1),
      };
      const half = await evaluateDetector(detector(), sources(all.files, [right, wrong]), options);
      expect(half.objects).to.equal(3);
      expect(half.classes.map(({ ap50 }) => ap50! < 100)).to.deep.equal([false, true]);
    });

    it("measures areas in pixels of the image, as annotations state them", async () => {
      const of = async (areas?: Float32Array) =>
        evaluateDetector(detector(), sources(["wide.png"], [{ ...right, ...(areas && { areas }) }]), options);
      expect(await of()).to.include({ apSmall: null, apMedium: 100, apLarge: 100 }); // 80 x 80 and 160 x 120
      expect(await of(Float32Array.of(100, 100))).to.include({ apSmall: 100, apMedium: null });
    });

    it("leaves out what is broken, and refuses what it does not know", async () => {
      const output = { stream: new PassThrough(), quiet: true };
      const some = sources(["broken.jpg", "wide.png"], [right, right]);
      expect(await evaluateDetector(detector(), some, options, { output })).to.include({
        images: 1,
        ap: 100,
      });
      const others = sources(["wide.png"], [right], ["dog", "cow"]);
      expect(await failure(evaluateDetector(detector(), others, options))).to.match(
        /photos: expected classes that .*detector\.onnx knows \(cat, dog\), found cow$/,
      );
    });
  });
});
