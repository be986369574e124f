import { expect } from "chai";
import { encoderNamed, encoders } from "../../src/encoders/index.ts";
import { patchSize } from "../../src/encoders/vit.ts";
import { UserError } from "../../src/errors.ts";
import { input } from "../../src/graph/tensor.ts";
import { type Mode, Scope } from "../../src/nn/scope.ts";
import { compile } from "../support/run.ts";
import { entriesOf, normals, weightsOf } from "./contrast.ts";

function build(name: string, size: number, mode: Mode = "training", imageSize = size) {
  const s = new Scope(mode);
  const features = encoderNamed(name).build(s, input("images", "float32", ["n", 3, size, size]), imageSize);
  return { s, features };
}
const shapesOf = (name: string, size: number): Record<string, readonly number[]> =>
  Object.fromEntries(build(name, size).s.all.map((state) => [state.name, state.shape]));
const count = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** What timm calls the state of a batch normalisation, but for its counter of batches. */
const bn = (name: string, c: number) => ({
  [`${name}.weight`]: [c],
  [`${name}.bias`]: [c],
  [`${name}.running_mean`]: [c],
  [`${name}.running_var`]: [c],
});

/** timm's resnet18 and resnet34. */
function timmBasic(blocks: readonly number[], stem: number): Record<string, number[]> {
  let shapes: Record<string, number[]> = { "conv1.weight": [64, 3, stem, stem], ...bn("bn1", 64) };
  let before = 64;
  blocks.forEach((depth, stage) => {
    const width = 64 * 2 ** stage;
    for (let i = 0; i < depth; i++) {
      const at = `layer${stage + 1}.${i}`;
      shapes = {
        ...shapes,
        [`${at}.conv1.weight`]: [width, before, 3, 3],
        ...bn(`${at}.bn1`, width),
        [`${at}.conv2.weight`]: [width, width, 3, 3],
        ...bn(`${at}.bn2`, width),
        ...(before !== width && {
          [`${at}.downsample.0.weight`]: [width, before, 1, 1],
          ...bn(`${at}.downsample.1`, width),
        }),
      };
      before = width;
    }
  });
  return shapes;
}

function timmBottleneck(blocks: readonly number[], stem: number): Record<string, number[]> {
  let shapes: Record<string, number[]> = { "conv1.weight": [64, 3, stem, stem], ...bn("bn1", 64) };
  let before = 64;
  blocks.forEach((depth, stage) => {
    const width = 64 * 2 ** stage;
    for (let i = 0; i < depth; i++) {
      const at = `layer${stage + 1}.${i}`;
      shapes = {
        ...shapes,
        [`${at}.conv1.weight`]: [width, before, 1, 1],
        ...bn(`${at}.bn1`, width),
        [`${at}.conv2.weight`]: [width, width, 3, 3],
        ...bn(`${at}.bn2`, width),
        [`${at}.conv3.weight`]: [4 * width, width, 1, 1],
        ...bn(`${at}.bn3`, 4 * width),
        ...(i === 0 && {
          [`${at}.downsample.0.weight`]: [4 * width, before, 1, 1],
          ...bn(`${at}.downsample.1`, 4 * width),
        }),
      };
      before = 4 * width;
    }
  });
  return shapes;
}

function timmVit(width: number, patch: number, tokens: number): Record<string, number[]> {
  let shapes: Record<string, number[]> = {
    cls_token: [1, 1, width],
    pos_embed: [1, tokens, width],
    "patch_embed.proj.weight": [width, 3, patch, patch],
    "patch_embed.proj.bias": [width],
    "norm.weight": [width],
    "norm.bias": [width],
  };
  for (let i = 0; i < 12; i++) {
    const at = `blocks.${i}`;
    shapes = {
      ...shapes,
      [`${at}.norm1.weight`]: [width],
      [`${at}.norm1.bias`]: [width],
      [`${at}.attn.qkv.weight`]: [3 * width, width],
      [`${at}.attn.qkv.bias`]: [3 * width],
      [`${at}.attn.proj.weight`]: [width, width],
      [`${at}.attn.proj.bias`]: [width],
      [`${at}.norm2.weight`]: [width],
      [`${at}.norm2.bias`]: [width],
      [`${at}.mlp.fc1.weight`]: [4 * width, width],
      [`${at}.mlp.fc1.bias`]: [4 * width],
      [`${at}.mlp.fc2.weight`]: [width, 4 * width],
      [`${at}.mlp.fc2.bias`]: [width],
    };
  }
  return shapes;
}

