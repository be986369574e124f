import { expect } from "chai";
import { settled, writableInPlace } from "../../src/artifact/in-place.ts";
import { reach } from "../../src/graph/model.ts";
import { input, scalar, type Tensor } from "../../src/graph/tensor.ts";
import { add, exp, greater, mul, neg, sub, where } from "../../src/ops/elementwise.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { concat, reshape, transpose } from "../../src/ops/movement.ts";
import { reduceSum } from "../../src/ops/reduce.ts";
import { compile, floats } from "../support/run.ts";

describe("artifact/in-place", () => {
  const state = input("s", "float32", [3, 3]);
  const x = input("x", "float32", ["n", 3]);
  const gradient = input("g", "float32", [3, 3]);
  const inPlace = (next: Tensor, ...others: Tensor[]) =>
    writableInPlace(new Map([[state, next]]), [next, ...others]).has(state);

  it("is state that its next value alone reads", () => {
    expect(inPlace(add(mul(state, 0.9), gradient))).to.equal(true);
    expect(inPlace(sub(state, gradient))).to.equal(true);
  });

  it("is state whose other readers the next value needs", () => {
    const loss = reduceSum(matmul(x, state)); // []
    expect(inPlace(sub(state, mul(gradient, loss)), loss)).to.equal(true);
    const scaled = matmul(x, mul(state, 2)); // [n, 3]
    expect(inPlace(sub(state, mul(gradient, reduceSum(scaled))), scaled)).to.equal(true);
  });

  it("is none that something else reads, which may come later", () => {
    const next = sub(state, gradient);
    expect(inPlace(next, matmul(x, state))).to.equal(false);
    expect(inPlace(next, neg(matmul(x, transpose(state, [1, 0]))))).to.equal(false);
    expect(inPlace(next, matmul(x, mul(state, scalar(2))))).to.equal(false);
  });

  it("is none whose next value reads what the runtime may look through, for something else to read later", () => {
    const turned = transpose(state, [1, 0]); // [3, 3]
    const next = sub(state, mul(gradient, reduceSum(turned))); // [3, 3]
    expect(inPlace(next)).to.equal(true);
    expect(inPlace(next, matmul(x, turned))).to.equal(false);
  });

  it("is state that may rest, where a step is told that it may", () => {
    const next = where(greater(reduceSum(gradient), 0), sub(state, gradient), state); // [3, 3]
    const found = [{ rests: true }, {}].map((how) => writableInPlace(new Map([[state, next]]), [next], how));
    expect(found.map((set) => set.has(state))).to.deep.equal([true, false]);
  });

  it("is none whose next value takes others than those at its place", () => {
    expect(inPlace(matmul(gradient, state))).to.equal(false);
    const column = input("c", "float32", [3, 1]);
    const row = writableInPlace(new Map([[column, column]]), [sub(reshape(column, [1, 3]), column)]);
    expect(row.has(column)).to.equal(false);
    expect(inPlace(transpose(state, [1, 0]))).to.equal(false);
  });

  describe("settled", () => {
    const weights = input("w", "float32", [256, 256]);
    const rows = input("rows", "float32", ["n", 256]);
    const grad = input("dw", "float32", [256, 256]);

    /** Whether w - g may be written over w where others are put out too. */
    const writable = (g: Tensor, ...others: Tensor[]) => {
      const next = sub(weights, g); // [256, 256]
      return writableInPlace(new Map([[weights, next]]), [next, ...others]).has(weights);
    };
    const settle = (...others: Tensor[]) => settled([weights], [grad], others)[0]!;

    it("lets weights be updated in place that something else reads, directly or transposed", () => {
      const readers = [matmul(rows, weights), neg(matmul(rows, transpose(weights, [1, 0])))]; // [n, 256] each
      expect(writable(grad, ...readers)).to.equal(false);
      expect(writable(settle(readers[0]!), ...readers)).to.equal(false);
      expect(writable(settle(...readers), ...readers)).to.equal(true);
    });

    it("waits for what is computed from a tensor larger than the weights, which is not held for it", () => {
      const wide = concat([weights, neg(weights)], 1); // [256, 512]
      const others = [matmul(rows, wide), exp(matmul(rows, wide))]; // [n, 512] each
      const waits = settle(...others);
      expect(writable(waits, ...others)).to.equal(true);
      const shapes = reach([waits]).nodes.filter(({ op }) => op.type === "Shape");
      const waitedFor = shapes.map(({ inputs }) => inputs[0]!);
      expect(waitedFor).to.include(others[0]);
      expect(waitedFor).to.not.include(wide);
      const put = concat([weights, weights], 1); // [256, 512]
      expect(writable(settle(put), put)).to.equal(true);
    });

    it("changes no value", async () => {
      const w = Float32Array.from({ length: 2 ** 16 }, (_, i) => i % 7);
      const other = matmul(rows, weights); // [n, 256]
      const run = await compile({ next: sub(weights, settle(other)), other });
      const { next } = await run({
        w: floats(w, [256, 256]),
        dw: floats(
          w.map((x) => x / 4),
          [256, 256],
        ),
        rows: floats(new Float32Array(512).fill(1), [2, 256]),
      });
      expect([...(next!.data as Float32Array)]).to.deep.equal([...w].map((x) => 0.75 * x));
    });

    it("leaves small gradients as they are, and those whose parameter nothing else reads", () => {
      const [small, d] = [input("small", "float32", [255, 256]), input("d", "float32", [255, 256])];
      expect(settled([small], [d], [neg(small)])[0]).to.equal(d);
      expect(settle()).to.equal(grad);
    });
  });
});
