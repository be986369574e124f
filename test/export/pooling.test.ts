import { expect } from "chai";
import { UserError } from "../../src/errors.ts";
import { type Pool, poolInto, poolingOf } from "../../src/export/pooling.ts";

const refuse = (wanted: string, found: string) => new UserError(`expected ${wanted}, found ${found}`);
const value = (i: number) => Math.fround(Math.sin(1 + i));

/** Features of one image of value(0), value(1), ..., after a row that stays as it is. */
function pooled(dims: readonly number[], pool?: Pool) {
  const pooling = poolingOf([1, ...dims], pool, refuse);
  const size = dims.reduce((a, b) => a * b, 1);
  const rows = new Float32Array(2 * pooling.d);
  poolInto(
    pooling,
    Float32Array.from({ length: size }, (_, i) => value(i)),
    { n: 1, size, rows, at: 1 },
  );
  expect([...rows.subarray(0, pooling.d)].every((x) => x === 0)).to.equal(true);
  return { features: [...rows.subarray(pooling.d)], name: pooling.name };
}

/** The mean of the values at some places, for each of d features. */
const means = (d: number, places: readonly number[], at: (place: number, j: number) => number) =>
  Array.from({ length: d }, (_, j) =>
    Math.fround(places.reduce((sum, place) => sum + value(at(place, j)), 0) / places.length),
  );
const to = (n: number) => Array.from({ length: n }, (_, i) => i);

describe("export/pooling: features of", () => {
  it("vectors are the vectors", () => {
    expect(pooled([3])).to.deep.equal({ features: means(3, [0], (_, j) => j), name: "" });
  });

  it("tokens are the class token, or the mean of patches behind it and registers", () => {
    const token = (place: number, j: number) => 3 * place + j;
    const cls = { features: means(3, [0], token), name: "class token" };
    expect(pooled([5, 3])).to.deep.equal(cls);
    expect(pooled([4, 3], "cls")).to.deep.equal(cls);
    const patches = { features: means(3, [0, 1, 2, 3], token), name: "mean of 4 patches" };
    expect(pooled([4, 3])).to.deep.equal(patches); // which have no class token
    expect(pooled([5, 3], "mean").features).to.deep.equal(means(3, [1, 2, 3, 4], token));
    expect(pooled([8, 3], "mean").features).to.deep.equal(means(3, [4, 5, 6, 7], token)); // three registers
  });

  it("maps are the mean over places, whichever axis is that of channels", () => {
    const first = means(3, to(4), (place, j) => 4 * j + place);
    const last = means(3, to(4), (place, j) => 3 * place + j);
    expect(pooled([3, 2, 2])).to.deep.equal({ features: first, name: "mean over places" });
    expect(pooled([2, 2, 3])).to.deep.equal({ features: last, name: "mean over places" });
    expect(pooled([5, 1, 1], "mean").features).to.deep.equal(means(5, [0], (_, j) => j));
  });

  it("anything else are refused", () => {
    const refused = (dims: readonly number[], pool?: Pool) => () => poolingOf(dims, pool, refuse);
    expect(refused([1])).to.throw(
      "expected an output [n, d], [n, t, d] or of square maps [n, c, h, w], found [1]",
    );
    expect(refused([1, 4, 2, 3])).to.throw("square maps [n, c, h, w], found [1, 4, 2, 3]");
    expect(refused([1, 0])).to.throw("expected an output with values, found [1, 0]");
    expect(refused([1, 8], "mean")).to.throw("expected --pool with tokens [n, t, d], found [1, 8]");
    expect(refused([1, 8, 2, 2], "cls")).to.throw("expected --pool cls with tokens [n, t, d], found");
  });
});
