import { expect } from "chai";
import { checkAccuracy, checkCost, packBits, powerOf, unpackBits } from "../../src/probe/gate.ts";
import type { TestImage } from "../../src/probe/result.ts";

const images = (right: readonly boolean[]): TestImage[] =>
  right.map((hit, i) => ({ file: `a/${i}`, class: "a", predicted: hit ? "a" : "b", right: hit }));
const bits = (n: number, isRight: (i: number) => boolean) => Array.from({ length: n }, (_, i) => isRight(i));

describe("probe/gate", () => {
  const name = "knn top-1";
  const right = bits(200, (i) => i < 160);
  /** Loses every eighth of the 160 that were right. */
  const now = { top1: 70, images: images(bits(200, (i) => i < 160 && i % 8 !== 0)) };
  const check = (tolerance: number, std = 0) =>
    checkAccuracy({ name, before: { top1: 80, std, right }, now, tolerance });

  it("fails once accuracy fell by more than the tolerance and the spread of the baseline's seeds", () => {
    expect(check(9.9)).to.include({ verdict: "failed", limit: 70.1, baseline: 80, now: 70 });
    expect(check(10).verdict).to.equal("passed");
    expect(check(10 - 1e-12).verdict).to.equal("passed"); // what rounding makes of 10
    expect(check(7, 1).verdict).to.equal("failed"); // 7 + 1.96
    expect(check(7, 1.6).verdict).to.equal("passed");
  });

  it("pairs the images, names those that were lost from all over the set, and says what the set can show", () => {
    const { paired, lost, power } = check(1);
    expect(paired).to.deep.equal({ lost: 20, won: 0, p: 2 ** -19 });
    const places = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18];
    expect(lost.map(({ file }) => file)).to.deep.equal(places.map((i) => `a/${8 * i}`));
    expect(power).to.include({ images: 200, changed: 10, assumed: false });
    expect(power.leastDrop).to.be.within(6, 7); // (1.96 + 0.84) sqrt(0.1 / 200) is 6.3 %
  });

  it("compares accuracy alone where the images are not known", () => {
    const found = checkAccuracy({ name, before: { top1: 80, std: 0, right: undefined }, now, tolerance: 1 });
    expect(found.verdict).to.equal("failed");
    expect(found.lost).to.deep.equal([]);
    expect(found).not.to.have.property("paired");
  });

  it("assumes independent mistakes where no image changed", () => {
    const power = powerOf(now.images, { lost: 0, won: 0, p: 1 });
    expect(power).to.include({ assumed: true });
    expect(power.changed).to.be.closeTo(100 * 2 * 0.7 * 0.3, 1e-9);
    expect(powerOf(images([true, false]))).not.to.have.property("leastDrop");
  });

  it("holds a cost to a ratio, if there is one", () => {
    const latency = { name: "latency", unit: "s", baseline: 2, now: 2.5 } as const;
    expect(checkCost(latency, 1.2)).to.include({ verdict: "failed", limit: 2.4, better: "lower" });
    expect(checkCost(latency, 1.25).verdict).to.equal("passed");
    expect(checkCost(latency, undefined)).to.include({ verdict: "passed" }).and.not.have.property("limit");
  });

  it("packs a bit for each image", () => {
    const own = bits(11, (i) => i % 3 === 0);
    expect(packBits(own)).to.equal(Buffer.from([0b01001001, 0b010]).toString("base64"));
    expect(unpackBits(packBits(own), 11)).to.deep.equal(own);
    expect(unpackBits(packBits(own), 17)).to.equal(undefined);
  });
});
