import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { openBank } from "../../src/runtime/bank.ts";

const initial = () => ({
  dtype: "float32" as const,
  shape: [4, 2],
  data: Float32Array.of(0, 1, 10, 11, 20, 21, 30, 31),
});

describe("runtime/bank", () => {
  it("takes copies of the rows named, in their order", () => {
    const bank = openBank(initial());
    const rows = bank.take([3, 0, 3]);
    expect(rows.dims).to.deep.equal([3, 2]);
    expect([...(rows.data as Float32Array)]).to.deep.equal([30, 31, 0, 1, 30, 31]);
    (rows.data as Float32Array).fill(9);
    expect(bank.tensor).to.deep.equal(initial());
    expect(bank.take([]).dims).to.deep.equal([0, 2]);
  });

  it("puts rows in place and leaves the others, in the memory that it was given", () => {
    const given = initial();
    const bank = openBank(given);
    bank.put([2, 0], new ort.Tensor("float32", Float32Array.of(-1, -2, -3, -4), [2, 2]));
    expect([...bank.tensor.data]).to.deep.equal([-3, -4, 10, 11, -1, -2, 30, 31]);
    expect(bank.tensor).to.equal(given);
  });

  it("keeps the last row of an image named twice", () => {
    const bank = openBank(initial());
    bank.put([1, 1], new ort.Tensor("float32", Float32Array.of(5, 6, 7, 8), [2, 2]));
    expect([...bank.tensor.data].slice(2, 4)).to.deep.equal([7, 8]);
  });
});
