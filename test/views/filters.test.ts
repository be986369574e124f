import { expect } from "chai";
import { blur, solarize } from "./reference.ts";
import {
  expectEqual,
  image,
  MEAN,
  noise,
  normalisedViews,
  plain,
  planesOf,
  rowOf,
  STD,
  views,
  whole,
} from "./support.ts";

describe("Gaussian blur", () => {
  const recipe = (size: number) => plain(size, { blur: { p: 1, sigma: [0.1, 2] } });

  it("equals a direct convolution with mirrored edges in double precision", async () => {
    const sigmas = [0.1, 0.3, 0.7, 1, 2, 8];
    for (const [size, radius] of [
      [1, 1],
      [2, 1],
      [9, 1],
      [32, 1],
      [45, 2],
      [64, 3],
    ] as const) {
      const images = sigmas.map((sigma) => noise(size, size, "blur", 10 * sigma));
      const found = await views(
        recipe(size),
        images,
        images.map((x, i) => rowOf(whole(x), { sigma: sigmas[i]! })),
      );
      const expected = images.map((x, i) => blur(planesOf(x), sigmas[i]!, radius));
      // Sizes whose reciprocal float32 rounds well, so that the crop keeps pixels; then two sums of values up to 1.
      const names = sigmas.map((sigma) => `${size} pixels, sigma ${sigma}`);
      expectEqual(found, expected, 2e-6, names);
    }
  });

  it("by 0 leaves the view, next to a blurred one", async () => {
    const images = [noise(40, 40, "a"), noise(40, 40, "b")];
    const rows = [rowOf(whole(images[0]!), { sigma: 0 }), rowOf(whole(images[1]!), { sigma: 1.5 })];
    const found = await views(recipe(40), images, rows);
    expectEqual(found, [planesOf(images[0]!), blur(planesOf(images[1]!), 1.5, 2)], 1e-6);
  });

  // SimCLR: a tenth of the height, made odd; at least 3 taps, so that small views can be blurred at all.
  for (const [size, taps] of [
    [8, 3],
    [9, 3],
    [10, 3],
    [32, 3],
    [39, 3],
    [40, 5],
    [64, 7],
    [96, 9],
    [224, 23],
  ] as const) {
    it(`spans ${taps} taps on ${size} pixels`, async () => {
      const centre = Math.floor(size / 2);
      const point = image(size, size, (y, x) => (y === centre && x === centre ? 255 : 0));
      // So wide a bell that all taps weigh almost the same: the point becomes a square of taps x taps.
      const [found] = await views(recipe(size), [point], [rowOf(whole(point), { sigma: 1000 })]);
      const reach = (taps - 1) / 2;
      const near = (i: number) => Math.abs(i - centre) <= reach;
      found![1]!.forEach((v, i) => {
        const weight = near(Math.floor(i / size)) && near(i % size) ? 1 / taps ** 2 : 0;
        if (!(Math.abs(v - weight) < 1e-6)) expect.fail(`found ${v} at pixel ${i}, expected ${weight}`);
      });
    });
  }
});

describe("solarize", () => {
  // Every level of gray, in each channel at another place.
  const levels = image(16, 16, (y, x, c) => (y * 16 + x + 85 * c) % 256);
  it("inverts values from one half up, where the flag is set", async () => {
    const images = [levels, levels];
    const rows = [rowOf(whole(levels), { solarize: 1 }), rowOf(whole(levels), { solarize: 0 })];
    const found = await views(plain(16, { solarize: 0.2 }), images, rows);
    expectEqual(found, [solarize(planesOf(levels)), planesOf(levels)], 1e-6);
    expect(found[0]![0]![127]).to.be.closeTo(127 / 255, 1e-6);
    expect(found[0]![0]![128]).to.be.closeTo(127 / 255, 1e-6);
    expect(found[0]![0]![255]).to.be.closeTo(0, 1e-6);
  });
});

describe("a view", () => {
  it("is normalised by ImageNet's means and standard deviations", async () => {
    const bands = image(4, 4, (y) => [0, 100, 200, 255][y]!);
    const [found] = await normalisedViews(plain(4), [bands], [rowOf(whole(bands))]);
    for (const [c, plane] of found!.entries()) {
      plane.forEach((v, i) => {
        const x = [0, 100, 200, 255][Math.floor(i / 4)]! / 255;
        expect(v).to.be.closeTo((x - MEAN[c]!) / STD[c]!, 1e-5);
      });
    }
  });
});
