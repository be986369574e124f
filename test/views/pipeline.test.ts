import { expect } from "chai";
import { BEHIND } from "../../src/data/canvas.ts";
import { randomFor } from "../../src/random.ts";
import { VIEW_COLUMNS } from "../../src/spec.ts";
import { CHANNEL_MEAN, CHANNEL_STD } from "../../src/views/augment.ts";
import { sampleView } from "../../src/views/sample.ts";
import { blur, clip, cropAndResize, grayscale, jitter, solarize } from "./reference.ts";
import {
  centreViews,
  expectEqual,
  image,
  jitterOf,
  MEAN,
  named,
  noise,
  normalised,
  normalisedViews,
  observed,
  plain,
  planesOf,
  STD,
  views,
  viewsOfEach,
  whole,
  wholeViews,
} from "./support.ts";

describe("a drawn view", () => {
  it("is crop, flip, jitter, gray, blur and solarize, in this order", async () => {
    const size = 20;
    const images = Array.from({ length: 8 }, (_, i) => noise(25 + i, 40 - i, "pipeline"));
    const scale = [0.2, 0.5] as const; // always fits, so that the crop draws two numbers and no more
    const base = plain(size, {
      crop: { scale, ratio: [3 / 4, 4 / 3] },
      flip: 1,
      jitter: jitterOf(1),
      blur: { p: 1, sigma: [0.5, 2] },
      solarize: 1,
    });
    for (const [name, gray] of [
      ["in colour", 0],
      ["in gray", 1],
    ] as const) {
      const recipe = { ...base, grayscale: gray };
      const drawn = images.map((x, i) => {
        const generator = observed(randomFor("pipeline", i));
        const row = new Float32Array(VIEW_COLUMNS.length);
        sampleView(recipe, x, generator.random, row);
        return { row: named(row), ...generator.jitter() };
      });
      const found = await views(
        recipe,
        images,
        drawn.map((d) => d.row),
      );
      const expected = drawn.map(({ row, order, amounts }, i) => {
        const coloured = jitter(cropAndResize(images[i]!, row, size, true), order, amounts);
        return solarize(blur(clip(gray ? grayscale(coloured) : coloured), row.sigma, 1));
      });
      expectEqual(
        found,
        expected,
        3e-5,
        drawn.map((_, i) => `image ${i} ${name}`),
      );
    }
  });
});

describe("views of several recipes", () => {
  it("are those that each recipe gives by itself, of other stages and sizes too", async () => {
    const images = [noise(24, 30, "a"), noise(30, 20, "b")];
    const recipes = [
      plain(16, { jitter: jitterOf(1) }),
      plain(12, { solarize: 1 }),
      plain(16, { jitter: jitterOf(1), flip: 1 }),
    ];
    const rows = recipes.map((recipe, v) =>
      images.map((x, i) => {
        const row = new Float32Array(VIEW_COLUMNS.length);
        sampleView(recipe, x, randomFor("each", v, i), row);
        return named(row);
      }),
    );
    const found = await viewsOfEach(recipes, images, rows);
    for (const [v, recipe] of recipes.entries()) {
      expectEqual(found[v]!, await normalisedViews(recipe, images, rows[v]!), 1e-6);
    }
    expect(found[0]).not.to.deep.equal(found[2]);
  });
});

describe("the centre view", () => {
  it("of a square image at its own size is the image, normalised", async () => {
    const images = [noise(32, 32, "a"), noise(32, 32, "b")];
    // A value of 1 / 0.224 per unit, so ten times the tolerance in [0, 1].
    expectEqual(
      await centreViews(images, 32, 1),
      images.map((x) => normalised(planesOf(x))),
      1e-5,
    );
  });

  for (const [height, width, top, left] of [
    [20, 30, 0, 5],
    [30, 20, 5, 0],
    [20, 31, 0, 5], // an odd rest: one more pixel goes at the end
  ] as const) {
    it(`of ${height} x ${width} pixels is the centre square`, async () => {
      const source = noise(height, width);
      const box = { top, left, height: 20, width: 20 };
      expectEqual(await centreViews([source], 20, 1), [normalised(cropAndResize(source, box, 20))], 1e-5);
    });
  }

  it("of 0.875 of 256 pixels is the 224 in the middle, not scaled", async () => {
    const source = noise(256, 256);
    const middle = image(224, 224, (y, x, c) => source.pixels[3 * ((y + 16) * 256 + x + 16) + c]!);
    expectEqual(await centreViews([source], 224, 0.875), [normalised(planesOf(middle))], 1e-5);
  });

  it("scales down and up as a crop does", async () => {
    const source = noise(50, 70);
    const square = { top: 0, left: 10, height: 50, width: 50 };
    const inner = { top: 3, left: 13, height: 44, width: 44 }; // 0.875 * 50 = 43.75
    for (const size of [13, 64]) {
      // Positions are off by 4e-6 pixels, as in a crop, and the normalisation multiplies by up to 4.5.
      expectEqual(
        await centreViews([source], size, 1),
        [normalised(cropAndResize(source, square, size))],
        5e-5,
      );
      expectEqual(
        await centreViews([source], size, 0.875),
        [normalised(cropAndResize(source, inner, size))],
        5e-5,
      );
    }
  });

  it("of one pixel is even", async () => {
    const source = noise(1, 1);
    expectEqual(
      await centreViews([source], 5, 0.875),
      [normalised(cropAndResize(source, whole(source), 5))],
      1e-5,
    );
  });

  it("is normalised by the constants that the package names", () => {
    expect(CHANNEL_MEAN).to.deep.equal(MEAN);
    expect(CHANNEL_STD).to.deep.equal(STD);
  });
});

describe("the view of the whole", () => {
  for (const [height, width] of [
    [20, 47],
    [47, 3],
    [33, 33],
    [1, 9],
  ] as const)
    it(`of ${height} x ${width} pixels is that of a square whose rest has the colour behind images`, async () => {
      const sources = [noise(height, width, "a"), noise(height, width, "b")];
      const side = Math.max(height, width);
      const squares = sources.map(({ pixels }) =>
        image(side, side, (y, x, c) =>
          y < height && x < width ? pixels[3 * (y * width + x) + c]! : Object.values(BEHIND)[c]!,
        ),
      );
      for (const size of [13, 64])
        expectEqual(
          await wholeViews(sources, size),
          squares.map((x) => normalised(cropAndResize(x, whole(x), size))),
          5e-5,
        );
    });
});
