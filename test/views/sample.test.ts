import { expect } from "chai";
import { randomFor } from "../../src/random.ts";
import { VIEW_COLUMNS, type ViewRecipe } from "../../src/spec.ts";
import { type Size, sampleView } from "../../src/views/sample.ts";
import { jitter, type Planes } from "./reference.ts";
import {
  average,
  difference,
  jitterOf,
  named,
  noise,
  plain,
  planesOf,
  type Row,
  rowOf,
  whole,
} from "./support.ts";

const DRAWS = 2000;
const IMAGE = { height: 80, width: 100 };
const ratio = [3 / 4, 4 / 3] as const;

function draw(recipe: ViewRecipe, image: Size = IMAGE, ...key: (string | number)[]): Row {
  const row = new Float32Array(VIEW_COLUMNS.length).fill(Number.NaN);
  sampleView(recipe, image, randomFor("sample", ...key), row);
  return named(row);
}
const draws = (recipe: ViewRecipe, image: Size = IMAGE): Row[] =>
  Array.from({ length: DRAWS }, (_, i) => draw(recipe, image, i));

/** The mean of uniform draws from [low, high], to within 5 standard errors. */
function expectUniformMean(values: readonly number[], [low, high]: readonly [number, number], slack = 0) {
  const error = (high - low) / Math.sqrt(12 * values.length);
  expect(average(values)).to.be.closeTo((low + high) / 2, 5 * error + slack);
  const spread = Math.sqrt(average(values.map((v) => (v - (low + high) / 2) ** 2)));
  expect(spread).to.be.closeTo((high - low) / Math.sqrt(12), 0.05 * (high - low));
}
const shareOf = (rows: readonly Row[], holds: (row: Row) => boolean) =>
  average(rows.map((row) => (holds(row) ? 1 : 0)));
/** Five standard errors of a share of one half. */
const HALF = 5 * Math.sqrt(0.25 / DRAWS);

describe("a drawn crop", () => {
  it("lies inside the image on whole pixels", () => {
    for (const image of [
      IMAGE,
      { height: 33, width: 32 },
      { height: 7, width: 40 },
      { height: 2, width: 2 },
    ]) {
      for (const { top, left, height, width } of draws(
        plain(8, { crop: { scale: [0.08, 1], ratio } }),
        image,
      )) {
        for (const value of [top, left, height, width]) expect(Number.isInteger(value)).to.equal(true);
        expect(Math.min(top, left)).to.be.at.least(0);
        expect(Math.min(height, width)).to.be.at.least(1);
        expect(top + height).to.be.at.most(image.height);
        expect(left + width).to.be.at.most(image.width);
      }
    }
  });

  it("has the recipe's share of the area, its aspect ratio, and a uniform place", () => {
    // At most 65 pixels a side: every try fits, so nothing bends the distributions.
    const scale = [0.1, 0.4] as const;
    const rows = draws(plain(8, { crop: { scale, ratio } }));
    const area = IMAGE.height * IMAGE.width;
    for (const { height, width } of rows) {
      // Sides are rounded: some box within half a pixel of this one is within the recipe.
      expect((height + 0.5) * (width + 0.5)).to.be.at.least(scale[0] * area);
      expect((height - 0.5) * (width - 0.5)).to.be.at.most(scale[1] * area);
      expect((width + 0.5) / (height - 0.5)).to.be.at.least(ratio[0]);
      expect((width - 0.5) / (height + 0.5)).to.be.at.most(ratio[1]);
    }
    expectUniformMean(
      rows.map((r) => (r.height * r.width) / area),
      scale,
      1e-3,
    );
    expectUniformMean(
      rows.map((r) => Math.log(r.width / r.height)),
      [Math.log(ratio[0]), Math.log(ratio[1])],
      1e-3,
    );
    expectUniformMean(
      rows.map((r) => r.top / (IMAGE.height - r.height)),
      [0, 1],
    );
    expectUniformMean(
      rows.map((r) => r.left / (IMAGE.width - r.width)),
      [0, 1],
    );
    expect(shareOf(rows, (r) => r.top === 0)).to.be.above(0);
    expect(shareOf(rows, (r) => r.left + r.width === IMAGE.width)).to.be.above(0);
  });

  const large = { scale: [0.9, 1], ratio } as const;
  for (const [image, box] of [
    [
      { height: 1, width: 200 },
      { top: 0, left: 99, height: 1, width: 1 },
    ],
    [
      { height: 200, width: 1 },
      { top: 99, left: 0, height: 1, width: 1 },
    ],
    [
      { height: 1, width: 1 },
      { top: 0, left: 0, height: 1, width: 1 },
    ],
    [
      { height: 100, width: 300 },
      { top: 0, left: 83, height: 100, width: 133 },
    ],
    [
      { height: 300, width: 100 },
      { top: 83, left: 0, height: 133, width: 100 },
    ],
  ] as const) {
    it(`of ${image.height} x ${image.width} pixels falls back to the largest centred box within the ratios`, () => {
      for (let i = 0; i < 20; i++) expect(draw(plain(8, { crop: large }), image, i)).to.deep.include(box);
    });
  }

  it("is the whole image where no try fits and its shape is within the ratios", () => {
    const crop = { scale: [4, 4], ratio } as const;
    expect(draw(plain(8, { crop }))).to.deep.include(whole(IMAGE));
  });
});

