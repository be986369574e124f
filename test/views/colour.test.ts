import { expect } from "chai";
import { randomFor } from "../../src/random.ts";
import { VIEW_COLUMNS, type ViewRecipe } from "../../src/spec.ts";
import { sampleView } from "../../src/views/sample.ts";
import {
  clip,
  grayscale,
  type Image,
  jitter,
  jitterClipped,
  type Part,
  type Planes,
  turnHue,
} from "./reference.ts";
import {
  average,
  difference,
  expectEqual,
  image,
  jitterOf,
  named,
  noise,
  observed,
  plain,
  planesOf,
  rowOf,
  views,
  whole,
} from "./support.ts";

const SIZE = 12;
const PARTS = ["brightness", "contrast", "saturation", "hue"] as const;

function orders<T>(items: readonly T[]): T[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((first) => orders(items.filter((x) => x !== first)).map((rest) => [first, ...rest]));
}

/** One drawn view of each image, what was drawn, and the picture that the graph makes of it. */
async function drawViews(
  recipe: ViewRecipe,
  images: readonly Image[],
  forced: readonly (readonly Part[] | undefined)[],
) {
  const drawn = images.map((x, i) => {
    const generator = observed(randomFor("colour", i), forced[i]);
    const row = new Float32Array(VIEW_COLUMNS.length);
    sampleView(recipe, x, generator.random, row);
    return { row: named(row), ...generator.jitter() };
  });
  const found = await views(
    recipe,
    images,
    drawn.map((d) => d.row),
  );
  return drawn.map((d, i) => ({ ...d, found: found[i]!, source: planesOf(images[i]!) }));
}

// Gains reach 5 or so and multiply the rounding of values, sums and averages in float32, 1e-7 each.
const TOLERANCE = 5e-6;

describe("colour jitter equals its parts one after the other in double precision", () => {
  const all = orders(PARTS);
  const images = all.map((_, i) => noise(SIZE, SIZE, "jitter", i));
  for (const [name, changes, last] of [
    ["in each of the 24 orders", {}, (x: Planes) => x],
    ["in each order, then gray", { grayscale: 1 }, grayscale],
  ] as const) {
    it(name, async () => {
      expect(all).to.have.length(24);
      const drawn = await drawViews(plain(SIZE, { jitter: jitterOf(1), ...changes }), images, all);
      expectEqual(
        drawn.map((d) => d.found),
        drawn.map((d) => clip(last(jitter(d.source, d.order, d.amounts)))),
        TOLERANCE,
        drawn.map((d) => d.order.join(", ")),
      );
    });
  }

  it("in each order where the recipe rotates no hue", async () => {
    const drawn = await drawViews(plain(SIZE, { jitter: { ...jitterOf(1), hue: 0 } }), images, all);
    expectEqual(
      drawn.map((d) => d.found),
      drawn.map(({ source, order, amounts }) =>
        clip(
          jitter(
            source,
            order.filter((part) => part !== "hue"),
            amounts,
          ),
        ),
      ),
      TOLERANCE,
    );
  });

  it("stays near torchvision, which clips after every part", async () => {
    const many = Array.from({ length: 300 }, (_, i) => noise(SIZE, SIZE, "clipping", i));
    const means = await Promise.all(
      [0.5, 1].map(async (strength) => {
        const recipe = plain(SIZE, { jitter: jitterOf(strength) });
        const drawn = await drawViews(recipe, many, []);
        return average(
          drawn.map(({ found, source, order, amounts }) => {
            const theirs = jitterClipped(source, order, amounts);
            return average(
              found.flatMap((plane, c) => [...plane.map((v, i) => Math.abs(v - theirs[c]![i]!))]),
            );
          }),
        );
      }),
    );
    expect(means[0]).to.be.within(1e-4, 0.005);
    expect(means[1]).to.be.within(1e-4, 0.015);
  });
});

