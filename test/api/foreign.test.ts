import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { expect } from "chai";
import {
  AttributeProtoSchema,
  FunctionProtoSchema,
  type ModelProto,
  NodeProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProto_DataType,
  type TypeProto_Tensor,
} from "onnx-buf";
import { openEncoder } from "../../src/api/encoder.ts";
import type { ForeignOptions } from "../../src/export/foreign.ts";
import { buildModel } from "../../src/graph/model.ts";
import { decodeModel, encodeModel } from "../../src/graph/protos.ts";
import { constant, input, type Tensor } from "../../src/graph/tensor.ts";
import { add, relu } from "../../src/ops/elementwise.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { cast, reshape, transpose } from "../../src/ops/movement.ts";
import { reduceMean } from "../../src/ops/reduce.ts";
import type { Dim, DType, Shape } from "../../src/spec.ts";
import { failure, temporaryFolder } from "../data/folder.ts";

const SIZE = 8;
const FIXTURES = new URL("../fixtures/", import.meta.url);

/** The images of scripts/reference/encoders.py, uint8 [n, 8, 8, 3]. */
const images = (n: number) =>
  Uint8Array.from({ length: n * SIZE * SIZE * 3 }, (_, i) => Math.imul(i * i, 2654435761) >>> 24);

/** A model whose features are random sums of its input's values, "features", and "logits" of these. */
function model(shape: Shape, dtype: DType = "float32"): ModelProto {
  const x = input("pixels", dtype, shape);
  const values = 3 * SIZE * SIZE;
  const flat = reshape(cast(x, "float32"), [shape[0]!, values]); // [n, 192]
  const draws = Float32Array.from({ length: values * 5 }, (_, i) => Math.sin(1 + i * i));
  const hidden = relu(matmul(flat, constant(draws, [values, 5]))); // [n, 5]
  const logits = matmul(hidden, constant(draws.slice(0, 10), [5, 2])); // [n, 2]
  return buildModel({ logits, features: hidden }, { name: "other", inputs: [x] });
}

/** The type that a model states of its input. */
function statedType(proto: ModelProto): TypeProto_Tensor {
  const type = proto.graph!.input[0]!.type!.value;
  if (type.case !== "tensorType") throw new Error("expected a tensor");
  return type.value;
}

/** The same with height and width left free. */
function freeSizes(proto: ModelProto): ModelProto {
  const dims = statedType(proto).shape!.dim;
  for (const [i, name] of [
    [2, "h"],
    [3, "w"],
  ] as const)
    dims[i]!.value = { case: "dimParam", value: name };
  return proto;
}

