import { expect } from "chai";
import {
  bootstrapInterval,
  confusionCsv,
  scoresOf,
  spreadOf,
  type TestImage,
} from "../../src/probe/result.ts";

/** The quantile of a binomial count: what the bootstrap of a share draws from. */
function binomialQuantile(n: number, p: number, share: number): number {
  let probability = (1 - p) ** n;
  let below = probability;
  let count = 0;
  while (below < share) {
    probability *= ((n - count) / (count + 1)) * (p / (1 - p));
    below += probability;
    count++;
  }
  return count;
}

describe("probe/result", () => {
  const classes = ["a", "b", "c", "d", "e", "f", "g"];
  const files = ["b/1", "a/2", "g/3", "a/4"];
  const labels = Int32Array.of(1, 0, 6, 0);
  const places = Int32Array.of(1, 0, 2, 3, 4, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4, 2, -1, -1, -1, -1);
  const scores = scoresOf({ places, width: 5 }, { files, labels, classes });

  it("counts the images whose class scores highest, or is among five, and those of each class", () => {
    expect(scores).to.deep.include({ top1: 25, top5: 50 });
    expect(scores.classes).to.deep.equal([
      { class: "a", images: 2, top1: 0 },
      { class: "b", images: 1, top1: 100 },
      { class: "g", images: 1, top1: 0 },
    ]);
  });

  it("keeps what became of each image, in order", () => {
    expect(scores.images).to.deep.equal([
      { file: "b/1", class: "b", predicted: "b", right: true },
      { file: "a/2", class: "a", predicted: "b", right: false },
      { file: "g/3", class: "g", predicted: "a", right: false },
      { file: "a/4", class: "a", predicted: "c", right: false },
    ]);
  });

  it("bootstraps the interval over images: percentiles as those of the binomial counts, seeded", () => {
    const right = Array.from({ length: 200 }, (_, i) => i % 10 < 7);
    const [low, high] = bootstrapInterval(right, { resamples: 4000 });
    expect(low).to.be.closeTo(binomialQuantile(200, 0.7, 0.025) / 2, 0.75);
    expect(high).to.be.closeTo(binomialQuantile(200, 0.7, 0.975) / 2, 0.75);
    expect(bootstrapInterval(right, { resamples: 4000 })).to.deep.equal([low, high]);
    const few = bootstrapInterval(right, { resamples: 50 });
    expect(bootstrapInterval(right, { resamples: 50, seed: 1 })).not.to.deep.equal(few);
    expect(bootstrapInterval([true, true])).to.deep.equal([100, 100]);
    expect(() => bootstrapInterval([true], { resamples: 0 })).to.throw(/resamples: expected a whole number/);
  });

  it("gives the spread over seeds as the standard deviation of a sample", () => {
    const values = [62, 60, 67];
    const spread = { values, mean: 63, std: Math.sqrt(13), least: 60, greatest: 67 };
    expect(spreadOf(values)).to.deep.equal(spread);
  });

  it("writes the confusion as CSV, with names that hold commas, quotes and line ends", () => {
    const of = (label: string, predicted: string): TestImage => ({
      ...{ file: "", class: label, predicted, right: label === predicted },
    });
    const images = [
      of("a,b", "a,b"),
      of("a,b", 'say "x"'),
      of('say "x"', 'say "x"'),
      of("a,b", "never\ntested"),
    ];
    expect(confusionCsv(images)).to.equal(
      'class,"a,b","never\ntested","say ""x"""\n"a,b",1,1,1\n"never\ntested",0,0,0\n"say ""x""",0,0,1\n',
    );
  });
});
