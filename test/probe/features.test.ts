import { expect } from "chai";
import { UserError } from "../../src/errors.ts";
import { blocks, checkProbe, rowsOfShare, takeRows } from "../../src/probe/features.ts";
import { knn } from "../../src/probe/knn.ts";
import { linearProbe } from "../../src/probe/linear.ts";
import { failure, featuresOf } from "./clusters.ts";

describe("probe/features", () => {
  it("takes rows in the order named, more than once if asked", () => {
    const taken = takeRows(
      featuresOf(
        [
          [1, 2],
          [3, 4],
          [5, 6],
        ],
        [0, 1, 2],
      ),
      [2, 0, 2],
    );
    expect(taken).to.deep.equal(
      featuresOf(
        [
          [5, 6],
          [1, 2],
          [5, 6],
        ],
        [2, 0, 2],
      ),
    );
    expect(takeRows(taken, []).n).to.equal(0);
  });

  it("cuts rows into blocks that cover them once and hold 64 MiB at most", () => {
    expect(blocks(10, 1)).to.deep.equal([[0, 10]]);
    expect(blocks(5, 2 ** 25)).to.deep.equal([
      [0, 2],
      [2, 4],
      [4, 5],
    ]);
    expect(blocks(4, 2 ** 25)).to.deep.equal([
      [0, 2],
      [2, 4],
    ]);
    expect(blocks(2, 2 ** 40)).to.deep.equal([
      [0, 1],
      [1, 2],
    ]);
    expect(blocks(0, 1)).to.deep.equal([]);
  });

  it("gives test labels as places in the classes of the training set", () => {
    const train = featuresOf(
      [
        [1, 0],
        [0, 1],
        [1, 1],
      ],
      [0, 1, 2],
      ["a", "b", "c"],
    );
    const test = featuresOf(
      [
        [1, 0],
        [0, 1],
      ],
      [0, 2],
      ["c", "unused", "a"],
    );
    expect([...checkProbe("probe", train, test)]).to.deep.equal([2, 0]);
  });

  it("takes names that differ in their Unicode form for one class", () => {
    const rows = [
      [1, 0],
      [0, 1],
    ];
    const train = featuresOf(rows, [0, 1], ["caf\u00e9", "tea"]);
    const test = featuresOf(rows, [0, 1], ["tea", "cafe\u0301"]);
    expect([...checkProbe("probe", train, test)]).to.deep.equal([1, 0]);
  });

  it("draws balanced subsets of the labels, by seed, smaller ones within larger ones, of each class an image", () => {
    const labels = Int32Array.from([...Array(100).fill(0), ...Array(80).fill(1), ...Array(4).fill(2)]);
    const set = { labels, classes: ["a", "b", "c"] };
    const counts = (rows: readonly number[]) =>
      [0, 1, 2].map((c) => rows.filter((row) => labels[row] === c).length);
    const ten = rowsOfShare(set, 0.1, 0);
    expect(counts(ten)).to.deep.equal([7, 7, 4]);
    expect(ten).to.deep.equal([...new Set(ten)].sort((a, b) => a - b));
    expect(counts(rowsOfShare(set, 0.001, 0))).to.deep.equal([1, 1, 1]);
    expect(ten).to.include.members([...rowsOfShare(set, 0.02, 0)]);
    expect(rowsOfShare(set, 0.1, 0)).to.deep.equal(ten);
    expect(rowsOfShare(set, 0.1, 1)).not.to.deep.equal(ten);
    expect(rowsOfShare(set, 1, 0)).to.deep.equal([...labels.keys()]);
    for (const share of [0, 1.1, Number.NaN])
      expect(() => rowsOfShare(set, share, 0)).to.throw(/^labels: expected a share above 0, of 1 at most/);
  });

  const good = featuresOf(
    [
      [1, 0],
      [0, 1],
      [1, 1],
      [0, 2],
    ],
    [0, 1, 0, 1],
  );
  const bad: Record<string, [train: typeof good, test: typeof good, RegExp]> = {
    "an empty training set": [featuresOf([], []), good, /training set: expected features .* found none/],
    "an empty test set": [good, featuresOf([], []), /test set: expected features .* found none/],
    "one class": [
      featuresOf(
        [
          [1, 0],
          [0, 1],
        ],
        [1, 1],
      ),
      good,
      /training set: expected .*two classes.* found one class, "b"/,
    ],
    "a class that training lacks": [
      good,
      featuresOf([[1, 0]], [0], ["zebra"]),
      /test set: .*class "zebra", which the training set lacks/,
    ],
    "features of another length": [
      good,
      featuresOf([[1, 0, 0]], [0]),
      /test set: expected 2 features, .*found 3/,
    ],
    "NaN in the training set": [
      featuresOf(
        [
          [1, 0],
          [0, Number.NaN],
        ],
        [0, 1],
      ),
      good,
      /training set: .*NaN in the features of image 1; the encoder gives NaN/,
    ],
    "Infinity in the test set": [
      good,
      featuresOf([[Infinity, 0]], [0]),
      /test set: .*Infinity in the features of image 0/,
    ],
    "missing labels": [
      good,
      featuresOf(
        [
          [1, 0],
          [1, 1],
        ],
        [0],
      ),
      /test set: expected a label for each of 2 images, found 1/,
    ],
  };
  for (const [name, [train, test, message]] of Object.entries(bad)) {
    it(`every probe refuses ${name}`, async () => {
      for (const [start, probe] of [
        ["kNN", knn],
        ["linear probe", linearProbe],
      ] as const) {
        const error = await failure(probe(train, test, { threads: 1 }));
        expect(error).to.be.instanceOf(UserError);
        expect((error as UserError).message).to.match(message);
        expect((error as UserError).message.startsWith(`${start}, `)).to.equal(true);
      }
    });
  }
});
