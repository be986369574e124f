import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { UserError } from "../../src/errors.ts";
import { compareFeatures } from "../../src/export/compare.ts";
import { freezeEncoder } from "../../src/export/freeze.ts";
import { verifyFrozen } from "../../src/export/verify.ts";
import type { TensorData } from "../../src/files/safetensors.ts";
import { buildModel } from "../../src/graph/model.ts";
import { decodeModel, encodeModel, nodeProto, valueInfo } from "../../src/graph/protos.ts";
import { input, type Tensor } from "../../src/graph/tensor.ts";
import { conv } from "../../src/ops/conv.ts";
import { add, relu } from "../../src/ops/elementwise.ts";
import { gemm } from "../../src/ops/matmul.ts";
import { cast, transpose } from "../../src/ops/movement.ts";
import { batchNorm } from "../../src/ops/normalization.ts";
import { globalAveragePool } from "../../src/ops/pool.ts";
import { reduceMean } from "../../src/ops/reduce.ts";
import { encodeModelOf, featuresOf, noise, randomTensor } from "./models.ts";

const typesIn = (model: Uint8Array) => decodeModel(model).graph!.node.map((node) => node.opType);
const countIn = (model: Uint8Array, type: string) => typesIn(model).filter((t) => t === type).length;

/** A model of `images` uint8 [n, 8, 8, 3] and of the state that `build` asks for. */
function small(build: (pixels: Tensor, state: (name: string, ...shape: number[]) => Tensor) => Tensor) {
  const state = new Map<string, TensorData>();
  const images = input("images", "uint8", ["n", 8, 8, 3]);
  const pixels = transpose(cast(images, "float32"), [0, 3, 1, 2]); // [n, 3, 8, 8]
  const features = build(pixels, (name, ...shape) => {
    state.set(name, randomTensor(name, shape));
    return input(name, "float32", shape);
  });
  return { encode: encodeModel(buildModel({ features }, { name: "small", inputs: [images] })), state };
}

type State = Parameters<Parameters<typeof small>[0]>[1];
const norm = (state: State, name: string, x: Tensor) => {
  const c = x.shape[1] as number;
  const own = (label: string) => state(`${name}.${label}`, c);
  return batchNorm(x, own("weight"), own("bias"), own("running_mean"), own("running_var")); // as x
};

async function check(
  parts: { encode: Uint8Array; state: ReadonlyMap<string, TensorData> },
  n = 2,
): Promise<Uint8Array> {
  const frozen = freezeEncoder(parts.encode, parts.state, {});
  const { maxRelative } = await verifyFrozen({
    ...parts,
    frozen,
    images: noise(n, 8, 8),
    where: "small",
    threads: 1,
  });
  expect(maxRelative).to.be.below(1e-5);
  return frozen;
}

