import { expect } from "chai";
import { input, ShapeError } from "../../src/graph/tensor.ts";
import { add, mul } from "../../src/ops/elementwise.ts";
import { chunk, split } from "../../src/ops/movement.ts";
import { batchNormTraining } from "../../src/ops/normalization.ts";
import { byPieces, cut, inFewer, piecesOf, unsplit } from "../../src/ops/pieces.ts";
import { randomFor } from "../../src/random.ts";
import { compile, floats } from "../support/run.ts";

const rows = (n: string | number, ...rest: number[]) => input("x", "float32", [n, ...rest]);
const draws = (shape: readonly number[]) => {
  const random = randomFor("pieces");
  return floats(
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => 3 + random.normal()),
    shape,
  );
};

describe("a batch in pieces", () => {
  it("is cut into rows of one shape, and whole again where it is asked for", async () => {
    const x = rows("6*n", 2);
    const y = byPieces([cut(x, 3)], (piece) => mul(piece, 2)); // [6 n, 2]
    expect(piecesOf(y).map(({ shape }) => shape)).to.deep.equal(Array(3).fill(["2*n", 2]));
    expect(y.shape).to.deep.equal(["6*n", 2]);
    const run = await compile({ y, second: piecesOf(y)[1]! });
    for (const n of [1, 4]) {
      const given = draws([6 * n, 2]);
      const found = await run({ x: given });
      const doubled = Array.from(given.data as Float32Array, (v) => 2 * v);
      expect(Array.from(found.y!.data as Float32Array)).to.deep.equal(doubled);
      expect(Array.from(found.second!.data as Float32Array)).to.deep.equal(doubled.slice(4 * n, 8 * n));
    }
  });

  it("goes into fewer and larger pieces, down to one", async () => {
    const x = rows(8, 1);
    const pieces = cut(x, 4);
    expect([1, 2, 4, 16].map((times) => piecesOf(inFewer(pieces, times)).length)).to.deep.equal([4, 2, 1, 1]);
    const given = draws([8, 1]);
    const found = await (await compile({ y: inFewer(pieces, 2) }))({ x: given });
    expect(found.y!.data).to.deep.equal(given.data);
  });

  it("keeps the pieces that it has, or puts some together, and counts must agree", () => {
    const x = cut(rows(12, 1), 3);
    expect([1, 2, 3, 6].map((count) => piecesOf(cut(x, count)).length)).to.deep.equal([1, 3, 3, 3]);
    expect(piecesOf(cut(cut(rows(12, 1), 6), 3)).map(({ shape }) => shape[0])).to.deep.equal([4, 4, 4]);
    expect(() => byPieces([x, cut(rows(12, 1), 2)], add)).to.throw(ShapeError, "as many pieces of each");
    expect(() => cut(rows("3*n", 1), 2)).to.throw(ShapeError, "3*n rows have no 2 equal parts");
  });

  it("takes together what was split, what is in pieces, and all else", () => {
    const x = rows("4*n", 2);
    const halves = ["a", "b"].map((name) => input(name, "float32", ["2*n", 2]));
    const parts = split(x, 0, halves);
    expect(unsplit(parts)).to.equal(x);
    const pieces = parts.map((part) => cut(part, 2));
    expect(piecesOf(unsplit(pieces))).to.deep.equal(pieces.flatMap(piecesOf));
    for (const others of [[parts[1]!, parts[0]!], chunk(rows(2, 6), 1, 3)]) {
      const { source } = unsplit(others);
      expect(source).to.deep.include({ kind: "node", inputs: others });
    }
  });

  it("is normalised by the statistics of the whole, however far its pieces lie apart", async () => {
    const [x, scale, bias] = [rows("4*n", 2, 3, 3), input("s", "float32", [2]), input("b", "float32", [2])];
    const [apart, whole] = [cut(x, 4), x].map((t) => batchNormTraining(t, scale, bias));
    const run = await compile({
      ...Object.fromEntries(Object.entries(apart!).map(([name, t]) => [name, t])),
      ...Object.fromEntries(Object.entries(whole!).map(([name, t]) => [`${name} of the whole`, t])),
    });
    const given = draws([8, 2, 3, 3]);
    (given.data as Float32Array).forEach((_, i, data) => {
      data[i]! += 100 * Math.floor((4 * i) / data.length);
    });
    const found = await run({ x: given, s: floats([2, 0.5], [2]), b: floats([1, -1], [2]) });
    for (const name of ["y", "mean", "variance", "unbiased"]) {
      const [a, b] = [found[name]!.data, found[`${name} of the whole`]!.data] as Float32Array[];
      a!.forEach((v, i) => {
        expect(v, `${name} ${i}`).to.be.closeTo(b![i]!, 2e-6 * Math.max(1, Math.abs(b![i]!)));
      });
    }
  });
});
