import { expect } from "chai";
import { input, type Tensor } from "../../src/graph/tensor.ts";
import { lowest, nonMaxSuppression } from "../../src/ops/select.ts";
import { compile, floats } from "../support/run.ts";

describe("ops/select", () => {
  const limits = { iou: 0.5, score: 0.1, most: 2, size: "kept" };
  const build = (boxes: Tensor, scores: Tensor) => nonMaxSuppression(boxes, scores, limits);

  it("suppresses boxes that a better one of their image and class overlaps", async () => {
    const boxes = input("boxes", "float32", [2, 4, 4]);
    const scores = input("scores", "float32", [2, 2, 4]);
    const selected = build(boxes, scores); // [kept, 3]
    expect(selected).to.include({ dtype: "int64" });
    expect(selected.shape).to.deep.equal(["kept", 3]);
    const run = await compile({ selected });
    const [a, b, c, d] = [
      [0, 0, 10, 10],
      [0, 0, 10, 6], // 0.6 of the first
      [0, 5, 10, 15], // a third of the first
      [40, 40, 50, 50],
    ] as const;
    const row = [...a, ...b, ...c, ...d];
    const found = await run({
      boxes: floats([...row, ...row], [2, 4, 4]),
      // No class sees another's boxes; 0.1 is not above 0.1; two boxes at most.
      scores: floats([0.5, 0.9, 0.8, 0.1, 0.9, 0, 0, 0.05, 0, 0, 0, 0, 0.2, 0, 0.3, 0.4], [2, 2, 4]),
    });
    const rows = (data: ArrayLike<bigint>) =>
      Array.from({ length: data.length / 3 }, (_, i) => [0, 1, 2].map((at) => Number(data[3 * i + at])));
    expect(rows(found.selected!.data as BigInt64Array)).to.deep.equal([
      [0, 0, 1],
      [0, 0, 2],
      [0, 1, 0],
      [1, 1, 3],
      [1, 1, 2],
    ]);
    const none = await run({
      boxes: floats([...row, ...row], [2, 4, 4]),
      scores: floats(Array(16).fill(0), [2, 2, 4]),
    });
    expect(none.selected!.shape).to.deep.equal([0, 3]);
  });

  it("refuses boxes and scores that do not go together", () => {
    const boxes = input("boxes", "float32", [1, 4, 4]);
    for (const shape of [
      [1, 2, 3],
      [2, 2, 4],
      [2, 4],
    ])
      expect(() => build(boxes, input("scores", "float32", shape))).to.throw(
        /NonMaxSuppression "": expected boxes \[n, count, 4\] and scores \[n, classes, count\]/,
      );
  });

  it("gives the lowest values, or all if there are fewer", async () => {
    const run = await compile({ low: lowest(input("x", "float32", ["n"]), 3, "k") });
    for (const [given, wanted] of [
      [
        [5, 2, 9, 2, 7],
        [2, 2, 5],
      ],
      [
        [4, 1],
        [1, 4],
      ],
      [[], []],
    ] as const)
      expect([
        ...((await run({ x: floats([...given], [given.length]) })).low!.data as Float32Array),
      ]).to.deep.equal(wanted);
  });
});
