import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { compareFeatures } from "../../src/export/compare.ts";
import { forMany } from "../../src/export/for-many.ts";
import { freezeEncoder } from "../../src/export/freeze.ts";
import { buildModel } from "../../src/graph/model.ts";
import { decodeModel, encodeModel, valueInfo } from "../../src/graph/protos.ts";
import { constant, input, type Tensor } from "../../src/graph/tensor.ts";
import { type ConvOptions, conv } from "../../src/ops/conv.ts";
import { add } from "../../src/ops/elementwise.ts";
import { cast, reshape, transpose } from "../../src/ops/movement.ts";
import { globalAveragePool } from "../../src/ops/pool.ts";
import { encodeModelOf, featuresOf, noise, randomTensor } from "./models.ts";

const convolutionsIn = (model: Uint8Array) =>
  decodeModel(model).graph!.node.filter((node) => node.opType === "Conv");

const constantOf = (name: string, shape: number[]) => constant(randomTensor(name, shape).data, shape);

/** A model of one convolution of a map that says its sizes: 8 x 8 pixels, `c` channels. */
function one({ out, c, kernel = 3, ...options }: ConvOptions & { out: number; c: number; kernel?: number }) {
  const images = input("images", "uint8", ["n", 8, 8, c]);
  const x = transpose(cast(images, "float32"), [0, 3, 1, 2]); // [n, c, 8, 8]
  const w = constantOf("w", [out, c / (options.groups ?? 1), kernel, kernel]);
  return model(images, conv(x, w, options)); // [n, out, h', w']
}

const model = (images: Tensor, map: Tensor) =>
  encodeModel(buildModel({ features: globalAveragePool(map) }, { name: "small", inputs: [images] }));

describe("export/for-many", () => {
  for (const [name, size, deep] of [
    ["resnet18", 32, 9],
    ["resnet50", 32, 10],
  ] as const) {
    it(`${name} at ${size} px: the same features, ${deep} Winograd convolutions`, async () => {
      const { encode, state } = encodeModelOf(name, size);
      const frozen = freezeEncoder(encode, state, {});
      const given = frozen.slice();
      const fast = forMany(frozen)!;
      expect(Buffer.compare(frozen, given)).to.equal(0);
      expect(convolutionsIn(frozen).length - convolutionsIn(fast).length).to.equal(deep);
      const { data, shape } = noise(3, size, size);
      const feeds = { images: new ort.Tensor("uint8", data, shape) };
      const [plain, found] = [await featuresOf(frozen, feeds), await featuresOf(fast, feeds)];
      expect(found.dims).to.deep.equal(plain.dims);
      expect(compareFeatures(plain.data, found.data, plain.dims[1]!).maxRelative).to.be.within(1e-9, 2e-5);
    });
  }

  it("takes all of a deeper encoder of the same blocks", () => {
    const { encode, state } = encodeModelOf("resnet34", 32);
    const frozen = freezeEncoder(encode, state, {});
    expect(convolutionsIn(frozen).length - convolutionsIn(forMany(frozen)!).length).to.equal(23);
  });

  it("leaves encoders without deep convolutions as they are", () => {
    for (const name of ["resnet20", "vit-tiny"]) {
      const { encode, state } = encodeModelOf(name, 32);
      expect(forMany(freezeEncoder(encode, state, {})), name).to.equal(undefined);
    }
  });

  it("takes convolutions of 3x3, stride 1, pad 1 of many channels alone", () => {
    const plain = { out: 128, c: 128, pad: 1 };
    expect(forMany(one(plain))).not.to.equal(undefined);
    expect(forMany(one({ ...plain, c: 64 }))).to.equal(undefined);
    expect(forMany(one({ ...plain, out: 64 }))).to.equal(undefined);
    expect(forMany(one({ ...plain, stride: 2 }))).to.equal(undefined);
    expect(forMany(one({ ...plain, pad: 0 }))).to.equal(undefined);
    expect(forMany(one({ ...plain, dilation: 2, pad: 2 }))).to.equal(undefined);
    expect(forMany(one({ ...plain, groups: 2 }))).to.equal(undefined);
    expect(forMany(one({ ...plain, kernel: 1, pad: 0 }))).to.equal(undefined);
  });

  it("wants sizes of feature maps and of kernels that are known and agree", () => {
    const told = decodeModel(one({ out: 128, c: 128, pad: 1 }));
    told.graph!.valueInfo = [];
    expect(forMany(encodeModel(told))).to.equal(undefined);
    for (const [c, size] of [
      [128, 256],
      [256, 8],
    ] as const) {
      const lying = decodeModel(one({ out: 1024, c: 128, pad: 1 }));
      const [x] = convolutionsIn(encodeModel(lying))[0]!.input;
      const map = lying.graph!.valueInfo.find(({ name }) => name === x)!;
      map.type = valueInfo("", "float32", ["n", c, size, size]).type!;
      expect(forMany(encodeModel(lying)), `${c}, ${size}`).to.equal(undefined);
    }
    const w = input("w", "float32", [128, 128, 3, 3]);
    const images = input("images", "float32", ["n", 128, 8, 8]);
    expect(forMany(model(images, conv(images, w, { pad: 1 })))).to.equal(undefined);
  });

  it("keeps a bias, and names of two in a row apart", async () => {
    const images = input("images", "uint8", ["n", 8, 8, 128]);
    const x = transpose(cast(images, "float32"), [0, 3, 1, 2]); // [n, 128, 8, 8]
    const layer = (name: string, map: Tensor) => conv(map, constantOf(name, [128, 128, 3, 3]), { pad: 1 }); // as map
    const bias = reshape(constantOf("bias", [128]), [1, 128, 1, 1]); // [1, 128, 1, 1]
    const plain = decodeModel(model(images, layer("b", add(layer("a", x), bias))));
    // As the runtime's convolution takes it: the sum goes into the first.
    const { graph } = plain;
    const [first] = graph!.node.filter((node) => node.opType === "Conv");
    const sum = graph!.node.find((node) => node.opType === "Add")!;
    const held = graph!.initializer.find((tensor) => tensor.dims.length === 1)!;
    first!.input.push(held.name);
    first!.output = sum.output;
    graph!.node = graph!.node.filter((node) => node !== sum);
    const [frozen, fast] = [encodeModel(plain), forMany(encodeModel(plain))!];
    expect(convolutionsIn(fast)).to.deep.equal([]);
    const { data } = noise(2, 64, 128);
    const feeds = { images: new ort.Tensor("uint8", data.subarray(0, 2 * 64 * 128), [2, 8, 8, 128]) };
    const [a, b] = [await featuresOf(frozen, feeds), await featuresOf(fast, feeds)];
    expect(compareFeatures(a.data, b.data, 128).maxRelative).to.be.within(1e-9, 2e-5);
  });
});
