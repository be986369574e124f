import { expect } from "chai";
import { encodeWithStages } from "../../src/artifact/encode.ts";
import { encoderNamed } from "../../src/encoders/index.ts";
import { gridFor, pooledStage } from "../../src/encoders/pooled.ts";
import { input } from "../../src/graph/tensor.ts";
import { Scope } from "../../src/nn/scope.ts";
import { compile, floats } from "../support/run.ts";

const value = (i: number) => Math.fround(Math.sin(1 + i));

/** `pooledStage` of value(0), value(1), ... */
async function pooled(shape: readonly number[]) {
  const run = await compile({ y: pooledStage(input("x", "float32", ["n", ...shape.slice(1)])) });
  const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => value(i));
  return (await run({ x: floats(values, shape) })).y!;
}

/** Adaptive average pooling of a map of `size` x `size`, as PyTorch's documentation defines it. */
function naive(at: (row: number, column: number) => number, size: number, grid: number): number[] {
  const window = (i: number) => [Math.floor((i * size) / grid), Math.ceil(((i + 1) * size) / grid)] as const;
  return Array.from({ length: grid ** 2 }, (_, cell) => {
    const [[top, bottom], [left, right]] = [window(Math.floor(cell / grid)), window(cell % grid)];
    let sum = 0;
    for (let row = top; row < bottom; row++)
      for (let column = left; column < right; column++) sum += at(row, column);
    return sum / ((bottom - top) * (right - left));
  });
}

describe("encoders/stages", () => {
  it("are pooled to some 9,000 values, a resnet50's at 224 px over the grids of Goyal et al. 2019", () => {
    const stages = [
      [64, 112],
      [256, 56],
      [512, 28],
      [1024, 14],
      [2048, 7],
    ] as const;
    expect(stages.map(([channels, size]) => gridFor(channels, size))).to.deep.equal([12, 6, 4, 3, 2]);
    expect(gridFor(64, 8)).to.equal(8); // no more than there is
    expect(gridFor(20_000, 7)).to.equal(1);
  });

  it("are means over windows of a map, tokens with the class token before the patches", async () => {
    const [c, size, grid] = [360, 8, 5];
    const map = await pooled([2, c, size, size]);
    expect(map.shape).to.deep.equal([2, c, grid ** 2]);
    for (const [n, channel] of [
      [0, 0],
      [1, 359],
    ] as const) {
      const first = (n * c + channel) * size ** 2;
      const wanted = naive((row, column) => value(first + row * size + column), size, grid);
      const found = map.data.slice((n * c + channel) * grid ** 2, (n * c + channel + 1) * grid ** 2);
      for (const [i, x] of wanted.entries()) expect(found[i]).to.be.closeTo(x, 1e-6);
    }

    const tokens = await pooled([1, 1 + size ** 2, c]);
    expect(tokens.shape).to.deep.equal([1, c, 1 + grid ** 2]);
    const channel = 7;
    const patch = (row: number, column: number) => value((1 + row * size + column) * c + channel);
    const wanted = [value(channel), ...naive(patch, size, grid)];
    const own = tokens.data.slice(channel * wanted.length, (channel + 1) * wanted.length);
    for (const [i, x] of wanted.entries()) expect(own[i]).to.be.closeTo(x, 1e-6);

    const features = await pooled([2, 3]);
    expect(features).to.deep.equal({
      shape: [2, 3, 1],
      data: Float32Array.from({ length: 6 }, (_, i) => value(i)),
    });
  });

  const blocks = Array.from({ length: 12 }, (_, i) => `blocks.${i}`);
  const sizes: Record<string, Record<string, readonly [channels: number, places: number]>> = {
    resnet20: { conv1: [16, 576], layer1: [16, 576], layer2: [32, 256], layer3: [64, 64] },
    resnet50: {
      conv1: [64, 144],
      layer1: [256, 36],
      layer2: [512, 16],
      layer3: [1024, 9],
      layer4: [2048, 4],
    },
    "vit-tiny": Object.fromEntries(blocks.map((name) => [name, [192, 1 + 49]])),
  };
  for (const [encoder, wanted] of Object.entries(sizes)) {
    it(`of ${encoder} come before the features that it builds`, () => {
      const { stages } = encodeWithStages({
        method: "simclr",
        encoder,
        imageSize: encoder === "resnet50" ? 224 : 32,
      });
      expect(
        Object.fromEntries(stages.map(({ name, channels, places }) => [name, [channels, places]])),
      ).to.deep.equal(wanted);
      expect(stages.map(({ name }) => name)).to.deep.equal(Object.keys(wanted));
      const views = input("views", "float32", ["n", 3, 32, 32]);
      const s = new Scope("evaluation");
      const last = encoderNamed(encoder).stages(s, views, 32).at(-1)!;
      expect([last.name, last.x.shape]).to.deep.equal(["features", ["n", encoderNamed(encoder).features]]);
    });
  }
});
