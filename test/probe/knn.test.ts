import { expect } from "chai";
import { UserError } from "../../src/errors.ts";
import { blocks, type Features } from "../../src/probe/features.ts";
import { knn, knnPredict, knnVotes } from "../../src/probe/knn.ts";
import { clusters, failure, featuresOf } from "./clusters.ts";

/** The definition, in double precision: sorted similarities, then a vote for each class. */
function naive(train: Features, test: Features, k: number, temperature: number): number[] {
  const unit = ({ data, n, d }: Features) =>
    Array.from({ length: n }, (_, i) => {
      const row = Array.from(data.subarray(i * d, (i + 1) * d));
      const length = Math.hypot(...row);
      return row.map((v) => v / length);
    });
  const bank = unit(train);
  return unit(test).map((row) => {
    const similarities = bank.map((other) => other.reduce((sum, v, j) => sum + v * row[j]!, 0));
    const nearest = similarities.map((s, i) => [s, i] as const).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const votes = train.classes.map(() => 0);
    for (const [s, i] of nearest.slice(0, k)) votes[train.labels[i]!]! += Math.exp(s / temperature);
    return votes.indexOf(Math.max(...votes));
  });
}

const percent = (predicted: readonly number[], { labels }: Features) =>
  (100 * predicted.filter((p, i) => p === labels[i]).length) / labels.length;

describe("probe/knn", () => {
  const cases = [
    { name: "few neighbours", k: 20, temperature: 0.1, train: 500, test: 203, d: 16, classes: 7 },
    { name: "many neighbours", k: 200, temperature: 0.07, train: 400, test: 150, d: 33, classes: 5 },
    { name: "one neighbour", k: 1, temperature: 0.1, train: 300, test: 100, d: 8, classes: 3 },
    { name: "all images", k: 90, temperature: 1, train: 90, test: 40, d: 5, classes: 10 },
    { name: "one test image", k: 10, temperature: 0.1, train: 50, test: 1, d: 4, classes: 2 },
  ];
  for (const { name, k, temperature, ...size } of cases) {
    it(`predicts what the definition does: ${name}`, async () => {
      const train = clusters(1, size.train, size.d, size.classes, 2);
      const test = clusters(2, size.test, size.d, size.classes, 2);
      const wanted = naive(train, test, k, temperature);
      const { predicted } = await knnPredict(train, test, { k, temperature, threads: 1 });
      expect([...predicted]).to.deep.equal(wanted);
      const result = await knn(train, test, { k, temperature, threads: 1 });
      expect(result).to.deep.equal({
        top1: percent(wanted, test),
        k,
        temperature,
        train: train.n,
        test: test.n,
      });
    });
  }

  it("predicts the same in several blocks, the last one shorter", async () => {
    const train = clusters(1, 30_000, 3, 4, 1);
    const test = clusters(2, 1200, 3, 4, 1);
    const lengths = blocks(test.n, 4 * train.n).map(([from, to]) => to - from);
    expect(lengths).to.have.length.above(2);
    expect(lengths.at(-1)).to.be.below(lengths[0]!);
    const { predicted } = await knnPredict(train, test, { k: 20, threads: 1 });
    const rows = [0, 1, lengths[0]! - 1, lengths[0]!, lengths[0]! + 1, 2 * lengths[0]!, 1199];
    const few = featuresOf(
      rows.map((i) => Array.from(test.data.subarray(3 * i, 3 * i + 3))),
      rows.map(() => 0),
    );
    expect(rows.map((i) => predicted[i])).to.deep.equal(naive(train, few, 20, 0.1));
  });

  it("asks 200 neighbours at T = 0.1 unless told, and never more than there are", async () => {
    const test = clusters(2, 10, 4, 3, 1);
    const few = clusters(1, 30, 4, 3, 1);
    expect(await knn(few, test, { threads: 1 })).to.include({ k: 30, temperature: 0.1 });
    expect(await knn(few, test, { k: 31, threads: 1 })).to.include({ k: 30 });
    expect(await knn(clusters(1, 300, 4, 3, 1), test, { threads: 1 })).to.include({ k: 200 });
  });

  it("lets the nearest win at a low temperature, the many at a high one", async () => {
    const train = featuresOf(
      [
        [1, 0.1],
        [1, 1],
        [1, 1],
        [1, 1],
      ],
      [0, 1, 1, 1],
    );
    const test = featuresOf([[1, 0]], [0]);
    const top1 = async (temperature: number) => (await knn(train, test, { temperature, threads: 1 })).top1;
    expect(await top1(0.1)).to.equal(100);
    expect(await top1(1)).to.equal(0);
    expect(await top1(1e-4), "exp(1 / T) would overflow").to.equal(100);
  });

  it("does not see the length of features", async () => {
    const [train, test] = [clusters(1, 60, 4, 3, 1), clusters(2, 40, 4, 3, 1)];
    const longer = { ...train, data: train.data.map((v, i) => v * 2 ** (Math.floor(i / 4) % 9)) };
    const predicted = async (bank: Features) => [
      ...(await knnPredict(bank, test, { k: 10, threads: 1 })).predicted,
    ];
    expect(await predicted(longer)).to.deep.equal(await predicted(train));
  });

  it("gives equal votes to the first class, equal similarities to the first image", async () => {
    const query = featuresOf([[1, 1]], [0]);
    const rows = [
      [1, 0],
      [0, 1],
      [1, 0],
      [0, 1],
    ];
    const predict = async (labels: number[], k: number) => [
      ...(await knnPredict(featuresOf(rows, labels), query, { k, threads: 1 })).predicted,
    ];
    expect(await predict([2, 1, 2, 1], 4)).to.deep.equal([1]);
    expect(await predict([1, 2, 2, 1], 4)).to.deep.equal([1]);
    expect(await predict([2, 1, 0, 0], 1)).to.deep.equal([2]);
    expect(await predict([2, 1, 0, 0], 2)).to.deep.equal([1]);
  });

  it("compares a feature of zeros with anything at similarity 0", async () => {
    const train = featuresOf(
      [
        [0, 0],
        [-1, 0],
        [-1, 1],
      ],
      [0, 1, 1],
    );
    expect(await knn(train, featuresOf([[1, 0]], [0]), { k: 1, threads: 1 })).to.include({ top1: 100 });
  });

  it("refuses a k or a temperature that is none", async () => {
    const set = clusters(1, 10, 4, 2, 1);
    for (const options of [
      { k: 0 },
      { k: 1.5 },
      { k: Number.NaN },
      { temperature: 0 },
      { temperature: Number.NaN },
    ]) {
      const error = await failure(knn(set, set, options));
      expect(error).to.be.instanceOf(UserError);
      expect((error as UserError).message).to.match(/^kNN, (k|temperature): expected a .*number.* found /);
    }
    expect(String(await failure(knnVotes(set, set, { k: [], temperature: [1] })))).to.match(/found none$/);
  });
});