describe("export/freeze", () => {
  for (const [name, size] of [
    ["resnet20", 32],
    ["resnet18", 32],
    ["resnet18", 96],
    ["resnet50", 32],
    ["vit-tiny", 32],
  ] as const) {
    it(`${name} at ${size} px: the same features, no BatchNormalization after a convolution`, async () => {
      const { encode, state } = encodeModelOf(name, size);
      const frozen = freezeEncoder(encode, state, {});
      for (const [n, height, width] of [
        [1, size, size],
        [3, size, size],
        [3, 45, 61],
        [1, 20, 7],
      ] as const) {
        const images = noise(n, height, width);
        const { maxRelative } = await verifyFrozen({
          encode,
          state,
          frozen,
          images,
          where: name,
          threads: 1,
        });
        expect(maxRelative, `${n} of ${height} x ${width}`).to.be.below(2e-5);
      }

      const before = countIn(encode, "BatchNormalization");
      expect(before).to.equal([...state.keys()].filter((k) => k.endsWith("running_var")).length + 1);
      expect(countIn(frozen, "BatchNormalization")).to.equal(1); // the view's
      const { input: inputs, output: outputs, initializer } = decodeModel(frozen).graph!;
      expect(inputs.map((i) => i.name)).to.deep.equal(["images"]);
      expect(outputs).to.deep.equal(decodeModel(encode).graph!.output);
      expect(initializer.map((t) => t.name).filter((t) => /running_|\.bn\d/.test(t))).to.deep.equal([]);

      const weights = [...state.values()].reduce((sum, t) => sum + t.data.byteLength, 0);
      expect(frozen.length).to.be.within(0.98 * weights, weights + 80_000);
    });
  }

  for (const [name, size, d] of [
    ["resnet20", 32, 64],
    ["resnet18", 96, 512],
    ["vit-tiny", 32, 192],
  ] as const) {
    it(`${name} at ${size} px runs by the plain runtime, whatever the number of images, none too`, async () => {
      const { encode, state } = encodeModelOf(name, size);
      const frozen = freezeEncoder(encode, state, {});
      for (const n of [0, 1, 5]) {
        const { data, shape } = noise(n, 40, 32);
        const { dims } = await featuresOf(frozen, { images: new ort.Tensor("uint8", data, shape) });
        expect(dims).to.deep.equal([n, d]);
      }
    });
  }

  it("runs with its sizes fixed, as some runtimes want them", async () => {
    const { encode, state } = encodeModelOf("resnet20", 32);
    const frozen = freezeEncoder(encode, state, {});
    const fixed = decodeModel(frozen);
    fixed.graph!.input = [valueInfo("images", "uint8", [2, 50, 40, 3])];
    const { data, shape } = noise(2, 50, 40);
    const images = new ort.Tensor("uint8", data, shape);
    expect(await featuresOf(encodeModel(fixed), { images })).to.deep.equal(
      await featuresOf(frozen, { images }),
    );
  });

  it("leaves out what nothing reads: optional outputs, nodes, constants and what is told of their sizes", () => {
    for (const [name, size] of [
      ["resnet18", 96],
      ["vit-tiny", 32],
    ] as const) {
      const { encode, state } = encodeModelOf(name, size);
      const model = decodeModel(encode);
      model.graph!.node.push(nodeProto("Relu", "a", ["images"], ["a"]), nodeProto("Relu", "b", ["a"], ["b"]));
      const {
        node,
        initializer,
        output,
        valueInfo: told,
      } = decodeModel(freezeEncoder(encodeModel(model), state, {})).graph!;
      const read = new Set([...node.flatMap(({ input: from }) => from), ...output.map((o) => o.name)]);
      const made = new Set(node.flatMap((n) => n.output));
      // Split gives all its parts.
      const given = node.filter(({ opType }) => opType !== "Split").flatMap((n) => n.output);
      expect(given.filter((value) => !read.has(value))).to.deep.equal([]);
      expect(initializer.filter((t) => !read.has(t.name))).to.deep.equal([]);
      expect(told.filter((v) => !made.has(v.name))).to.deep.equal([]);
    }
  });

  it("folds grouped and strided convolutions, and one norm after the other", async () => {
    const frozen = await check(
      small((pixels, state) => {
        const first = norm(state, "a", conv(pixels, state("a.w", 6, 1, 3, 3), { groups: 3, pad: 1 })); // [n, 6, 8, 8]
        const second = norm(
          state,
          "c",
          norm(state, "b", conv(first, state("conv.weight", 4, 6, 2, 2), { stride: 2 })),
        );
        return globalAveragePool(second); // [n, 4]
      }),
    );
    expect(countIn(frozen, "BatchNormalization")).to.equal(0);
    const names = decodeModel(frozen).graph!.initializer.map((t) => t.name);
    expect(names).to.include.members(["a.w", "a.w.bias", "conv.weight", "conv.bias"]);
  });

  for (const transB of [false, true])
    for (const bias of [false, true]) {
      it(`folds into a Gemm (transB ${transB}, bias ${bias})`, async () => {
        const frozen = await check(
          small((pixels, state) => {
            const x = reduceMean(pixels, { axes: [2, 3] }); // [n, 3]
            const w = transB ? state("w", 5, 3) : state("w", 3, 5);
            return norm(state, "a", gemm(x, w, bias ? state("b", 5) : null, { transB, alpha: 0.5 })); // [n, 5]
          }),
        );
        expect(typesIn(frozen)).to.include("Gemm").and.not.include("BatchNormalization");
      });
    }

  it("leaves a norm whose convolution is also read elsewhere", async () => {
    const parts = small((pixels, state) => {
      const shared = conv(pixels, state("w", 4, 3, 3, 3)); // [n, 4, 6, 6]
      return globalAveragePool(add(relu(norm(state, "a", shared)), shared)); // [n, 4]
    });
    expect(countIn(await check(parts), "BatchNormalization")).to.equal(1);
  });

  it("leaves a norm whose layer is an output", () => {
    const images = input("images", "float32", ["n", 3]);
    const layer = gemm(images, input("w", "float32", [3, 4]), null); // [n, 4]
    const parts = ["weight", "bias", "running_mean", "running_var"].map((label) =>
      input(label, "float32", [4]),
    );
    const [a, b, c, d] = parts as [Tensor, Tensor, Tensor, Tensor];
    const model = buildModel(
      { features: batchNorm(layer, a, b, c, d), layer },
      { name: "two", inputs: [images] },
    );
    const state = new Map(
      [["w", 3, 4] as const, ...parts.map((t) => [(t.source as { name: string }).name, 4] as const)].map(
        ([name, ...shape]) => [name, randomTensor(name, shape)] as const,
      ),
    );
    expect(countIn(freezeEncoder(encodeModel(model), state, {}), "BatchNormalization")).to.equal(1);
  });

  it("gives two layers that share weights each their own", async () => {
    const parts = small((pixels, state) => {
      const w = state("shared.weight", 3, 3, 3, 3);
      const once = norm(state, "a", conv(pixels, w, { pad: 1 })); // [n, 3, 8, 8]
      return globalAveragePool(norm(state, "b", conv(relu(once), w))); // [n, 3]
    });
    expect(countIn(await check(parts), "BatchNormalization")).to.equal(0);
  });

  it("gives equal bytes, metadata in the order of its keys, and changes none of its arguments", () => {
    const { encode, state } = encodeModelOf("resnet20", 32);
    const [bytes, weight] = [encode.slice(), state.get("encoder.conv1.weight")!.data.slice()];
    const first = freezeEncoder(encode, state, { b: "2", a: "1" });
    const unused = randomTensor("slot", [3]);
    const reordered = new Map([["momentum.slot", unused], ...[...state].reverse()]);
    const second = freezeEncoder(encode, reordered, { a: "1", b: "2" });
    expect(Buffer.compare(first, second)).to.equal(0);
    expect(decodeModel(first).metadataProps.map(({ key, value }) => key + value)).to.deep.equal(["a1", "b2"]);
    expect(encode).to.deep.equal(bytes);
    expect(state.get("encoder.conv1.weight")!.data).to.deep.equal(weight);
  });

  it("folds in double precision", () => {
    const { encode, state } = small((pixels, s) =>
      globalAveragePool(norm(s, "a", conv(pixels, s("w", 4, 3, 3, 3)))),
    );
    const proto = decodeModel(freezeEncoder(encode, state, {})).graph!.initializer.find(
      (t) => t.name === "w",
    )!;
    const folded = new Float32Array(new Uint8Array(proto.rawData).buffer); // [4, 3, 3, 3]
    const at = (name: string, i: number) => state.get(name)!.data[i] as number;
    folded.forEach((value, i) => {
      const c = Math.floor(i / 27);
      const factor = at("a.weight", c) / Math.sqrt(at("a.running_var", c) + Math.fround(1e-5));
      expect(value).to.equal(Math.fround(at("w", i) * factor));
    });
  });

  it("names a state tensor that is missing or has another type", () => {
    const { encode, state } = encodeModelOf("resnet20", 32);
    const name = "encoder.conv1.weight";
    const without = new Map([...state].filter(([key]) => key !== name));
    expect(() => freezeEncoder(encode, without, {})).to.throw(
      UserError,
      `encode.onnx: state "${name}": expected float32 [16, 3, 3, 3], found none`,
    );
    const other = new Map<string, TensorData>(state).set(name, randomTensor(name, [16, 3, 9]));
    expect(() => freezeEncoder(encode, other, {})).to.throw(UserError, "found float32 [16, 3, 9]");
    const bytes = { dtype: "uint8", shape: [16, 3, 3, 3], data: new Uint8Array(432) } as const;
    expect(() => freezeEncoder(encode, new Map<string, TensorData>(state).set(name, bytes), {})).to.throw(
      UserError,
      "found uint8 [16, 3, 3, 3]",
    );
  });

  it("refuses what is no encode graph", () => {
    for (const bytes of [
      new Uint8Array(0),
      new Uint8Array(100).fill(255),
      encodeModelOf("resnet20", 32).encode.slice(0, 999),
    ])
      expect(() => freezeEncoder(bytes, new Map(), {})).to.throw(UserError, "encode.onnx: expected");
    const x = input("x", "float32", [1]);
    const other = encodeModel(buildModel({ features: relu(x) }, { name: "other" }));
    expect(() => freezeEncoder(other, new Map(), {})).to.throw(
      UserError,
      'expected an input "images", found none',
    );
  });
});

