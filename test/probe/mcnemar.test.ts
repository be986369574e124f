import { readFileSync } from "node:fs";
import { expect } from "chai";
import { leastDrop, mcnemar } from "../../src/probe/mcnemar.ts";
import { randomFor } from "../../src/random.ts";

/** As SciPy gives them, see scripts/reference/gate.py. */
const REFERENCE = JSON.parse(readFileSync(new URL("../fixtures/gate.json", import.meta.url), "utf8")) as {
  readonly mcnemar: readonly { readonly lost: number; readonly won: number; readonly p: number }[];
  readonly leastDrop: readonly { readonly images: number; readonly changed: number; readonly drop: number }[];
};

/** So many of each: right before and wrong now, the other way round, right twice. */
function pairs(lost: number, won: number, right = 3) {
  const repeat = (value: boolean, count: number) => Array<boolean>(count).fill(value);
  const before = [...repeat(true, lost), ...repeat(false, won), ...repeat(true, right)];
  return { before, now: [...repeat(false, lost), ...repeat(true, won), ...repeat(true, right)] };
}

/** 10,000 images of which a tenth changes sides: each is lost with this probability, or else won. */
function simulated(lossShare: number, draw: number) {
  const random = randomFor("mcnemar", draw);
  const before = Array.from({ length: 10_000 }, () => random.chance(0.8));
  const now = before.map((right) => {
    if (right) return !random.chance((0.1 * lossShare) / 0.8);
    return random.chance((0.1 * (1 - lossShare)) / 0.2);
  });
  return mcnemar(before, now);
}

describe("probe/mcnemar", () => {
  for (const { lost, won, p } of REFERENCE.mcnemar)
    it(`gives the p of ${lost} lost and ${won} won as SciPy does`, () => {
      const { before, now } = pairs(lost, won);
      const found = mcnemar(before, now);
      expect(found).to.include({ lost, won });
      expect(found.p).to.be.closeTo(p, 1e-9);
      expect(mcnemar(now, before).p).to.equal(found.p);
    });

  it("sees no difference where nothing changed", () => {
    expect(mcnemar([true, false], [true, false])).to.deep.equal({ lost: 0, won: 0, p: 1 });
  });

  for (const { images, changed, drop } of REFERENCE.leastDrop)
    it(`gives the least drop that ${images} images show, of which ${changed} change, as SciPy does`, () => {
      expect(leastDrop(images, changed)).to.be.closeTo(drop, 2e-6);
    });

  it("knows no drop that five images show", () => {
    expect(leastDrop(5, 0.5)).to.equal(undefined);
  });

  it("tells a fall of one point on 10,000 images from noise, as often as the power says", () => {
    const shown = (lossShare: number) =>
      Array.from({ length: 100 }, (_, draw) => simulated(lossShare, draw)).filter(({ p }) => p < 0.05).length;
    expect(leastDrop(10_000, 0.1)).to.be.within(0.0089, 0.009);
    expect(shown(0.55)).to.be.within(80, 96); // one point: 5.5 % lost, 4.5 % won
    expect(shown(0.5)).to.be.below(10);
  });
});
