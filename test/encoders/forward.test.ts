/** Encoders on images of 8 px against forward passes in double precision, written from the papers and timm. */
import { expect } from "chai";
import { encoderNamed } from "../../src/encoders/index.ts";
import { input } from "../../src/graph/tensor.ts";
import { Scope } from "../../src/nn/scope.ts";
import * as naive from "../ops/naive.ts";
import { compile, floats, type Value } from "../support/run.ts";
import { bicubic, normals, weightsOf } from "./contrast.ts";

type Weights = Record<string, Value>;
const SIZE = 8;

/**
 * Our features of one view by the encoder's form for `imageSize` pixels, and the weights they came from: each norm and bias
 * with values that show.
 */
async function features(name: string, image: Value, imageSize = SIZE) {
  const s = new Scope("evaluation");
  const run = await compile({
    y: encoderNamed(name).build(s, input("images", "float32", ["n", 3, SIZE, SIZE]), imageSize),
  });
  const weights = weightsOf(s);
  s.all.forEach(({ name: label, shape, init }) => {
    if (init.kind !== "constant") return;
    const noise = normals(shape, label).data as Float32Array;
    const data = weights[label]!.data as Float32Array;
    const scale = label.endsWith("running_var") ? 0.1 : 0.2;
    for (let i = 0; i < data.length; i++) data[i] = init.value + scale * Math.tanh(noise[i]!);
  });
  // Attention starts even everywhere; stronger queries and keys make it differ from place to place.
  for (const [label, { data }] of Object.entries(weights)) {
    if (label.endsWith("attn.qkv.weight"))
      for (let i = 0; i < data.length; i++) (data as Float32Array)[i]! *= 4;
  }
  const { y } = await run({ ...weights, images: image });
  return { found: Array.from(y!.data, Number), weights: weights as Weights };
}

function expectClose(found: readonly number[], wanted: readonly number[]) {
  expect(found).to.have.length(wanted.length);
  const scale = Math.max(...wanted.map(Math.abs));
  wanted.forEach((value, i) => {
    expect(found[i], `feature ${i}`).to.be.closeTo(value, 2e-4 * scale);
  });
}

interface Image {
  readonly shape: readonly number[];
  readonly data: number[];
}

/** conv, then bn with running statistics, of the layers named. */
function convBn(weights: Weights, x: Image, convName: string, bnName: string, stride: number): Image {
  const w = weights[`${convName}.weight`]!;
  const kernel = naive.array4(w.data as Float32Array, w.shape);
  const window = { stride, pad: (w.shape[2]! - 1) / 2, groups: 1, dilation: 1 };
  const y = naive.conv(naive.array4(x.data, x.shape), kernel, window);
  const of = (part: string) => weights[`${bnName}.${part}`]!.data as Float32Array;
  const [gain, bias, means, variances] = ["weight", "bias", "running_mean", "running_var"].map(of);
  const area = y.shape[2] * y.shape[3];
  const data = y.data.map((v, i) => {
    const c = Math.floor(i / area);
    return ((v - means![c]!) / Math.sqrt(variances![c]! + 1e-5)) * gain![c]! + bias![c]!;
  });
  return { shape: y.shape, data };
}
const relu = ({ shape, data }: Image): Image => ({ shape, data: data.map((v) => Math.max(v, 0)) });

/** Option A of the paper: every other pixel, half of the new channels of zeros on each side. */
function paddedShortcut(x: Image, out: Image, stride: number): Image {
  const [, c] = x.shape as [number, number];
  const [, channels] = out.shape as [number, number];
  const before = (channels - c) / 2;
  const from = naive.array4(x.data, x.shape);
  const shape = out.shape as [number, number, number, number];
  return {
    shape,
    data: naive.fill4(shape, (n, j, row, column) =>
      j < before || j >= before + c ? 0 : from.at(n, j - before, row * stride, column * stride),
    ),
  };
}

function naiveResnet(weights: Weights, image: Image, blocks: readonly number[]): number[] {
  let x = relu(convBn(weights, image, "conv1", "bn1", 1));
  blocks.forEach((depth, stage) => {
    for (let i = 0; i < depth; i++) {
      const at = `layer${stage + 1}.${i}`;
      const stride = stage > 0 && i === 0 ? 2 : 1;
      const layer = (k: number, y: Image, by: number) =>
        convBn(weights, y, `${at}.conv${k}`, `${at}.bn${k}`, by);
      // A bottleneck has its stride in the 3x3 convolution, a basic block in its first.
      const y = weights[`${at}.conv3.weight`]
        ? layer(3, relu(layer(2, relu(layer(1, x, 1)), stride)), 1)
        : layer(2, relu(layer(1, x, stride)), 1);
      const shortcut = weights[`${at}.downsample.0.weight`]
        ? convBn(weights, x, `${at}.downsample.0`, `${at}.downsample.1`, stride)
        : paddedShortcut(x, y, stride);
      x = relu({ shape: y.shape, data: y.data.map((v, k) => v + shortcut.data[k]!) });
    }
  });
  return naive.rowsOf(x.data, x.shape[2]! * x.shape[3]!).map(naive.mean);
}

