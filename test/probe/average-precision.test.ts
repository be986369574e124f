import { expect } from "chai";
import { meanAveragePrecision, precisionScores } from "../../src/probe/average-precision.ts";
import { randomFor } from "../../src/random.ts";

/** Of one class: its scores, and which rows are of it. */
const ofClass = (scores: readonly number[], positive: readonly boolean[]) =>
  meanAveragePrecision({
    data: Float32Array.from(scores),
    n: scores.length,
    classes: ["a"],
    sets: positive.map((is) => (is ? [0] : [])),
  });

/** By its definition over thresholds: the sum of (recall - recall before) times precision, as scikit-learn computes it. */
function naive(scores: readonly number[], positive: readonly boolean[]): number {
  const total = positive.filter(Boolean).length;
  let [sum, before] = [0, 0];
  for (const threshold of [...new Set(scores)].sort((a, b) => b - a)) {
    const above = positive.filter((_, i) => scores[i]! >= threshold);
    const hits = above.filter(Boolean).length;
    sum += (hits / total - before) * (hits / above.length);
    before = hits / total;
  }
  return 100 * sum;
}

describe("probe/average-precision", () => {
  it("is what a person computes", () => {
    // Ranks 1, 3 and 4 of five are of the class: (1/1 + 2/3 + 3/4) / 3.
    const positive = [false, true, true, false, true];
    expect(ofClass([0.8, 0.9, 0.6, 0.1, 0.7], positive)).to.be.closeTo((100 * (1 + 2 / 3 + 3 / 4)) / 3, 1e-9);
    // The example of scikit-learn's documentation.
    expect(ofClass([0.1, 0.4, 0.35, 0.8], [false, false, true, true])).to.be.closeTo(100 * (5 / 6), 1e-9);
    // Two with one score, one of them of the class: both are seen at once, whichever stands first.
    expect(ofClass([0.5, 0.5, 0.1], [true, false, true])).to.be.closeTo(100 * (1 / 4 + 1 / 3), 1e-9);
    expect(ofClass([0.5, 0.5, 0.1], [false, true, true])).to.be.closeTo(100 * (1 / 4 + 1 / 3), 1e-9);
    expect(ofClass([0.3, 0.2], [false, false])).to.equal(undefined);
  });

  it("is the sum over thresholds, with many ties or none", () => {
    const random = randomFor("average precision");
    for (const [trial, levels] of [3, 10, 1e6, 3, 10, 1e6].entries()) {
      const scores = Array.from({ length: 60 }, () => Math.fround(random.integer(levels) / levels));
      const positive = scores.map((_, i) => i === 0 || random.chance(0.1 + 0.1 * trial));
      expect(ofClass(scores, positive)).to.be.closeTo(naive(scores, positive), 1e-9);
    }
  });

  it("is the mean over the classes that an image is of, with an interval over resamples of the images", () => {
    const random = randomFor("precision scores");
    const [n, classes] = [80, ["a", "b", "c"]];
    const sets = Array.from({ length: n }, () => [0, 2].filter(() => random.chance(0.3)));
    const data = Float32Array.from({ length: n * 3 }, (_, i) =>
      random.uniform(0, sets[Math.floor(i / 3)]!.includes(i % 3) ? 1.5 : 1),
    );
    const scores = precisionScores({ data, n, classes, sets }, { resamples: 300 });
    const wanted = [0, 2].map((place) => {
      const own = sets.map((set) => set.includes(place));
      const averagePrecision = naive(
        sets.map((_, i) => data[3 * i + place]!),
        own,
      );
      return { class: classes[place]!, images: own.filter(Boolean).length, averagePrecision };
    });
    expect(scores.images).to.equal(n);
    for (const [i, { averagePrecision, ...own }] of scores.classes.entries()) {
      expect(own).to.deep.equal({ class: wanted[i]!.class, images: wanted[i]!.images });
      expect(averagePrecision).to.be.closeTo(wanted[i]!.averagePrecision, 1e-9);
    }
    expect(scores.classes).to.have.length(2);
    expect(scores.mean).to.be.closeTo((wanted[0]!.averagePrecision + wanted[1]!.averagePrecision) / 2, 1e-9);
    expect(scores.low).to.be.lessThan(scores.mean);
    expect(scores.high).to.be.greaterThan(scores.mean);
    // Twice as many images: an interval that is smaller by about the root of 2.
    const twice = { data: Float32Array.of(...data, ...data), n: 2 * n, classes, sets: [...sets, ...sets] };
    const more = precisionScores(twice, { resamples: 300 });
    expect((more.high - more.low) / (scores.high - scores.low)).to.be.within(0.5, 0.9);
  });
});