describe("api/foreign: third-party models", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const written = (proto: ModelProto, name = "other.onnx") => folder.write(name, encodeModel(proto));

  async function encoded(path: string, options: ForeignOptions, n = 3, side = SIZE) {
    const encoder = await openEncoder(path, { threads: 1, model: options });
    try {
      const pixels = images(n).subarray(0, n * side * side * 3);
      return { features: await encoder.encode(pixels, [n, side, side, 3]), metadata: encoder.metadata };
    } finally {
      await encoder.close();
    }
  }
  const closeTo = (found: ArrayLike<number>, wanted: readonly number[], delta = 1e-5) => {
    expect(found).to.have.length(wanted.length);
    for (const [i, x] of wanted.entries()) expect(found[i], `value ${i}`).to.be.closeTo(x, delta);
  };

  /** What `model` gives, of values that a function makes of each byte. */
  function naive(n: number, made: (byte: number, channel: number) => number, layout: "nchw" | "nhwc") {
    const pixels = images(n);
    const plane = SIZE * SIZE;
    return Array.from({ length: n * 5 }, (_, place) => {
      const [image, j] = [Math.floor(place / 5), place % 5];
      let sum = 0;
      for (let i = 0; i < 3 * plane; i++) {
        const [pixel, channel] =
          layout === "nchw" ? [i % plane, Math.floor(i / plane)] : [Math.floor(i / 3), i % 3];
        const byte = pixels[image * 3 * plane + 3 * pixel + channel]!;
        sum += made(byte, channel) * Math.sin(1 + (i * 5 + j) ** 2);
      }
      return Math.max(0, sum);
    });
  }

  describe("give the features that PyTorch gives, of", () => {
    const imagenet = { mean: "imagenet" } as const;
    const fixture = (name: string) => new URL(name, FIXTURES).pathname;
    let wanted: Readonly<Record<string, readonly number[]>> & { readonly inner: never };
    before(async () => {
      wanted = JSON.parse(await readFile(new URL("encoders.json", FIXTURES), "utf8"));
    });

    it("a classifier's inner value", async () => {
      const options = { ...imagenet, output: wanted.inner as string };
      const { features, metadata } = await encoded(fixture("encoder-classifier.onnx"), options);
      closeTo(features, wanted.pooled!);
      expect(metadata).to.deep.include({ features: 6, imageSize: SIZE, side: SIZE, output: wanted.inner });
    });

    it("a transformer's class token and patches", async () => {
      const path = fixture("encoder-tokens.onnx");
      closeTo((await encoded(path, imagenet)).features, wanted.class!);
      closeTo((await encoded(path, { ...imagenet, pool: "mean" })).features, wanted.patches!);
    });
  });

  it("take channels first or last, free sizes, and a normalisation by name or by numbers", async () => {
    const [mean, std] = [
      [0.1, 0.2, 0.3],
      [0.5, 0.25, 2],
    ] as const;
    const byNumbers = naive(3, (byte, c) => (byte / 255 - mean[c]!) / std[c]!, "nhwc");
    const last = await written(model(["n", SIZE, SIZE, 3]));
    closeTo((await encoded(last, { output: "features", mean, std })).features, byNumbers, 1e-3);
    const first = await written(freeSizes(model(["n", 3, SIZE, SIZE])));
    const half = naive(3, (byte) => byte / 127.5 - 1, "nchw");
    closeTo((await encoded(first, { output: "features", mean: "half", size: SIZE })).features, half, 1e-3);
  });

  it("take bytes as they are", async () => {
    const path = await written(model(["n", SIZE, SIZE, 3], "uint8"));
    const wanted = naive(3, (byte) => byte, "nhwc");
    closeTo((await encoded(path, { output: "features" })).features, wanted, 0.05);
    closeTo((await encoded(path, { output: "features", mean: "none" })).features, wanted, 0.05);
  });

  it("get batches of the size that they state", async () => {
    const wanted = (
      await encoded(await written(model(["n", 3, SIZE, SIZE])), { output: "features", mean: "clip" }, 5)
    ).features;
    for (const batch of [1, 3]) {
      const path = await written(model([batch, 3, SIZE, SIZE]));
      const { features, metadata } = await encoded(path, { output: "features", mean: "clip" }, 5);
      expect(features, `batch ${batch}`).to.deep.equal(wanted);
      expect(metadata).to.deep.include({ batch });
    }
    const none = await encoded(
      await written(model([3, 3, SIZE, SIZE])),
      { output: "features", mean: "clip" },
      0,
    );
    expect(none.features).to.deep.equal(new Float32Array(0));
  });

  it("see the centre of larger images", async () => {
    const x = input("x", "float32", ["n", 3, 96, 96]);
    const path = await written(buildModel({ y: x }, { name: "views" }));
    const encoder = await openEncoder(path, { model: { mean: "none" } });
    expect(encoder.metadata).to.deep.include({ imageSize: 96, side: 110, features: 3 });
    const side = 110;
    const pixels = new Uint8Array(side * side * 3).fill(255); // white, and black outside of the centre
    for (let i = 0; i < side * side; i++) {
      const [row, column] = [Math.floor(i / side), i % side];
      if (Math.min(row, column) < 7 || Math.max(row, column) >= 103) pixels.fill(0, 3 * i, 3 * i + 3);
    }
    closeTo(await encoder.encode(pixels, [1, side, side, 3]), [1, 1, 1]);
    await encoder.close();
  });

  it("may have other inputs, which the output named does not depend on", async () => {
    const [x, text] = [input("pixels", "float32", ["n", 3, SIZE, SIZE]), input("ids", "int64", ["n", "t"])];
    const image = reduceMean(x, { axes: [2, 3] }); // [n, 3]
    const both = add(image, reduceMean(cast(text, "float32"), { axes: [1], keep: true })); // [n, 3]
    const path = await written(buildModel({ image, both }, { name: "clip" }));
    const { features } = await encoded(path, { output: "image", mean: "none" }, 1);
    expect(features).to.have.length(3);
    expect(await failure(encoded(path, { output: "both", mean: "none" }))).to.match(
      /other\.onnx: expected one input, for images, that --output depends on, found 2: "pixels" .*, "ids" int64/,
    );
  });

  it("need not state the type of an inner value", async () => {
    const proto = model(["n", 3, SIZE, SIZE]);
    proto.graph!.output = proto.graph!.output.filter(({ name }) => name === "logits");
    proto.graph!.valueInfo = [];
    const { features } = await encoded(await written(proto), { output: "features", mean: "half" });
    closeTo(
      features,
      naive(3, (byte) => byte / 127.5 - 1, "nchw"),
      1e-3,
    );
  });

  describe("with weights in other files", () => {
    /** The model with its first weights at a location, as its folder's file `weights` holds them. */
    async function external(location: string, length?: number) {
      const proto = model(["n", 3, SIZE, SIZE]);
      const tensor = proto.graph!.initializer.find(({ rawData }) => rawData.length > 1000)!;
      await folder.write("models/weights", Buffer.concat([Buffer.alloc(16), tensor.rawData]));
      const entries = { location, offset: "16", length: `${length ?? tensor.rawData.length}` };
      tensor.externalData = Object.entries(entries).map(([key, value]) =>
        create(StringStringEntryProtoSchema, { key, value }),
      );
      tensor.rawData = new Uint8Array(0);
      tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
      return written(proto, "models/external.onnx");
    }
    const options = { output: "features", mean: "none" } as const;

    it("read them from its own folder", async () => {
      const whole = await encoded(await written(model(["n", 3, SIZE, SIZE])), options);
      const { features } = await encoded(await external("weights"), options);
      expect(features).to.deep.equal(whole.features);
    });

    it("refuse any other place, and less than they state", async () => {
      const refused = async (location: string, length?: number) =>
        failure(encoded(await external(location, length), options));
      await folder.write("secret", Buffer.alloc(5000));
      await mkdir(at("models"), { recursive: true });
      await symlink(at("secret"), at("models/link"));
      for (const location of ["../secret", at("secret"), "link", "a/../../secret"]) {
        expect(await refused(location), location).to.match(
          /external\.onnx: weights in ".*": expected a file in the model's folder, found one outside of it; copy/,
        );
      }
      const proto = decodeModel(await readFile(await external("../secret")));
      const hidden = proto.graph!.initializer.find(({ externalData }) => externalData.length > 0)!;
      const attribute = create(AttributeProtoSchema, { name: "value", t: hidden });
      const node = create(NodeProtoSchema, { opType: "Constant", output: ["c"], attribute: [attribute] });
      const whole = model(["n", 3, SIZE, SIZE]);
      whole.functions = [create(FunctionProtoSchema, { name: "f", domain: "d", node: [node] })];
      expect(await failure(encoded(await written(whole), options))).to.match(
        /in the model's folder, found one outside/,
      );
      expect(await refused("none")).to.match(
        /weights in "none": expected a file in the model's folder, found none/,
      );
      expect(await refused("")).to.match(/weights in "": expected .*, found no name/);
      expect(await refused("weights", 10_000)).to.match(
        /expected a part of its 3856 bytes, found bytes from "16" on/,
      );
      expect(await refused("weights", -1)).to.match(/expected a part of its 3856 bytes/);
    });
  });

  describe("are refused in one line that lists what they take and give", () => {
    const views = (shape: readonly Dim[], dtype: DType = "float32") => model(shape, dtype);
    const listing =
      'inputs: "pixels" float32 [n, 3, 8, 8]; outputs: "logits" float32 [n, 2], "features" float32 [n, 5]';
    const cases: Record<string, [proto: () => ModelProto, options: ForeignOptions, says: string]> = {
      "without --output where there are several": [
        () => views(["n", 3, 8, 8]),
        { mean: "none" },
        `expected --output, the name of the value to take as features, found none, and 2 outputs; ${listing}`,
      ],
      "with the name of no value": [
        () => views(["n", 3, 8, 8]),
        { mean: "none", output: "feature" },
        'expected --output with the name of a value of it, found "feature", did you mean "features"? (inner values, the last of',
      ],
      "without --mean": [
        () => views(["n", 3, 8, 8]),
        { output: "logits" },
        `expected --mean imagenet, half, clip, none or r,g,b, found none; ${listing}`,
      ],
      "with --std alone": [
        () => views(["n", 3, 8, 8]),
        { output: "logits", std: [1, 1, 1] },
        "expected --mean imagenet, half, clip, none or r,g,b, found --std alone",
      ],
      "with three numbers alone": [
        () => views(["n", 3, 8, 8]),
        { output: "logits", mean: [0, 0, 0] },
        "expected --std r,g,b with --mean r,g,b, found none",
      ],
      "with --std beside a name": [
        () => views(["n", 3, 8, 8]),
        { output: "logits", mean: "half", std: [1, 1, 1] },
        "expected --std with three numbers as --mean, found --mean half",
      ],
      "with a standard deviation of 0": [
        () => views(["n", 3, 8, 8]),
        { output: "logits", mean: [0, 0, 0], std: [1, 0, 1] },
        "expected finite numbers, and a --std above 0, found 0,0,0 and 1,0,1",
      ],
      "with --mean for bytes": [
        () => views(["n", 8, 8, 3], "uint8"),
        { output: "logits", mean: "half" },
        "expected no --mean and no --std for a model that takes bytes, found them",
      ],
      "without --size where none is stated": [
        () => freeSizes(views(["n", 3, 8, 8])),
        { output: "logits", mean: "none" },
        'expected --size, height and width of the images in pixels, found none; inputs: "pixels" float32 [n, 3, h, w]',
      ],
      "with another --size": [
        () => views(["n", 3, 8, 8]),
        { output: "logits", mean: "none", size: 16 },
        'expected --size 8, found 16, and "pixels" float32 [n, 3, 8, 8]',
      ],
      "with a --size beyond reason": [
        () => freeSizes(views(["n", 3, 8, 8])),
        { output: "logits", mean: "none", size: 5000 },
        "expected a size of 1 to 4096 pixels, found 5000",
      ],
      "with batches beyond reason": [
        () => views([2 ** 20, 3, 8, 8]),
        { output: "logits", mean: "none" },
        "expected batches of at most 33554432 pixels, found 67108864",
      ],
      "of images that are not square": [
        () => views(["n", 3, 4, 16]),
        { output: "logits", mean: "none" },
        'expected square images, found "pixels" float32 [n, 3, 4, 16]',
      ],
      "of images without three channels": [
        () => views(["n", 1, 24, 8]),
        { output: "logits", mean: "none" },
        "expected images, float32 or uint8, [n, 3, h, w] or [n, h, w, 3], found",
      ],
      "of images in another type": [
        () => views(["n", 3, 8, 8], "int32"),
        { output: "logits", mean: "none" },
        'found "pixels" int32 [n, 3, 8, 8]',
      ],
      "with --pool of vectors": [
        () => views(["n", 3, 8, 8]),
        { output: "logits", mean: "none", pool: "mean" },
        'expected --pool with tokens [n, t, d], found [2, 2]; "pixels" float32 [n, 3, 8, 8] -> "logits"',
      ],
      "whose output is no float32": [
        () => {
          const x = input("x", "float32", ["n", 3, 8, 8]);
          return buildModel({ y: cast(x, "int64") }, { name: "whole" });
        },
        { mean: "none" },
        "expected float32 as its output, found int64",
      ],
      "that give no row for each image": [
        () => {
          const x = input("x", "float32", ["n", 3, 8, 8]);
          return buildModel({ y: transpose(x, [1, 0, 2, 3]) }, { name: "turned" });
        },
        { mean: "none" },
        "expected a row for each of 2 images, found [3, 2, 8, 8]",
      ],
      "that the runtime cannot open": [
        () => {
          const proto = views(["n", 3, 8, 8]);
          proto.graph!.node[0]!.opType = "Evil";
          return proto;
        },
        { output: "logits", mean: "none" },
        "expected a graph that runs on cpu, found: ",
      ],
      "that fail when they run": [
        () => {
          const x: Tensor = input("x", "float32", ["n", 3, 8, 8]);
          const proto = buildModel({ y: reshape(x, ["n", 192]) }, { name: "one" });
          const target = proto.graph!.initializer[0]!;
          target.rawData = new Uint8Array(BigInt64Array.of(1n, 192n).buffer); // exported for a batch of 1
          return proto;
        },
        { mean: "none" },
        "expected a model that runs, found: ",
      ],
    };
    for (const [name, [proto, options, says]] of Object.entries(cases)) {
      it(name, async () => {
        const message = await failure(encoded(await written(proto()), options));
        expect(message)
          .to.match(/^.*other\.onnx: expected /)
          .and.to.contain(says);
        expect(message).not.to.match(/\n/);
      });
    }

    it("what is no model, and names that a terminal would obey", async () => {
      await writeFile(at("other.onnx"), "text");
      expect(await failure(encoded(at("other.onnx"), {}))).to.match(/something else, or a damaged one/);
      const proto = views(["n", 3, 8, 8]);
      proto.graph!.output[0]!.name = "\u001b[31m\nred";
      statedType(proto).elemType = TensorProto_DataType.FLOAT16;
      expect(await failure(encoded(await written(proto), { output: "features" }))).to.match(
        /found "pixels" float16 \[n, 3, 8, 8\]; inputs: .*; outputs: "\?\[31m\?red" float32/,
      );
    });
  });
});