type Rows = number[][];

function naiveVit(weights: Weights, image: naive.Array4, width: number, heads: number): number[] {
  const at = (name: string) => weights[name]!.data as Float32Array;
  const linear = (name: string, x: Rows): Rows => {
    const rows = naive.rowsOf(at(`${name}.weight`), x[0]!.length);
    const bias = at(`${name}.bias`);
    return x.map((v) => rows.map((w, o) => w.reduce((sum, k, i) => sum + k * v[i]!, bias[o]!)));
  };
  const layerNorm = (name: string, x: Rows): Rows =>
    x.map((v) => {
      const [m, deviation] = [naive.mean(v), Math.sqrt(naive.variance(v) + 1e-6)];
      return v.map((k, i) => ((k - m) / deviation) * at(`${name}.weight`)[i]! + at(`${name}.bias`)[i]!);
    });
  const add = (x: Rows, y: Rows): Rows => x.map((row, i) => row.map((v, k) => v + y[i]![k]!));
  const attention = (name: string, x: Rows): Rows => {
    const d = width / heads;
    const qkv = linear(`${name}.qkv`, x);
    const mixed = x.map(() => Array<number>(width));
    for (let h = 0; h < heads; h++) {
      const [q, k, v] = [0, 1, 2].map((part) =>
        qkv.map((row) => row.slice(part * width + h * d, part * width + (h + 1) * d)),
      ) as [Rows, Rows, Rows];
      q.forEach((query, i) => {
        const e = k.map((key) => Math.exp(key.reduce((sum, n, c) => sum + n * query[c]!, 0) / Math.sqrt(d)));
        const total = e.reduce((a, b) => a + b, 0);
        for (let c = 0; c < d; c++) {
          mixed[i]![h * d + c] = v.reduce((sum, value, j) => sum + (e[j]! / total) * value[c]!, 0);
        }
      });
    }
    return linear(`${name}.proj`, mixed);
  };
  const gelu = (x: Rows): Rows => x.map((row) => row.map((v) => (v * (1 + naive.erf(v / Math.SQRT2))) / 2));

  const w = weights["patch_embed.proj.weight"]!;
  const kernel = naive.array4(w.data as Float32Array, w.shape);
  const window = { stride: 4, pad: 0, groups: 1, dilation: 1 };
  const patches = naive.conv(image, kernel, window); // [1, width, 2, 2]
  const bias = at("patch_embed.proj.bias");
  const cells = [0, 1, 2, 3].map((p) =>
    Array.from({ length: width }, (_, o) => patches.data[o * 4 + p]! + bias[o]!),
  );
  let x = add([Array.from(at("cls_token")), ...cells], naive.rowsOf(at("pos_embed"), width));
  for (let i = 0; i < 12; i++) {
    const name = `blocks.${i}`;
    x = add(x, attention(`${name}.attn`, layerNorm(`${name}.norm1`, x)));
    x = add(x, linear(`${name}.mlp.fc2`, gelu(linear(`${name}.mlp.fc1`, layerNorm(`${name}.norm2`, x)))));
  }
  return layerNorm("norm", x)[0]!;
}

describe("encoders in double precision", () => {
  const image = normals([1, 3, SIZE, SIZE], "forward");
  const values = { shape: image.shape, data: Array.from(image.data, Number) };

  for (const [name, blocks] of [
    ["resnet20", [3, 3, 3]],
    ["resnet18", [2, 2, 2, 2]],
    ["resnet50", [3, 4, 6, 3]],
  ] as const) {
    it(`${name} gives the same features`, async () => {
      const { found, weights } = await features(name, image);
      expectClose(found, naiveResnet(weights, values, blocks));
    });
  }

  it("vit-tiny gives the same features", async () => {
    const { found, weights } = await features("vit-tiny", image);
    expectClose(found, naiveVit(weights, naive.array4(values.data, values.shape), 192, 3));
  });

  it("vit-tiny for 24 px gives the same features of a crop of 8 px", async () => {
    const { found, weights } = await features("vit-tiny", image, 24);
    const { shape, data } = weights.pos_embed!;
    expect(shape).to.deep.equal([1, 1 + 6 * 6, 192]);
    const [token, grid] = [data.slice(0, 192), data.slice(192)].map((part) => Array.from(part, Number));
    const places = [...token!, ...bicubic(grid!, 6, 2, 192)];
    const resampled = { ...weights, pos_embed: floats(places, [1, 1 + 2 * 2, 192]) };
    expectClose(found, naiveVit(resampled, naive.array4(values.data, values.shape), 192, 3));
  });
});
