import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { openGraph } from "../../src/probe/features.ts";
import { addPixels, noPixels, pixelScores } from "../../src/probe/iou.ts";
import { epochsFor, type Maps, openSegmenter, rateAt, trainSegmenter } from "../../src/probe/segmentation.ts";
import {
  bilinear,
  corrections,
  segmentationState,
  segmentationStep,
} from "../../src/probe/segmentation-step.ts";
import { randomFor } from "../../src/random.ts";
import { failure } from "../data/folder.ts";

/** Rows times a matrix's columns. */
const upsampled = (map: readonly (readonly number[])[], height: number, width: number): number[][] => {
  const [down, across] = [bilinear(height, map.length), bilinear(width, map.length)];
  return Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => {
      let sum = 0;
      for (const [i, row] of map.entries())
        for (const [j, value] of row.entries())
          sum += down[y * map.length + i]! * across[x * map.length + j]! * value;
      return sum;
    }),
  );
};

describe("probe/segmentation", () => {
  const random = randomFor("segmentation test");
  const normal = (length: number) => Float32Array.from({ length }, () => random.normal());

  it("upsamples as PyTorch's bilinear interpolation", () => {
    // torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)
    const map = [
      [1, 2, -3],
      [0, 5, 7],
      [4, -1, 2],
    ];
    const larger = [
      [1, 1.4, 2, -1, -3],
      [0.375, 1.775, 3.875, 3.5, 3.25],
      [1.5, 2, 2.75, 4.175, 5.125],
      [4, 2, -1, 0.8, 2],
    ];
    const smaller = [
      [1.25, 0.3125],
      [2.375, 2.5625],
    ];
    for (const wanted of [larger, smaller]) {
      const found = upsampled(map, wanted.length, wanted[0]!.length);
      for (const [y, row] of wanted.entries())
        for (const [x, value] of row.entries()) expect(found[y]![x]).to.be.closeTo(value, 1e-5);
    }
  });

  it("steps by AdamW along the gradient of the mean cross-entropy of the pixels that count", async () => {
    const sizes = { channels: 3, grid: 2, classes: 4 };
    const { channels, grid, classes } = sizes;
    const [n, size] = [2, 3];
    const maps = normal(n * channels * grid ** 2);
    const [mean, scale] = [normal(channels), normal(channels)];
    const mask = Uint8Array.from({ length: n * size ** 2 }, (_, i) => (i % 5 === 0 ? 255 : i % 4));
    const state = Object.fromEntries(
      Object.entries(segmentationState(sizes)).map(([name, shape]) => {
        const values = normal(shape.reduce((a, b) => a * b, 1));
        return [name, name.startsWith("v.") ? values.map(Math.abs) : values];
      }),
    );
    const lossOf = (weight: Float32Array, bias: Float32Array): number => {
      let [sum, count] = [0, 0];
      for (let i = 0; i < n; i++) {
        const logits = Array.from({ length: classes }, (_, k) => {
          const coarse = Array.from({ length: grid }, (_, y) =>
            Array.from({ length: grid }, (_, x) => {
              let value = bias[k]!;
              for (let c = 0; c < channels; c++) {
                const z = maps[(i * channels + c) * grid ** 2 + y * grid + x]!;
                value += (z - mean[c]!) * scale[c]! * weight[c * classes + k]!;
              }
              return value;
            }),
          );
          return upsampled(coarse, size, size);
        });
        for (let y = 0; y < size; y++)
          for (let x = 0; x < size; x++) {
            const own = mask[(i * size + y) * size + x]!;
            if (own === 255) continue;
            const all = logits.map((plane) => plane[y]![x]!);
            sum += Math.log(all.reduce((total, value) => total + Math.exp(value), 0)) - all[own]!;
            count++;
          }
      }
      return sum / count;
    };
    const [lr, t] = [0.01, 3];
    const [first, second] = corrections(t) as [number, number];
    const matrix = new ort.Tensor("float32", bilinear(size, grid), [size, grid]);
    const vector = (values: Float32Array, dims: readonly number[]) =>
      new ort.Tensor("float32", values, [...dims]);
    const session = await openGraph(segmentationStep(sizes), 1);
    const found = await session.run({
      ...Object.fromEntries(
        Object.entries(segmentationState(sizes)).map(([name, shape]) => [name, vector(state[name]!, shape)]),
      ),
      ...{ maps: vector(maps, [n, channels, grid ** 2]), down: matrix, across: matrix },
      ...{ mean: vector(mean, [channels]), scale: vector(scale, [channels]) },
      mask: new ort.Tensor("uint8", mask, [n, size, size]),
      lr: vector(Float32Array.of(lr), []),
      ...{
        correction1: vector(Float32Array.of(first), []),
        correction2: vector(Float32Array.of(second), []),
      },
    });
    await session.close();
    const loss = lossOf(state.weight!, state.bias!);
    expect((found.loss!.data as Float32Array)[0]).to.be.closeTo(loss, 1e-5);
    for (const name of ["weight", "bias"] as const) {
      const next = found[`${name}.next`]!.data as Float32Array;
      for (const [i, w] of state[name]!.entries()) {
        const moved = (by: number) => {
          const changed = {
            ...state,
            [name]: state[name]!.map((value, at) => (at === i ? value + by : value)),
          };
          return lossOf(changed.weight!, changed.bias!);
        };
        const h = 2 ** -7;
        const gradient = (moved(h) - moved(-h)) / (2 * h);
        const m = 0.9 * state[`m.${name}`]![i]! + 0.1 * gradient;
        const v = 0.999 * state[`v.${name}`]![i]! + 0.001 * gradient ** 2;
        const wanted = w - lr * (m / (1 - 0.9 ** t) / (Math.sqrt(v / (1 - 0.999 ** t)) + 1e-8) + 1e-4 * w);
        expect(next[i], `${name} ${i}`).to.be.closeTo(wanted, 1e-4 * Math.max(1, Math.abs(wanted)));
      }
    }
  });

  it("warms up over 3.75 % of the steps and falls to 0 linearly", () => {
    expect(rateAt(0, 1000)).to.be.closeTo(1e-3 * (1 / 38), 1e-7);
    expect(rateAt(500, 1000)).to.be.closeTo(5e-4, 1e-12);
    expect(rateAt(999, 1000)).to.be.closeTo(1e-6, 1e-12);
    expect(rateAt(0, 1)).to.equal(1e-3);
    expect([1, 17, 160, 5000].map(epochsFor)).to.deep.equal([1000, 500, 100, 100]);
  });

  /** Maps whose first channel is the class, at a scale and offset of its own, and whose second is noise. */
  function separable(n: number): { maps: Maps; masks: Uint8Array; size: number } {
    const [grid, size] = [4, 8];
    const data = new Float32Array(n * 2 * grid ** 2);
    const masks = new Uint8Array(n * size ** 2);
    for (let i = 0; i < n; i++)
      for (let y = 0; y < grid; y++)
        for (let x = 0; x < grid; x++) {
          const own = random.integer(2);
          data[2 * i * grid ** 2 + y * grid + x] = 100 + 0.01 * own;
          data[(2 * i + 1) * grid ** 2 + y * grid + x] = 50 * random.normal();
          for (const [dy, dx] of [
            [0, 0],
            [0, 1],
            [1, 0],
            [1, 1],
          ] as const)
            masks[i * size ** 2 + (2 * y + dy) * size + 2 * x + dx] = own;
        }
    return { maps: { data, n, channels: 2, grid }, masks, size };
  }

  it("learns classes that a channel holds, whatever its scale, and gives the same bytes again", async () => {
    const { maps, masks, size } = separable(20);
    const how = { classes: 2, size, epochs: 150, threads: 1 };
    const trained = await trainSegmenter(maps, masks, how);
    const again = await trainSegmenter(maps, masks, how);
    expect(again.feeds.weight.data).to.deep.equal(trained.feeds.weight.data);
    const other = await trainSegmenter(maps, masks, { ...how, seed: 1 });
    expect(other.feeds.weight.data).not.to.deep.equal(trained.feeds.weight.data);
    const opened = await openSegmenter(trained, 1);
    const d = 2 * maps.grid ** 2;
    let right = 0;
    for (let i = 0; i < maps.n; i++) {
      const predicted = await opened.predict(maps.data.slice(i * d, (i + 1) * d), size);
      predicted.forEach((place, at) => {
        if (place === masks[i * size ** 2 + at]) right++;
      });
    }
    expect(right / masks.length).to.be.above(0.85); // between places of the grid logits are interpolated
    // In bands: of 3,000 pixels a side logits exceed one.
    const large = await opened.predict(maps.data.slice(0, d), 3000);
    const small = await opened.predict(maps.data.slice(0, d), 8);
    for (const [y, x] of [
      [0, 0],
      [1, 6],
      [7, 7],
      [4, 2],
    ] as const)
      expect(large[Math.floor((y + 0.5) * 375) * 3000 + Math.floor((x + 0.5) * 375)]).to.equal(
        small[y * 8 + x],
      );
    await opened.close();
  });

  it("leaves pixels out that count for nothing", async () => {
    const { maps, masks, size } = separable(4);
    const how = { classes: 2, size, epochs: 3, threads: 1 };
    const some = masks.map((own, i) => (i % 3 === 0 ? 255 : own));
    const other = some.map((own) => (own === 255 ? 77 : own));
    const one = await trainSegmenter(maps, some, how);
    expect((await trainSegmenter(maps, other, how)).feeds.weight.data).to.deep.equal(one.feeds.weight.data);
    expect((await trainSegmenter(maps, masks, how)).feeds.weight.data).not.to.deep.equal(
      one.feeds.weight.data,
    );
    const none = await trainSegmenter(maps, masks.slice().fill(255), how);
    expect([...(none.feeds.weight.data as Float32Array)]).to.deep.equal([0, 0, 0, 0]);
  });

  it("refuses features that are not finite, and no epoch", async () => {
    const { maps, masks, size } = separable(2);
    const how = { classes: 2, size, threads: 1 };
    const broken = { ...maps, data: maps.data.map((x, i) => (i === 40 ? Number.NaN : x)) };
    expect(await failure(trainSegmenter(broken, masks, how))).to.match(
      /segmentation probe, training set: expected finite features, found NaN in the features of image 1/,
    );
    expect(await failure(trainSegmenter(maps, masks, { ...how, epochs: 0 }))).to.match(
      /epochs: expected a whole/,
    );
  });
});