describe("encoders", () => {
  describe("have timm's state names and shapes", () => {
    it("resnet18", () => {
      expect(shapesOf("resnet18", 224)).to.deep.equal(timmBasic([2, 2, 2, 2], 7));
      for (const small of [32, 64])
        expect(shapesOf("resnet18", small)).to.deep.equal(timmBasic([2, 2, 2, 2], 3));
      expect(shapesOf("resnet18", 72)).to.deep.equal(timmBasic([2, 2, 2, 2], 7));
    });
    it("resnet34", () => expect(shapesOf("resnet34", 224)).to.deep.equal(timmBasic([3, 4, 6, 3], 7)));
    it("resnet50", () => expect(shapesOf("resnet50", 224)).to.deep.equal(timmBottleneck([3, 4, 6, 3], 7)));
    it("vit-tiny, vit-small, vit-base", () => {
      expect(shapesOf("vit-tiny", 224)).to.deep.equal(timmVit(192, 16, 197));
      expect(shapesOf("vit-tiny", 32)).to.deep.equal(timmVit(192, 4, 65));
      expect(shapesOf("vit-small", 224)).to.deep.equal(timmVit(384, 16, 197));
      expect(shapesOf("vit-base", 224)).to.deep.equal(timmVit(768, 16, 197));
    });
  });

  // timm's counts without the classifier, and (resnet20) those of the paper: 0.27 M with its classifier of 650.
  const parameters: [name: string, size: number, count: number][] = [
    ["resnet18", 224, 11_176_512],
    ["resnet18", 32, 11_168_832],
    ["resnet34", 224, 21_284_672],
    ["resnet50", 224, 23_508_032],
    ["resnet20", 32, 269_072],
    ["vit-tiny", 224, 5_524_416],
    ["vit-small", 224, 21_665_664],
    ["vit-base", 224, 85_798_656],
  ];
  for (const [name, size, wanted] of parameters) {
    it(`${name} has ${wanted.toLocaleString("en")} parameters at ${size} px`, () => {
      const { s } = build(name, size);
      expect(s.params.reduce((sum, { shape }) => sum + count(shape), 0)).to.equal(wanted);
    });
  }

  it("decay matrices and kernels; no bias, normalisation, token or position", () => {
    for (const { name } of encoders) {
      for (const param of build(name, 32).s.params) {
        const kernel = /(conv\d|downsample\.0|proj|qkv|fc\d)\.weight$/.test(param.name);
        expect(param.decay, `${name}: ${param.name}`).to.equal(kernel);
      }
    }
  });

  it("have the same state in evaluation, in the same order, and no updates there", () => {
    for (const { name } of encoders) {
      const { s } = build(name, 32, "evaluation");
      expect(entriesOf(s)).to.deep.equal(entriesOf(build(name, 32).s));
      expect(s.all.every(({ next }) => next === undefined)).to.equal(true);
    }
  });

  it("update each running statistic in training", () => {
    for (const { name } of encoders) {
      const { s } = build(name, 32);
      const missing = s.all.filter(({ role, next }) => role === "buffer" && !next);
      expect(missing).to.deep.equal([]);
    }
  });

  const runs: [name: string, size: number][] = [
    ...encoders.map(({ name }): [string, number] => [name, 32]),
    ["resnet20", 16],
    ["resnet18", 64],
    ["vit-tiny", 64],
    ["resnet18", 224],
    ["vit-tiny", 224],
  ];
  for (const [name, size] of runs) {
    it(`${name} gives finite features, another vector for another image, at ${size} px`, async () => {
      const { s, features } = build(name, size, "evaluation");
      const length = encoderNamed(name).features;
      expect(features.shape).to.deep.equal(["n", length]);
      const run = await compile({ features });
      const state = weightsOf(s);
      const images = normals([2, 3, size, size], name, size);
      const both = (await run({ ...state, images })).features!;
      expect(both.shape).to.deep.equal([2, length]);
      const data = Array.from(both.data, Number);
      expect(data.every(Number.isFinite)).to.equal(true);
      const [first, second] = [data.slice(0, length), data.slice(length)];
      expect(Math.hypot(...first.map((v, i) => v - second[i]!))).to.be.above(1e-3);
      // In evaluation an image's features do not depend on its batch.
      const data0 = (images.data as Float32Array).slice(0, 3 * size * size);
      const alone = await run({ ...state, images: { shape: [1, 3, size, size], data: data0 } });
      expect(alone.features!.shape).to.deep.equal([1, length]);
      const scale = Math.max(...first.map(Math.abs));
      Array.from(alone.features!.data, Number).forEach((v, i) => {
        expect(v).to.be.closeTo(first[i]!, 1e-4 * scale);
      });
    });
  }

  it("choose the patch by the image size", () => {
    expect([32, 48, 64, 96, 160, 224].map(patchSize)).to.deep.equal([4, 4, 8, 8, 16, 16]);
    expect(() => build("vit-tiny", 34)).to.throw(
      "expected an image size that 4 divides, found 34; try --image-size 32",
    );
  });

  it("have the same state, that of the image size, for views of any multiple", () => {
    for (const { name, multiple } of encoders) {
      expect(multiple(96)).to.equal(name.startsWith("vit") ? 8 : 1);
      const whole = entriesOf(build(name, 96).s);
      for (const size of [40, 104]) {
        const { s, features } = build(name, size, "training", 96);
        expect(features.shape).to.deep.equal(["n", encoderNamed(name).features]);
        expect(entriesOf(s), `${name}, ${size} px`).to.deep.equal(whole);
      }
    }
    expect(() => build("vit-tiny", 41, "training", 96)).to.throw(
      UserError,
      "vit: expected a view size that 8 divides, found 41; try 40",
    );
  });

  it("are found by name, else the nearest is named", () => {
    expect(encoderNamed("resnet18").features).to.equal(512);
    expect(() => encoderNamed("resnet81")).to.throw(
      UserError,
      'unknown encoder "resnet81": did you mean "resnet18"?',
    );
    expect(() => encoderNamed("something else")).to.throw(
      UserError,
      'unknown encoder "something else" (known: resnet18',
    );
  });
});
