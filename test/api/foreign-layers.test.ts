import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { openEncoder } from "../../src/api/encoder.ts";
import { openForeign } from "../../src/api/foreign.ts";
import { type LayeredOptions, openLayers } from "../../src/api/layers.ts";
import { probe, probes } from "../../src/api/probe.ts";
import { openViewEncoder } from "../../src/api/views.ts";
import type { ForeignOptions } from "../../src/export/foreign.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { constant, input, type Tensor } from "../../src/graph/tensor.ts";
import { add, relu } from "../../src/ops/elementwise.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { cast, reshape, transpose } from "../../src/ops/movement.ts";
import { type DType, type Shape, VIEW_COLUMNS } from "../../src/spec.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { labelled } from "../support/pictures.ts";
import { cropAndResize } from "../views/reference.ts";
import { noise, plain, rowOf } from "../views/support.ts";

const SIZE = 8;
const PLACES = SIZE * SIZE;
const CLASSIFIER = fileURLToPath(new URL("../fixtures/encoder-classifier.onnx", import.meta.url));
const TOKENS = fileURLToPath(new URL("../fixtures/encoder-tokens.onnx", import.meta.url));
const BLOCK = "/blocks/blocks.0/Add_output_0";
const PATCHES = "/patch_embed/proj/Conv_output_0";

/** Gives what it takes as features, and 64 tokens after two others, channels last. */
function echo(shape: Shape, dtype: DType = "float32") {
  const x = input("pixels", dtype, shape);
  const n = shape[0]!;
  const values = add(cast(x, "float32"), 0);
  const mix = constant(
    Float32Array.from({ length: 66 * PLACES }, (_, i) => Math.sin(i)),
    [66, PLACES],
  );
  const tokens = (of: Tensor) => matmul(mix, reshape(of, [n, PLACES, 3])); // [n, 66, 3]
  const last = shape[1] === 3 ? transpose(values, [0, 2, 3, 1]) : values; // [n, h, w, 3]
  const outputs = { echo: reshape(values, [n, 3 * PLACES]), last: relu(last), tokens: tokens(last) };
  return encodeModel(buildModel(outputs, { name: "echo", inputs: [x] }));
}

