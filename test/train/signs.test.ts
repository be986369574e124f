import { expect } from "chai";
import { randomFor } from "../../src/random.ts";
import { collapseGuard, signsOf } from "../../src/train/signs.ts";

const embeddings = (rows: number, d: number, at: (row: number, column: number) => number) => ({
  data: Float32Array.from({ length: rows * d }, (_, i) => at(Math.floor(i / d), i % d)),
  rows,
  d,
});
const noise = (rows: number, d: number) => {
  const random = randomFor("signs", rows, d);
  return embeddings(rows, d, () => random.normal());
};

/** Rows of length 1, as the definitions say, one by one. */
function naiveStd({ data, rows, d }: ReturnType<typeof embeddings>): number {
  const unit = Array.from({ length: rows }, (_, i) => {
    const row = Array.from(data.subarray(i * d, (i + 1) * d));
    const length = Math.hypot(...row);
    return row.map((x) => x / length);
  });
  const stds = Array.from({ length: d }, (_, j) => {
    const column = unit.map((row) => row[j]!);
    const mean = column.reduce((a, b) => a + b) / rows;
    return Math.sqrt(column.reduce((sum, x) => sum + (x - mean) ** 2, 0) / rows);
  });
  return (stds.reduce((a, b) => a + b) / d) * Math.sqrt(d);
}

describe("train/signs", () => {
  it("has the naive standard deviation, with more rows than dimensions and with fewer", async () => {
    for (const z of [noise(50, 8), noise(6, 20), embeddings(9, 3, (i, j) => 5 + i * j)]) {
      expect((await signsOf(z)).std).to.be.closeTo(naiveStd(z), 1e-6);
    }
  });

  it("tells embeddings that are spread from equal ones", async () => {
    const spread = await signsOf(noise(500, 16));
    expect(spread.std).to.be.closeTo(1, 0.02);
    expect(spread.effectiveRank).to.be.within(15, 16);
    const equal = await signsOf(embeddings(20, 16, (_, j) => j - 3));
    expect(equal.std).to.be.closeTo(0, 1e-6);
    expect(equal.effectiveRank).to.be.closeTo(1, 1e-9);
    expect(await signsOf(embeddings(20, 16, () => 0))).to.deep.equal({ std: 0, effectiveRank: 1 });
  });

  it("has the effective rank of known spectra", async () => {
    // Rows +-e_j, equally often: variances equal on k axes, so rank k; n >= d and n < d.
    const axes = (k: number, d: number) =>
      embeddings(2 * k, d, (i, j) => (j === i >> 1 ? (i % 2 ? -1 : 1) : 0));
    expect((await signsOf(axes(8, 8))).effectiveRank).to.be.closeTo(8, 1e-6);
    expect((await signsOf(axes(3, 32))).effectiveRank).to.be.closeTo(3, 1e-6);
    // Three rows of +-e_0 to one of +-e_1: shares 3/4 and 1/4.
    const uneven = embeddings(8, 4, (i, j) => (j === (i < 6 ? 0 : 1) ? (i % 2 ? -1 : 1) : 0));
    const entropy = -(0.75 * Math.log(0.75) + 0.25 * Math.log(0.25));
    expect((await signsOf(uneven)).effectiveRank).to.be.closeTo(Math.exp(entropy), 1e-6);
  });

  it("looks at the direction of embeddings alone", async () => {
    const z = noise(30, 8);
    const a = await signsOf(z);
    const b = await signsOf({ ...z, data: z.data.map((x) => 1000 * x) });
    expect(b.std).to.be.closeTo(a.std, 1e-6);
    expect(b.effectiveRank).to.be.closeTo(a.effectiveRank, 1e-4);
  });
});

describe("train/signs: the guard", () => {
  const fine = { std: 0.9, effectiveRank: 20 };
  const point = { std: 0.01, effectiveRank: 20 };
  const line = { std: 0.9, effectiveRank: 1.5 };
  const many = { rows: 256, d: 128, images: 128 };

  it("stops at the fifth bad look in a row", () => {
    const guard = collapseGuard();
    for (const step of [100, 110, 120, 130])
      expect(guard.look(step, step % 20 ? point : line, many)).to.equal(undefined);
    const diagnosis = guard.look(140, point, many);
    expect(diagnosis).to.match(
      /^the representation has collapsed at step 140: .* 0\.010 .* effective rank of 20\.0; try/,
    );
  });

  it("begins anew after a good one", () => {
    const guard = collapseGuard();
    for (let look = 0; look < 40; look++) {
      expect(guard.look(100 + 10 * look, look % 5 === 4 ? fine : line, many)).to.equal(undefined);
    }
  });

  it("gives the first hundred steps to spread", () => {
    const guard = collapseGuard();
    for (let step = 10; step < 100; step += 10) expect(guard.look(step, point, many)).to.equal(undefined);
    for (let step = 100; step < 140; step += 10) expect(guard.look(step, point, many)).to.equal(undefined);
    expect(guard.look(140, point, many)).not.to.equal(undefined);
  });

  it("takes signs that are no number as bad", () => {
    const guard = collapseGuard();
    const said = [100, 110, 120, 130, 140].map((step) =>
      guard.look(step, { std: Number.NaN, effectiveRank: Number.NaN }, many),
    );
    expect(said.map((text) => text !== undefined)).to.deep.equal([false, false, false, false, true]);
  });

  const D = 64;
  /** The look at which 30 batches of two views of each image are found bad, the images' embeddings as drawn. */
  async function stopsAt(images: number, draw: (normal: () => number) => readonly number[]) {
    const guard = collapseGuard();
    const random = randomFor("looks", images);
    for (let look = 1; look <= 30; look++) {
      const own = Array.from({ length: images }, () => draw(() => random.normal()));
      const z = embeddings(2 * images, D, (i, j) => own[i % images]![j]! + 1e-3 * random.normal());
      const sample = { rows: 2 * images, d: D, images };
      if (guard.look(100 + 10 * look, await signsOf(z), sample)) return look;
    }
    return undefined;
  }
  const along = (j: number) => Math.cos(j);
  const spread = (normal: () => number) => Array.from({ length: D }, normal);
  const onePoint = () => Array.from({ length: D }, (_, j) => along(j));
  const oneLine = (normal: () => number) => {
    const t = 0.3 * normal();
    return Array.from({ length: D }, (_, j) => along(j) + t * along(2 * j));
  };

  it("asks few images for no more than they can show", async () => {
    for (const images of [1, 2, 3, 4, 6, 12]) {
      expect(await stopsAt(images, spread), `${images} images`).to.equal(undefined);
    }
  });

  it("sees them in one point, after as many looks as see 40 rows", async () => {
    const at = [2, 3, 4, 12].map((images) => stopsAt(images, onePoint));
    expect(await Promise.all(at)).to.deep.equal([10, 7, 5, 5]);
  });

  it("sees them on one line, but for two, which always are", async () => {
    const at = [2, 3, 12].map((images) => stopsAt(images, oneLine));
    expect(await Promise.all(at)).to.deep.equal([undefined, 7, 5]);
  });

  it("has no view of one image, whose views may agree, nor of the rank of embeddings that are short", async () => {
    expect(await stopsAt(1, onePoint)).to.equal(undefined);
    const guard = collapseGuard();
    for (let look = 0; look < 10; look++) {
      const short = { rows: 256, d: 2, images: 128 };
      expect(guard.look(100 + 10 * look, { std: 0.9, effectiveRank: 1.9 }, short)).to.equal(undefined);
    }
  });
});
