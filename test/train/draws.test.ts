import { expect } from "chai";
import { compile } from "../../src/artifact/compile.ts";
import type { Manifest } from "../../src/spec.ts";
import { VIEW_COLUMNS } from "../../src/spec.ts";
import { drawStep, drawViews, imagesInTurn } from "../../src/train/draws.ts";

const { manifest } = compile({ method: "simclr", encoder: "resnet20", imageSize: 16 });
const bank = {
  ...manifest.state[0]!,
  name: "bank",
  shape: [4],
  rows: { others: "bank.others", count: 5 },
};
const withDraws = { ...manifest, permutations: ["shuffle", "again"], state: [bank] } as unknown as Manifest;
const batchOf = (indices: readonly number[], step = 0) => ({
  indices,
  sizes: indices.map(() => ({ height: 20, width: 20 })),
  epoch: 0,
  step,
});
const othersOf = (indices: readonly number[], images: number, step = 0) =>
  drawStep(withDraws, 1, batchOf(indices, step), images).others.bank!;

describe("train/draws", () => {
  it("orders the batch's rows anew for each permutation and step", () => {
    const indices = Array.from({ length: 16 }, (_, i) => 3 * i);
    const [first, second] = drawStep(withDraws, 1, batchOf(indices), 100).permutations;
    const rows = indices.map((_, i) => BigInt(i));
    for (const order of [first!, second!])
      expect([...order].sort((a, b) => Number(a - b))).to.deep.equal(rows);
    expect(first).not.to.deep.equal(second);
    expect([...first!]).not.to.deep.equal(rows);
    const again = drawStep(withDraws, 1, batchOf(indices), 100).permutations[0];
    expect(again).to.deep.equal(first);
    const later = drawStep(withDraws, 1, batchOf(indices, 1), 100).permutations[0];
    expect(later).not.to.deep.equal(first);
  });

  it("draws other images for a bank, each once and never one of the batch", () => {
    const batch = [7, 0, 3, 11, 11];
    for (let step = 0; step < 200; step++) {
      const others = othersOf(batch, 12, step);
      expect(others).to.have.length(5);
      expect(new Set(others).size).to.equal(5);
      for (const image of others) {
        expect(image).to.be.within(0, 11);
        expect(batch).not.to.include(image);
      }
    }
    expect(othersOf(batch, 12, 1)).to.deep.equal(othersOf(batch, 12, 1));
  });

  it("draws every other image as often", () => {
    const counts = new Map<number, number>();
    const trials = 4000;
    for (let step = 0; step < trials; step++)
      for (const image of othersOf([2, 5], 22, step)) counts.set(image, (counts.get(image) ?? 0) + 1);
    expect(counts.size).to.equal(20);
    // 5 of 20: each with probability 1/4.
    const error = Math.sqrt(trials * 0.25 * 0.75);
    for (const [image, count] of counts) expect(count, `image ${image}`).to.be.closeTo(trials / 4, 5 * error);
  });

  it("takes all that there are where they are fewer", () => {
    expect([...othersOf([0, 2], 5)].sort()).to.deep.equal([1, 3, 4]);
    expect(othersOf([0, 1], 2)).to.deep.equal([]);
  });

  it("takes the images of an item in turn, those of a group the same one", () => {
    const grid = { group: { name: "grid", color: true } };
    expect(imagesInTurn([{}, {}, {}, {}, {}], 2)).to.deep.equal([0, 1, 0, 1, 0]);
    expect(imagesInTurn([{}, grid, grid, grid], 2)).to.deep.equal([0, 1, 1, 1]);
    expect(imagesInTurn([grid, grid], 2)).to.deep.equal([0, 0]);
    expect(imagesInTurn([{}, {}], 1)).to.deep.equal([0, 0]);
  });

  it("draws each view in the place of its own image, as if that were alone", () => {
    const indices = [3, 8];
    const places = [
      [
        { top: 0, left: 0, height: 20, width: 30 },
        { top: 20, left: 0, height: 16, width: 12 },
      ],
      [
        { top: 5, left: 2, height: 9, width: 9 },
        { top: 5, left: 2, height: 9, width: 9 },
      ],
    ];
    const sizes = places.map(() => ({ height: 40, width: 40 }));
    const [top, left] = [VIEW_COLUMNS.indexOf("top"), VIEW_COLUMNS.indexOf("left")];
    const drawn = drawViews(manifest, 1, { indices, sizes, places, epoch: 2 });
    drawn.forEach((rows, view) => {
      const own = places.map((boxes) => ({ height: boxes[view]!.height, width: boxes[view]!.width }));
      const alone = drawViews(manifest, 1, { indices, sizes: own, epoch: 2 })[view]!;
      places.forEach((boxes, i) => {
        alone[i * VIEW_COLUMNS.length + top]! += boxes[view]!.top;
        alone[i * VIEW_COLUMNS.length + left]! += boxes[view]!.left;
      });
      expect(rows).to.deep.equal(alone);
    });
  });

  it("draws crops again until they overlap the first as asked, and leaves all else as it was", () => {
    const indices = Array.from({ length: 400 }, (_, i) => i);
    const sizes = indices.map(() => ({ height: 60, width: 80 }));
    const [top, left, height, width] = (["top", "left", "height", "width"] as const).map((name) =>
      VIEW_COLUMNS.indexOf(name),
    ) as [number, number, number, number];
    const shares = (overlap: number | undefined) => {
      const [a, b] = drawViews(manifest, 1, { indices, sizes, epoch: 0 }, overlap) as [
        Float32Array,
        Float32Array,
      ];
      const share = (i: number) => {
        const [p, q] = [a, b].map((rows) => rows.subarray(i * VIEW_COLUMNS.length));
        let both = 0; // pixels, counted one by one
        for (let y = p![top]!; y < p![top]! + p![height]!; y++)
          for (let x = p![left]!; x < p![left]! + p![width]!; x++)
            if (y >= q![top]! && y < q![top]! + q![height]! && x >= q![left]! && x < q![left]! + q![width]!)
              both++;
        return both / Math.min(p![height]! * p![width]!, q![height]! * q![width]!);
      };
      return { first: a, rows: b, all: indices.map(share) };
    };
    const free = shares(undefined);
    expect(free.all.filter((share) => share < 0.6).length).to.be.above(50);
    const close = shares(0.6);
    expect(Math.min(...close.all)).to.be.at.least(0.6);
    expect(close.first).to.deep.equal(free.first);
    expect(shares(0).rows).to.deep.equal(free.rows);
    const kept = indices.filter((i) => free.all[i]! >= 0.6);
    const row = (of: typeof free, i: number) =>
      of.rows.subarray(i * VIEW_COLUMNS.length, (i + 1) * VIEW_COLUMNS.length);
    for (const i of kept) expect(row(close, i)).to.deep.equal(row(free, i));
    expect(Math.min(...shares(1).all)).to.equal(1); // one within the other
  });

  it("costs no time that grows with the data", () => {
    // A list of so many images would not fit into memory.
    const others = othersOf([5, 2 ** 30], 2 ** 31);
    expect(others).to.have.length(5);
  });
});