describe("api/layers of third-party models", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const pixels = (n: number) => Uint8Array.from({ length: n * PLACES * 3 }, (_, i) => (i * i * 7919) % 251);
  const encoded = async (opened: ReturnType<typeof openEncoder>, n: number) => {
    const encoder = await opened;
    const rows = await encoder.encode(pixels(n), [n, SIZE, SIZE, 3]);
    await encoder.close();
    return { rows, d: encoder.metadata.features };
  };
  const sets = () => ({ train: at("train"), test: at("test"), threads: 1 });

  before(async () => {
    await labelled(at("train"), ["green", "red"], 5);
    await labelled(at("test"), ["green", "red"], 3);
  });

  it("pool the values named as stages of ours, before the features", async () => {
    const options: LayeredOptions = { threads: 1, model: { mean: "imagenet" }, stages: [PATCHES, BLOCK] };
    const layered = await openLayers(TOKENS, options);
    expect(layered.layers).to.deep.equal([
      { name: PATCHES, channels: 8, places: 4, from: 0 },
      { name: BLOCK, channels: 8, places: 5, from: 32 },
      { name: "features", channels: 8, places: 1, from: 72 },
    ]);
    const n = 3;
    const { rows, d } = await encoded(Promise.resolve(layered), n);
    expect(d).to.equal(80);
    const plainly = (more: ForeignOptions) =>
      encoded(openEncoder(TOKENS, { threads: 1, model: { mean: "imagenet", ...more } }), n);
    const features = (await plainly({})).rows;
    const first = (await plainly({ output: BLOCK, pool: "cls" })).rows;
    const mean = (await plainly({ output: BLOCK, pool: "mean" })).rows;
    const map = (await plainly({ output: PATCHES })).rows;
    const meanOf = (from: number, count: number) =>
      rows.subarray(from, from + count).reduce((sum, x) => sum + x, 0) / count;
    for (let i = 0; i < n; i++)
      for (let c = 0; c < 8; c++) {
        const row = i * 80;
        expect(rows[row + 72 + c]).to.be.closeTo(features[i * 8 + c]!, 1e-5);
        expect(rows[row + 32 + 5 * c]).to.be.closeTo(first[i * 8 + c]!, 1e-5);
        expect(meanOf(row + 32 + 5 * c + 1, 4)).to.be.closeTo(mean[i * 8 + c]!, 1e-5);
        expect(meanOf(row + 4 * c, 4)).to.be.closeTo(map[i * 8 + c]!, 1e-5);
      }
  });

  it("take channels last, tokens behind registers, and batches of the size that the model states", async () => {
    const options: LayeredOptions = { threads: 1, model: { mean: "none", output: "echo" } };
    const stages = ["last", "tokens"];
    const n = 5;
    const free = await folder.write("free.onnx", echo(["n", SIZE, SIZE, 3]));
    const wanted = await encoded(openLayers(free, { ...options, stages }), n);
    const d = 3 * PLACES + 3 * 65 + 3 * PLACES; // of the 66 tokens the second is left out
    expect(wanted.d).to.equal(d);
    for (let i = 0; i < n; i++)
      for (let c = 0; c < 3; c++)
        for (const place of [0, 1, 9, 63]) {
          const byte = pixels(n)[3 * (i * PLACES + place) + c]! / 255;
          expect(wanted.rows[i * d + c * PLACES + place], "a map by channels").to.be.closeTo(byte, 1e-6);
          expect(wanted.rows[i * d + d - 3 * PLACES + 3 * place + c], "the features").to.be.closeTo(
            byte,
            1e-6,
          );
        }
    const token = (i: number, c: number, place: number) => wanted.rows[i * d + 3 * PLACES + 65 * c + place]!;
    const mixed = (i: number, c: number, row: number) =>
      Array.from(
        { length: PLACES },
        (_, p) => (pixels(n)[3 * (i * PLACES + p) + c]! / 255) * Math.sin(row * PLACES + p),
      ).reduce((a, b) => a + b);
    expect(token(4, 1, 0)).to.be.closeTo(mixed(4, 1, 0), 1e-4);
    expect(token(4, 1, 1)).to.be.closeTo(mixed(4, 1, 2), 1e-4);
    expect(token(4, 1, 64)).to.be.closeTo(mixed(4, 1, 65), 1e-4);
    const fixed = await folder.write("fixed.onnx", echo([3, SIZE, SIZE, 3]));
    const { rows } = await encoded(openLayers(fixed, { ...options, stages }), n);
    expect(rows).to.have.length(wanted.rows.length);
    rows.forEach((x, i) => {
      if (Math.abs(x - wanted.rows[i]!) > 1e-4) expect(x, `value ${i}`).to.equal(wanted.rows[i]);
    });
  });

  it("are probed in one pass with the other kinds", async () => {
    const model = { mean: "imagenet" } as const;
    const options = { ...sets(), encoder: TOKENS, model };
    const [layers, knn] = await probes({ ...options, kinds: ["layers", "knn"], stages: [PATCHES, BLOCK] });
    expect(layers!.layers!.map(({ name, features }) => [name, features])).to.deep.equal([
      [PATCHES, 32],
      [BLOCK, 40],
      ["features", 8],
    ]);
    expect(layers!.layers![0]!.top1, "hues are told apart from the first layer on").to.equal(100);
    expect(knn).to.deep.equal(await probe({ ...options, kind: "knn" }));
  });

  it("are told which values there are to name: those between blocks, with their sizes", async () => {
    const refused = (path: string, options: LayeredOptions) => failure(openLayers(path, options));
    expect(await refused(CLASSIFIER, { model: { mean: "half", output: "view" } })).to.equal(
      `${CLASSIFIER}: expected --stages NAME,NAME,..., its values that a classifier is to see, found none; name some of ` +
        '"getitem" [n, 8, 4, 4], "relu" [n, 8, 4, 4], "relu_1" [n, 6, 4, 4], "as_strided" [n, 6, 1, 1]',
    );
    const listed = await refused(TOKENS, { model: { mean: "half" }, stages: [] });
    expect(listed).to.contain(`"${PATCHES}" [n, 8, 2, 2]`).and.to.contain(`"${BLOCK}" [n, 5, 8]`);
    expect(listed).not.to.match(/norm|attn|\n/);
    expect(await refused(TOKENS, { model: { mean: "half" }, stages: [BLOCK, "blocks"] })).to.match(
      /expected --stages with the name of a value of it, found "blocks"/,
    );
    expect(await failure(probe({ ...sets(), kind: "knn", encoder: TOKENS, stages: [BLOCK] }))).to.equal(
      "probe, stages: expected them with kind layers, found kind knn",
    );
    const path = await folder.write("free.onnx", echo(["n", SIZE, SIZE, 3]));
    const model = { mean: "none", output: "echo" } as const;
    const turned = encodeModel(
      (() => {
        const x = input("x", "float32", ["n", 3, SIZE, SIZE]);
        const y = transpose(x, [1, 0, 2, 3]);
        return buildModel({ y, z: transpose(y, [1, 0, 2, 3]) }, { name: "turned" });
      })(),
    );
    expect(
      await refused(await folder.write("turned.onnx", turned), {
        model: { mean: "none", output: "z" },
        stages: ["y"],
      }),
    ).to.match(/expected a row for each of 2 images of --stages y, found \[3, 2, 8, 8\]/);
    expect(await openLayers(path, { model, stages: ["echo"] }).then(({ layers }) => layers[0])).to.deep.equal(
      {
        name: "echo",
        channels: 192,
        places: 1,
        from: 0,
      },
    );
  });
});