describe("export/compare: compareFeatures", () => {
  const compare = (reference: number[], frozen: number[], shortest?: number) =>
    compareFeatures(Float32Array.from(reference), Float32Array.from(frozen), 2, shortest).maxRelative;

  it("gives the greatest relative distance of two rows", () => {
    expect(compare([3, 4, 0, 2], [3, 4, 0, 2])).to.equal(0);
    expect(compare([3, 4, 0, 2], [3, 4.5, 0, 2.1])).to.be.closeTo(0.1, 1e-6);
  });
  it("measures a row without length against the longest", () => {
    expect(compare([0, 0, 0, 0], [0, 0, 0, 0])).to.equal(0);
    expect(compare([0, 0, 0, 2], [0, 1e-6, 0, 2])).to.be.closeTo(5e-4, 1e-8);
    expect(compare([0, 0, 0, 2], [0, 0.5, 0, 2])).to.be.above(1);
    expect(compare([0, 0], [0, 1])).to.equal(Number.POSITIVE_INFINITY);
  });
  it("measures short rows against a length that is given", () => {
    expect(compare([0, 1e-6, 0, 1e-6], [0, 2e-6, 0, 1e-6])).to.be.closeTo(1, 1e-3);
    expect(compare([0, 1e-6, 0, 1e-6], [0, 2e-6, 0, 1e-6], 1)).to.be.closeTo(1e-6, 1e-9);
    expect(compare([0, 2], [0, 2.2], 1)).to.be.closeTo(0.1, 1e-6);
  });
  it("does not pass what is not finite, or rows that do not match", () => {
    expect(compare([1, Number.NaN], [1, 1])).to.be.NaN;
    expect(compare([1, Number.POSITIVE_INFINITY], [1, Number.POSITIVE_INFINITY])).to.be.NaN;
    expect(() => compare([1, 2], [1, 2, 3, 4])).to.throw("rows of 2");
  });
});