describe("a view's affine colour transformations", () => {
  const source = noise(SIZE, SIZE, "affine");
  const recipe = plain(SIZE, { jitter: { ...jitterOf(1), hue: 0.5 } });
  const x = planesOf(source);
  const level = (p: Planes) => average([...p[0]!]); // of a gray picture

  it("are gain x + gray luma + mean average(luma), clipped, on both sides of the hue", async () => {
    const apply = (p: Planes, gain: number, gray: number, mean: number) => {
      const luma = grayscale(p);
      return clip(
        p.map((plane, c) => plane.map((v, i) => gain * v + gray * luma[c]![i]! + mean * level(luma))),
      );
    };
    const before = { gainBefore: 1.3, grayBefore: -0.6, meanBefore: 0.4 };
    const after = { gainAfter: 0.7, grayAfter: 0.5, meanAfter: -0.3 };
    const changes = [before, after, { ...before, hue: 0.2, ...after }];
    const found = await views(
      recipe,
      changes.map(() => source),
      changes.map((change) => rowOf(whole(source), change)),
    );
    const expected = [
      apply(x, 1.3, -0.6, 0.4),
      apply(x, 0.7, 0.5, -0.3),
      apply(turnHue(apply(x, 1.3, -0.6, 0.4), 0.2), 0.7, 0.5, -0.3),
    ];
    expectEqual(found, expected, TOLERANCE);
  });

  it("weigh red, green and blue by 0.299, 0.587 and 0.114", async () => {
    const primaries = [0, 1, 2].map((channel) => image(4, 4, (_y, _x, c) => (c === channel ? 255 : 0)));
    const found = await views(
      plain(4, { grayscale: 1 }),
      primaries,
      primaries.map((p) => rowOf(whole(p), { gainAfter: 0, grayAfter: 1 })),
    );
    for (const [i, weight] of [0.299, 0.587, 0.114].entries()) {
      for (const plane of found[i]!) for (const v of plane) expect(v).to.be.closeTo(weight, 1e-6);
    }
  });
});

describe("the hue's rotation", () => {
  // Gray levels, pure colours and their mixtures (ties between channels), then every pair of ties at mid levels.
  const levels = [0, 1, 64, 128, 200, 254, 255];
  const colours = [
    ...levels.map((v) => [v, v, v]),
    ...levels.flatMap((a) =>
      levels.flatMap((b) => [
        [a, a, b],
        [a, b, a],
        [b, a, a],
      ]),
    ),
    ...orders([10, 90, 250]),
    ...orders([128, 129, 130]),
  ];
  const side = Math.ceil(Math.sqrt(colours.length));
  const palette = image(side, side, (y, x, c) => colours[(y * side + x) % colours.length]![c]!);
  const random = noise(side, side, "hue");
  const turnedBy = (turns: readonly number[]) =>
    views(
      plain(side, { jitter: { ...jitterOf(1), hue: 0.5 } }),
      turns.flatMap(() => [palette, random]),
      turns.flatMap((hue) => [palette, random].map((x) => rowOf(whole(x), { hue }))),
    );

  it("equals the way through HSV and back in double precision", async () => {
    const turns = [
      -0.5,
      -0.4,
      -1 / 3,
      -0.25,
      -1 / 6,
      -0.1,
      -0.001,
      0.001,
      0.05,
      1 / 6,
      0.2,
      1 / 3,
      0.45,
      0.5,
    ];
    const expected = turns.flatMap((turn) => [palette, random].map((x) => turnHue(planesOf(x), turn)));
    // A hue in float32 is off by 1e-7 turns, a channel by six times that.
    expectEqual(
      await turnedBy(turns),
      expected,
      2e-6,
      turns.flatMap((turn) => [`palette by ${turn}`, `noise by ${turn}`]),
    );
  });

  it("of 0 changes nothing", async () => {
    expectEqual(await turnedBy([0]), [palette, random].map(planesOf), 1e-6);
  });

  it("by a third moves each channel to the next, by a half is the same both ways", async () => {
    const [third, , up, , down] = await turnedBy([1 / 3, 0.5, -0.5]);
    const [r, g, b] = planesOf(palette) as [Float64Array, Float64Array, Float64Array];
    expect(difference(third!, [b, r, g])).to.be.below(2e-6);
    expect(difference(up!, down!)).to.be.below(2e-6);
  });
});
