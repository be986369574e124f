import { expect } from "chai";
import { input } from "../../src/graph/tensor.ts";
import { sinkhorn } from "../../src/nn/sinkhorn.ts";
import { mul } from "../../src/ops/elementwise.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { reduceSum } from "../../src/ops/reduce.ts";
import { randomFor } from "../../src/random.ts";
import { compile, floats } from "../support/run.ts";

type Rows = readonly (readonly number[])[];

/** Listing A.1 of the paper, with the shares that it divides by: Q is [k, rows]. */
function naiveSinkhorn(scores: Rows, iterations: number): number[][] {
  const top = Math.max(...scores.flat());
  const [rows, k] = [scores.length, scores[0]!.length];
  const q = Array.from({ length: k }, (_, j) => scores.map((row) => Math.exp(row[j]! - top)));
  const total = q.flat().reduce((a, b) => a + b);
  for (const line of q) for (let i = 0; i < rows; i++) line[i]! /= total;
  for (let iteration = 0; iteration < iterations; iteration++) {
    for (const line of q) {
      const sum = line.reduce((a, b) => a + b);
      for (let i = 0; i < rows; i++) line[i]! /= sum * k;
    }
    for (let i = 0; i < rows; i++) {
      const sum = q.reduce((a, line) => a + line[i]!, 0);
      for (const line of q) line[i]! /= sum * rows;
    }
  }
  return scores.map((_, i) => q.map((line) => line[i]! * rows));
}

function drawn(rows: number, k: number, spread: number, ...key: (string | number)[]): Rows {
  const random = randomFor("sinkhorn", rows, k, ...key);
  return Array.from({ length: rows }, () =>
    Array.from({ length: k }, () => Math.fround(spread * random.normal())),
  );
}

async function runner(k: number, iterations = 3, masked = false) {
  const [scores, mask] = [input("scores", "float32", ["n", k]), input("mask", "float32", ["n", 1])];
  const run = await compile({ q: sinkhorn(scores, { iterations, mask: masked ? mask : undefined }) });
  return async (rows: Rows, live?: readonly number[]): Promise<number[][]> => {
    const { q } = await run({
      scores: floats(rows.flat(), [rows.length, k]),
      ...(live && { mask: floats(live, [rows.length, 1]) }),
    });
    return rows.map((_, i) => Array.from(q!.data.slice(i * k, (i + 1) * k) as Float32Array));
  };
}

const farthest = (a: Rows, b: Rows): number =>
  Math.max(...a.flatMap((row, i) => row.map((v, j) => Math.abs(v - b[i]![j]!))));

describe("Sinkhorn", () => {
  for (const iterations of [1, 3, 10]) {
    it(`agrees with the authors' listing in double precision, ${iterations} iterations`, async () => {
      for (const [rows, k] of [
        [1, 4],
        [5, 3],
        [24, 40],
      ] as const) {
        const run = await runner(k, iterations);
        for (const spread of [0.1, 2, 6]) {
          const scores = drawn(rows, k, spread);
          expect(farthest(await run(scores), naiveSinkhorn(scores, iterations))).to.be.below(1e-5);
        }
      }
    });
  }

  it("gives rows that sum to 1, and shares columns out the more evenly the more iterations", async () => {
    const scores = drawn(32, 8, 3);
    const unevenness = async (iterations: number) => {
      const q = await (await runner(8, iterations))(scores);
      for (const row of q) expect(row.reduce((a, b) => a + b)).to.be.closeTo(1, 1e-5);
      const columns = q[0]!.map((_, j) => q.reduce((sum, row) => sum + row[j]!, 0));
      return Math.max(...columns) - Math.min(...columns);
    };
    const [few, some, many] = [await unevenness(1), await unevenness(3), await unevenness(30)];
    expect(few).to.be.above(1.1 * some);
    expect(some).to.be.above(1.1 * many);
    expect(many).to.be.below(0.1);
  });

  it("stays finite, and right, where exp of a score is infinite and exp of a difference is 0", async () => {
    const run = await runner(6);
    // The first half of the rows lies at 400, the other at -400; exp(-800) is 0 in double precision, too.
    const base = drawn(8, 6, 2);
    const far = base.map((row, i) => row.map((v) => v + (i < 4 ? 400 : -400)));
    const q = await run(far);
    for (const row of q) {
      expect(row.every(Number.isFinite)).to.equal(true);
      expect(row.reduce((a, b) => a + b)).to.be.closeTo(1, 1e-5);
    }
    const spread = drawn(8, 6, 60, "wide");
    expect(farthest(await run(spread), naiveSinkhorn(spread, 3))).to.be.below(1e-4);
    // A constant added to all scores changes nothing.
    const raised = base.map((row) => row.map((v) => v + 400));
    expect(farthest(await run(raised), await run(base))).to.be.below(1e-4);
  });

  it("takes masked rows for absent, whatever they hold", async () => {
    const [plain, masked] = [await runner(10), await runner(10, 3, true)];
    const scores = drawn(12, 10, 3);
    const wanted = await plain(scores);
    for (const hidden of [0, 3, 500, -500]) {
      const others = drawn(7, 10, 2, "others").map((row) => row.map((v) => v + hidden));
      const q = await masked([...scores, ...others], [...Array(12).fill(1), ...Array(7).fill(0)]);
      expect(farthest(q.slice(0, 12), wanted), `rows at ${hidden}`).to.be.below(1e-6);
      expect(q.flat().every(Number.isFinite)).to.equal(true);
    }
    const shown = drawn(7, 10, 2, "others");
    const all = await masked([...scores, ...shown], Array(19).fill(1));
    expect(farthest(all, await plain([...scores, ...shown]))).to.be.below(1e-6);
    expect(farthest(all.slice(0, 12), wanted)).to.be.above(0.01);
  });

  it("passes no gradient", async () => {
    const scores = input("scores", "float32", ["n", 4]);
    const [grad] = gradients(reduceSum(mul(sinkhorn(scores), scores)), [scores]);
    const run = await compile({ grad: grad!, q: sinkhorn(scores) });
    const { grad: found, q } = await run({ scores: floats(drawn(5, 4, 1).flat(), [5, 4]) });
    expect(found!.data).to.deep.equal(q!.data);
  });
});