describe("a drawn view", () => {
  const square = { height: 32, width: 32 };
  /** Each part with the columns that it alone may change. */
  const parts: readonly [string, (p: number) => Partial<ViewRecipe>, (row: Row) => boolean][] = [
    ["flip", (flip) => ({ flip }), (r) => r.flip === 1],
    [
      "jitter",
      (p) => ({ jitter: { ...jitterOf(1), p } }),
      (r) => r.hue !== 0 && (r.gainBefore !== 1 || r.gainAfter !== 1),
    ],
    [
      "grayscale",
      (grayscale) => ({ grayscale }),
      (r) => r.gainAfter === 0 && r.grayAfter === 1 && r.meanAfter === 0,
    ],
    ["blur", (p) => ({ blur: { p, sigma: [0.1, 2] } }), (r) => r.sigma >= 0.1 && r.sigma < 2],
    ["solarize", (solarize) => ({ solarize }), (r) => r.solarize === 1],
  ];

  it("without parts is the whole image unchanged", () => {
    for (let i = 0; i < 20; i++) expect(draw(plain(8), square, i)).to.deep.equal(rowOf(whole(square)));
  });

  for (const [name, part, changed] of parts) {
    it(`has ${name} never, always or half of the time`, () => {
      for (let i = 0; i < 100; i++)
        expect(draw(plain(8, part(0)), square, i)).to.deep.equal(rowOf(whole(square)));
      expect(shareOf(draws(plain(8, part(1)), square), changed)).to.equal(1);
      const rows = draws(plain(8, part(0.5)), square);
      expect(shareOf(rows, changed)).to.be.closeTo(0.5, HALF);
      for (const row of rows) if (!changed(row)) expect(row).to.deep.equal(rowOf(whole(square)));
    });
  }

  it("has brightness, contrast and saturation around 1, never below 0, and the hue's turn around 0", () => {
    const none = { p: 1, brightness: 0, contrast: 0, saturation: 0, hue: 0 };
    for (const x of [0.4, 1.5]) {
      const range = [Math.max(0, 1 - x), 1 + x] as const;
      for (const part of ["brightness", "contrast", "saturation"] as const) {
        const gains = draws(plain(8, { jitter: { ...none, [part]: x } })).map((r) => r.gainAfter);
        expect(Math.min(...gains)).to.be.within(range[0], range[0] + 0.02);
        expect(Math.max(...gains)).to.be.within(range[1] - 0.02, range[1]);
        expectUniformMean(gains, range);
      }
    }
    const hues = draws(plain(8, { jitter: { ...none, hue: 0.2 } })).map((r) => r.hue);
    expect(Math.max(...hues.map(Math.abs))).to.be.within(0.199, 0.2 + 1e-7); // float32's 0.2 is a little more
    expectUniformMean(hues, [-0.2, 0.2]);
  });

  it("has RandAugment's colours one after the other, each by the magnitude's factor", () => {
    const x = planesOf(noise(4, 5, "colours"));
    const amounts = (factor: number) => ({
      brightness: factor,
      contrast: factor,
      saturation: factor,
      hue: 0,
    });
    const parts = ["brightness", "contrast", "saturation"] as const;
    const changes = [
      (y: Planes) => y,
      ...parts.flatMap((part) =>
        [1.3, 0.7].map((factor) => (y: Planes) => jitter(y, [part], amounts(factor))),
      ),
    ];
    const all = changes.flatMap((first) => changes.map((second) => second(first(x))));
    const [red, green, blue] = x as [Float64Array, Float64Array, Float64Array];
    const gray = red.map((r, i) => 0.299 * r + 0.587 * green[i]! + 0.114 * blue[i]!);
    const mean = average([...gray]);
    const seen = new Set<number>();
    const rows = draws(plain(8, { randAugment: { operations: 2, magnitude: 10 } }));
    for (const { gainAfter, grayAfter, meanAfter } of rows) {
      const found = x.map((plane) =>
        plane.map((v, i) => gainAfter * v + grayAfter * gray[i]! + meanAfter * mean),
      );
      const off = all.map((wanted) => difference(found, wanted));
      expect(Math.min(...off)).to.be.below(1e-5);
      seen.add(off.findIndex((value) => value < 1e-5));
    }
    expect(seen.size).to.equal((7 * 8) / 2); // any two of the seven come to the same in either order
    const untouched = shareOf(rows, ({ gainAfter, grayAfter, meanAfter }) => {
      return gainAfter === 1 && grayAfter === 0 && meanAfter === 0;
    });
    expect(untouched).to.be.closeTo(1 / 16, 5 * Math.sqrt(1 / 16 / DRAWS));
  });

  it("keeps even gray levels where only contrast or saturation vary", () => {
    // An even gray picture v has luma v and mean v: the three coefficients must sum to 1 on each side.
    const jitter = { p: 1, brightness: 0, contrast: 0.8, saturation: 0.8, hue: 0.1 };
    for (const row of draws(plain(8, { jitter, grayscale: 0.5 }))) {
      expect(row.gainBefore + row.grayBefore + row.meanBefore).to.be.closeTo(1, 1e-6);
      expect(row.gainAfter + row.grayAfter + row.meanAfter).to.be.closeTo(1, 1e-6);
    }
  });

  it("has brightness before the hue's turn as often as after it", () => {
    const jitter = { p: 1, brightness: 0.5, contrast: 0, saturation: 0, hue: 0.1 };
    const rows = draws(plain(8, { jitter }));
    expect(shareOf(rows, (r) => r.gainBefore !== 1)).to.be.closeTo(0.5, HALF);
    expect(shareOf(rows, (r) => (r.gainBefore !== 1) !== (r.gainAfter !== 1))).to.equal(1);
  });

  it("has sigma uniform in the recipe's range", () => {
    expectUniformMean(
      draws(plain(8, { blur: { p: 1, sigma: [0.1, 2] } })).map((r) => r.sigma),
      [0.1, 2],
    );
  });

  it("fills its row with finite numbers, the same for the same key", () => {
    const recipe = plain(8, {
      crop: { scale: [0.08, 1], ratio },
      flip: 0.5,
      jitter: { ...jitterOf(1), p: 0.8 },
      grayscale: 0.2,
      blur: { p: 0.5, sigma: [0.1, 2] },
      solarize: 0.2,
    });
    const rows = draws(recipe);
    for (const row of rows) {
      expect(Object.values(row)).to.have.length(VIEW_COLUMNS.length);
      expect(Object.values(row).every(Number.isFinite)).to.equal(true);
    }
    expect(draws(recipe)).to.deep.equal(rows);
    expect(new Set(rows.map((row) => Object.values(row).join())).size).to.equal(DRAWS);
  });
});
