import { expect } from "chai";
import { meanOverlap, neighboursOf, packNeighbours, unpackNeighbours } from "../../src/probe/neighbours.ts";
import { randomFor } from "../../src/random.ts";

describe("probe/neighbours", () => {
  /** n images on an arc, in its order. */
  const arc = (n: number) => ({
    data: Float32Array.from({ length: 2 * n }, (_, i) => {
      const angle = Math.floor(i / 2) / n;
      return (i % 2 ? Math.sin(angle) : Math.cos(angle)) * (1 + (i >> 1));
    }),
    n,
    d: 2,
  });

  it("finds the most similar other images by their angle, whatever their length", async () => {
    const n = 101;
    const found = await neighboursOf(arc(n), 0, 1);
    const sampled = randomFor(0, "neighbours").shuffled([...Array(n).keys()]);
    expect(found).to.have.length(n);
    const middle = sampled.indexOf(50);
    expect(found[middle]!.map((place) => sampled[place]!).sort((a, b) => a - b)).to.deep.equal([
      45, 46, 47, 48, 49, 51, 52, 53, 54, 55,
    ]);
  });

  it("never takes an image for its own neighbour, and keeps ten where all are equal", async () => {
    const found = await neighboursOf({ data: new Float32Array(2 * 120).fill(1), n: 120, d: 2 }, 0, 1);
    for (const [i, places] of found.entries()) {
      expect(places).to.have.length(10).and.not.include(i);
    }
  });

  it("keeps the neighbours of 256 images in a sample of 512, in 4 kB", async () => {
    const found = await neighboursOf(arc(700), 1, 1);
    expect(found).to.have.length(256);
    expect(Math.max(...found.flat())).to.be.within(256, 511);
    const text = packNeighbours(found);
    expect(text).to.have.length(3840);
    expect(unpackNeighbours(text, 700)).to.deep.equal(found);
    expect(unpackNeighbours(text, 200)).to.equal(undefined);
  });

  it("is the mean share of the neighbours that are the same, in any order", () => {
    const ten = Array.from({ length: 10 }, (_, i) => i);
    const half = ten.map((i) => i + 5).reverse();
    expect(meanOverlap([ten, ten], [[...ten].reverse(), half])).to.equal(0.75);
  });
});
