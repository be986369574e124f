import { expect } from "chai";
import { randomFor } from "../../src/random.ts";
import { mapOf } from "../../src/report/map.ts";

/** Rows about three directions in turn. */
function clusters(n: number, d: number, spread: number) {
  const random = randomFor("clusters");
  const data = Float32Array.from({ length: n * d }, (_, i) => {
    const [row, column] = [Math.floor(i / d), i % d];
    return (column === row % 3 ? 1 : 0) + spread * random.normal();
  });
  return { data, n, d, labels: new Int32Array(0), classes: [] };
}

describe("the map of embeddings", () => {
  it("keeps clusters together, in the unit square, the same each time", async () => {
    const features = clusters(60, 12, 0.1);
    const shares: number[] = [];
    const tick = async (done: number) => void shares.push(done);
    const points = await mapOf(features, { seed: 3, tick });
    expect(points).to.have.length(60);
    for (const axis of [0, 1] as const) {
      const values = points.map((point) => point[axis]);
      expect([Math.min(...values), Math.max(...values)]).to.deep.equal([0, 1]);
    }
    const far = (i: number, j: number) =>
      Math.hypot(points[i]![0] - points[j]![0], points[i]![1] - points[j]![1]);
    const others = (i: number) => points.flatMap((_, j) => (j === i ? [] : [j]));
    for (const i of points.keys())
      expect(others(i).reduce((a, b) => (far(i, b) < far(i, a) ? b : a)) % 3, `image ${i}`).to.equal(i % 3);
    expect(shares).to.deep.equal([...shares].sort((a, b) => a - b));
    expect(shares.at(-1)).to.equal(1);
    expect(await mapOf(features, { seed: 3 })).to.deep.equal(points);
    expect(await mapOf(features, { seed: 4 })).not.to.deep.equal(points);
  });

  it("has a place for each image of a collapsed encoder", async () => {
    for (const features of [clusters(24, 4, 0), { ...clusters(24, 4, 0), data: new Float32Array(96) }])
      for (const point of await mapOf(features, { seed: 0 }))
        for (const value of point) expect(value).to.be.within(0, 1);
  });
});
