import { join } from "node:path";
import { expect } from "chai";
import { randomFor } from "../../src/random.ts";
import { apart, directions, type Encoded, nearest, rowsOf } from "../../src/report/neighbours.ts";

describe("nearest neighbours", () => {
  it("finds the neighbours of images far apart", () => {
    const embedded = (angles: readonly number[], labels: readonly number[]) => ({
      files: angles.map((angle) => `${angle}.png`),
      features: {
        data: Float32Array.from(angles.flatMap((a, i) => [Math.cos(a), Math.sin(a)].map((x) => x * (i + 1)))),
        n: angles.length,
        d: 2,
        labels: Int32Array.from(labels),
        classes: ["a", "b"],
      },
    });
    const encoded: Encoded = {
      train: embedded([0, 0.3, 1, 1.2], [0, 1, 1, 1]),
      test: embedded([5, 0.1, 5, 5, 1.3, 5], [0, 0, 0, 0, 1, 0]),
    };
    const turned: Encoded = { ...encoded, train: embedded([1.2, 1, 0.3, 0], [0, 1, 1, 1]) };
    const rows = rowsOf({ train: "train", test: "test" }, encoded, turned, { count: 2, k: 2 });
    expect(rows.map(({ query, category }) => [query, category])).to.deep.equal([
      [join("test", "0.1.png"), "a"],
      [join("test", "1.3.png"), "b"],
    ]);
    expect(rows[0]!.before).to.deep.equal([
      { file: join("train", "0.png"), same: true },
      { file: join("train", "0.3.png"), same: false },
    ]);
    expect(rows[0]!.after.map(({ same }) => same)).to.deep.equal([false, false]);
    expect(rows[1]!.before.map(({ same }) => same)).to.deep.equal([true, true]);
    expect(rows[1]!.after.map(({ same }) => same)).to.deep.equal([false, true]);
  });

  it("are the rows of the greatest cosines, the image itself left out", () => {
    const [n, d] = [60, 5];
    const random = randomFor("neighbours");
    const data = Float32Array.from({ length: n * d }, () => 3 * random.normal());
    const features = directions({ data, n, d, labels: new Int32Array(0), classes: [] });
    const row = (i: number) => Array.from(data.subarray(i * d, (i + 1) * d));
    const dot = (a: number[], b: number[]) => a.reduce((sum, x, j) => sum + x * b[j]!, 0);
    const cosine = (i: number, j: number) =>
      dot(row(i), row(j)) / Math.sqrt(dot(row(i), row(i)) * dot(row(j), row(j)));
    for (const i of [0, 17, 59]) {
      const others = Array.from({ length: n }, (_, j) => j).filter((j) => j !== i);
      const wanted = others.sort((a, b) => cosine(i, b) - cosine(i, a)).slice(0, 7);
      const found = nearest(features, features, i, 7, i);
      expect(found.map(({ row }) => row)).to.deep.equal(wanted);
      for (const near of found) expect(near.cosine).to.be.closeTo(cosine(i, near.row), 1e-5);
    }
  });

  it("of few images, without classes, and without an encoder before", () => {
    const features = {
      data: Float32Array.of(1, 0, 1, 1, 0, 1),
      n: 3,
      d: 2,
      labels: new Int32Array(0),
      classes: [],
    };
    const one = { features, files: ["a", "b", "c"] };
    const rows = rowsOf({ train: "x", test: "x" }, undefined, { train: one, test: one });
    expect(rows.map(({ query }) => query)).to.deep.equal([join("x", "a"), join("x", "b"), join("x", "c")]);
    expect(rows[0]).to.deep.include({ category: undefined, before: [] });
    expect(rows[0]!.after).to.deep.equal([
      { file: join("x", "b"), same: false },
      { file: join("x", "c"), same: false },
    ]);
    expect(apart(100, 4)).to.deep.equal([12, 37, 62, 87]);
  });
});