describe("probe/iou", () => {
  it("is what counting pixels anew gives, over the classes that the masks hold", () => {
    const random = randomFor("iou test");
    const classes = 4;
    const counts = noPixels(3, classes);
    const all: { image: number; own: number; predicted: number }[] = [];
    for (const image of [0, 0, 1, 2]) {
      // Class 2 is in no mask; pixels of 255 count for nothing, whatever was told of them.
      const own = Uint8Array.from({ length: 200 }, () => [0, 1, 3, 255][random.integer(4)]!);
      const predicted = own.map((truth) => (truth < 4 && random.chance(0.6) ? truth : random.integer(4)));
      addPixels(counts, image, own, predicted);
      for (const [i, truth] of own.entries())
        if (truth !== 255) all.push({ image, own: truth, predicted: predicted[i]! });
    }
    const iou = (pixels: typeof all, c: number) => {
      const both = pixels.filter(({ own, predicted }) => own === c && predicted === c).length;
      return (100 * both) / pixels.filter(({ own, predicted }) => own === c || predicted === c).length;
    };
    const meanOf = (pixels: typeof all) => {
      const present = [0, 1, 2, 3].filter((c) => pixels.some(({ own }) => own === c));
      return present.reduce((sum, c) => sum + iou(pixels, c), 0) / present.length;
    };
    const {
      meanIoU,
      pixelAccuracy,
      classes: each,
      low,
      high,
    } = pixelScores(counts, { seed: 2, resamples: 50 });
    expect(each.map(({ place }) => place)).to.deep.equal([0, 1, 3]);
    for (const { place, pixels, iou: found } of each) {
      expect(found).to.be.closeTo(iou(all, place), 1e-10);
      expect(pixels).to.equal(all.filter(({ own }) => own === place).length);
    }
    expect(meanIoU).to.be.closeTo(meanOf(all), 1e-10);
    const right = all.filter(({ own, predicted }) => own === predicted).length;
    expect(pixelAccuracy).to.be.closeTo((100 * right) / all.length, 1e-10);
    for (let own = 0; own < classes; own++)
      for (let taken = 0; taken < classes; taken++)
        expect(counts.confusion[own * classes + taken]).to.equal(
          all.filter((pixel) => pixel.own === own && pixel.predicted === taken).length,
        );

    const drawing = randomFor(2, "bootstrap");
    const resampled = Array.from({ length: 50 }, () => {
      const drawn = [0, 1, 2].map(() => drawing.integer(3));
      return meanOf(drawn.flatMap((image) => all.filter((pixel) => pixel.image === image)));
    }).sort((a, b) => a - b);
    // The 2.5th percentile of 50 lies at place 1.225.
    expect(low).to.be.closeTo(resampled[1]! + 0.225 * (resampled[2]! - resampled[1]!), 1e-10);
    expect(high).to.be.closeTo(resampled[48]! - 0.225 * (resampled[48]! - resampled[47]!), 1e-10);
  });

  it("counts a class that was told of pixels where it is in no mask against these pixels alone", () => {
    const counts = noPixels(1, 3);
    addPixels(counts, 0, Uint8Array.of(0, 0, 1, 1), Uint8Array.of(0, 2, 1, 1));
    const { meanIoU, classes } = pixelScores(counts, { resamples: 10 });
    expect(classes.map(({ iou }) => iou)).to.deep.equal([50, 100]);
    expect(meanIoU).to.equal(75);
  });
});
