import { expect } from "chai";
import { nearByFeatures } from "../../src/probe/near.ts";
import { randomFor } from "../../src/random.ts";
import { failure } from "../data/folder.ts";

describe("probe/near", () => {
  const featuresOf = (rows: readonly (readonly number[])[]) => ({
    data: Float32Array.from(rows.flat()),
    n: rows.length,
    d: rows[0]!.length,
    labels: new Int32Array(0),
    classes: [],
  });

  it("finds rows of a cosine or more, about the mean, with an earlier one that is no copy", async () => {
    const random = randomFor("near");
    const one = Array.from({ length: 8 }, () => random.normal());
    const turned = (by: number) => one.map((value, i) => value + (i === 0 ? by * Math.hypot(...one) : 0));
    const other = Array.from({ length: 8 }, () => random.normal());
    const cosine = (a: readonly number[], b: readonly number[]) =>
      a.reduce((sum, value, i) => sum + value * b[i]!, 0) / Math.hypot(...a) / Math.hypot(...b);
    const rows = [one, other, one.map((value) => 3 * value), turned(0.2), turned(0.45), other];
    const least = 0.97;
    expect(cosine(rows[4]!, rows[3]!)).to.be.above(least); // a chain: alike, but not like the first
    expect(cosine(rows[4]!, rows[0]!)).to.be.below(least);
    // With their opposites the mean is what all are moved by, after which any two have a cosine near 1.
    const all = [...rows, ...rows.map((row) => row.map((value) => -value))].map((row) =>
      row.map((v) => v + 100),
    );
    const found = await nearByFeatures(featuresOf(all), { least, threads: 1 });
    const pairs = [
      [2, 0],
      [3, 0],
      [5, 1],
    ] as const;
    expect(found.map(({ image, of }) => [image, of])).to.deep.equal([
      ...pairs,
      ...pairs.map(([image, of]) => [image + rows.length, of + rows.length]),
    ]);
    expect(found[1]!.likeness).to.be.closeTo(cosine(rows[3]!, rows[0]!), 1e-4);
  });

  it("refuses features that are not finite", async () => {
    const features = featuresOf([
      [1, 2],
      [Number.NaN, 1],
    ]);
    expect(await failure(nearByFeatures(features, { least: 0.9 }))).to.match(
      /expected finite features, found NaN/,
    );
  });
});