describe("api/views of third-party models", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const [HEIGHT, WIDTH] = [11, 13];
  const boxes = [
    { top: 0, left: 0, height: 11, width: 13 },
    { top: 2, left: 5, height: 8, width: 8 },
    { top: 4, left: 1, height: 5, width: 9 },
    { top: 7, left: 3, height: 3, width: 4 },
  ];
  const images = boxes.map((_, i) => noise(HEIGHT, WIDTH, "foreign views", i));
  const n = boxes.length;

  /** What an echo sees of each box, every other one flipped. */
  async function seen(model: Uint8Array, options: ForeignOptions): Promise<Float32Array> {
    const opened = await openForeign(model, "echo.onnx", { threads: 1 }, { output: "echo", ...options });
    const encode = await opened.viewsBy(plain(SIZE));
    const params = boxes.flatMap((box, i) => {
      const row = rowOf(box, { flip: i % 2 });
      return VIEW_COLUMNS.map((column) => row[column]);
    });
    const pixels = Buffer.concat(images.map((image) => image.pixels));
    const rows = await encode(pixels, [n, HEIGHT, WIDTH, 3], Float32Array.from(params));
    await opened.close();
    return rows;
  }
  const wanted = (of: (value: number, channel: number) => number, layout: "nchw" | "nhwc") =>
    boxes.flatMap((box, i) => {
      const planes = cropAndResize(images[i]!, box, SIZE, i % 2 === 1);
      return Array.from({ length: 3 * PLACES }, (_, at) => {
        const [c, place] =
          layout === "nchw" ? [Math.floor(at / PLACES), at % PLACES] : [at % 3, Math.floor(at / 3)];
        return of(planes[c]![place]!, c);
      });
    });
  function close(found: Float32Array, values: readonly number[], delta: number) {
    expect(found).to.have.length(values.length);
    for (const [i, x] of values.entries())
      if (Math.abs(found[i]! - x) > delta) expect(found[i], `value ${i}`).to.equal(x);
  }

  it("are crops at the model's size, normalised and laid out as it takes them, in batches that it takes", async () => {
    const [mean, std] = [
      [0.1, 0.2, 0.3],
      [0.5, 0.25, 2],
    ] as const;
    for (const batch of ["n", 3]) {
      const found = await seen(echo([batch, 3, SIZE, SIZE]), { mean, std });
      close(
        found,
        wanted((x, c) => (x - mean[c]!) / std[c]!, "nchw"),
        1e-4,
      );
    }
    const bytes = await seen(echo(["n", SIZE, SIZE, 3], "uint8"), {});
    expect(bytes.every(Number.isInteger)).to.equal(true);
    close(
      bytes,
      wanted((x) => 255 * x, "nhwc"),
      0.5 + 1e-3,
    );
  });

  it("are what a linear classifier is trained on", async () => {
    await labelled(at("train"), ["green", "red"], 5);
    const data = {
      encoder: TOKENS,
      train: at("train"),
      test: at("train"),
      threads: 1,
      kind: "linear",
      epochs: 2,
    } as const;
    const model = { mean: "imagenet" } as const;
    const result = await probe({ ...data, model, augment: true });
    expect(result).to.deep.include({ augment: true, train: 10, features: 8 });
    expect(await probe({ ...data, model, augment: true })).to.deep.equal(result);
    const encoder = await openViewEncoder(TOKENS, { model, threads: 1 });
    expect(encoder.metadata).to.deep.include({ imageSize: SIZE });
    await encoder.close();
    expect(await failure(probe({ ...data, augment: true }))).to.match(/expected --mean imagenet/);
  });
});
