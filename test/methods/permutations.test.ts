import { expect } from "chai";
import { permutations } from "../../src/methods/permutations.ts";
import { randomFor } from "../../src/random.ts";

type Orders = readonly (readonly number[])[];
const TILES = [0, 1, 2, 3, 4, 5, 6, 7, 8];

/** Places in which two orders differ. */
const distance = (a: readonly number[], b: readonly number[]) => a.filter((tile, i) => tile !== b[i]).length;

function distances(orders: Orders): { average: number; least: number } {
  const all = orders.flatMap((a, i) => orders.slice(0, i).map((b) => distance(a, b)));
  return { average: all.reduce((a, b) => a + b, 0) / all.length, least: Math.min(...all) };
}

/** All orders of 0 to 8. */
function everyOrder(): number[][] {
  const grow = (start: number[]): number[][] =>
    start.length === TILES.length
      ? [start]
      : TILES.filter((tile) => !start.includes(tile)).flatMap((tile) => grow([...start, tile]));
  return grow([]);
}

describe("permutations", () => {
  const hundred = permutations(100);

  it("are different orders of nine tiles", () => {
    expect(hundred).to.have.length(100);
    for (const order of hundred) expect([...order].sort()).to.deep.equal(TILES);
    expect(new Set(hundred.map(String)).size).to.equal(100);
  });

  it("lie farther apart than random ones, on average and at the nearest", () => {
    const { average, least } = distances(hundred);
    expect(average).to.be.closeTo(8.08, 0.005); // the most that a hundred can have: each place shows each tile 11 or 12 times
    expect(least).to.be.at.least(6);
    for (let i = 0; i < 20; i++) {
      const random = randomFor("random orders", i);
      const others = distances(Array.from({ length: 100 }, () => random.shuffled(TILES)));
      expect(others.average).to.be.below(average - 0.02);
      expect(others.least).to.be.below(least);
    }
  });

  it("are chosen one by one: the farthest from the nearest of those before, of these the farthest on average", () => {
    const all = everyOrder();
    expect(all).to.have.length(362_880);
    const score = (order: readonly number[], before: Orders): number => {
      let [least, sum] = [9, 0];
      for (const other of before) {
        const d = distance(order, other);
        least = Math.min(least, d);
        sum += d;
      }
      return 1000 * least + sum;
    };
    for (const count of [1, 3]) {
      const before = hundred.slice(0, count);
      const best = all.reduce((most, order) => Math.max(most, score(order, before)), 0);
      expect(score(hundred[count]!, before)).to.equal(best);
    }
    // Against many a sample of the orders has to do.
    for (const count of [20, 60, 99]) {
      const before = hundred.slice(0, count);
      const some = all.filter((_, i) => i % 97 === 0);
      const best = some.reduce((most, order) => Math.max(most, score(order, before)), 0);
      expect(score(hundred[count]!, before)).to.be.at.least(best);
    }
  });

  it("are the same for the same seed, and more of them begin with the fewer", () => {
    // Chosen anew: those of another count are not kept.
    expect(permutations(30)).to.deep.equal(hundred.slice(0, 30));
    expect(permutations(30, 1)).not.to.deep.equal(hundred.slice(0, 30));
  });
});
