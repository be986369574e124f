import { expect } from "chai";
import { free } from "../../src/runtime/free.ts";

describe("freeing arrays", () => {
  it("gives their memory back at once, a buffer of two views once", () => {
    const size = 2 ** 24;
    const buffer = new ArrayBuffer(size);
    const arrays = [new Float32Array(size), new Uint8Array(buffer, 0, 8), new Uint8Array(buffer, 8)];
    const before = process.memoryUsage().arrayBuffers;
    free(arrays);
    expect(arrays.map(({ length }) => length)).to.deep.equal([0, 0, 0]);
    expect(before - process.memoryUsage().arrayBuffers).to.be.at.least(5 * size);
  });

  it("takes none", () => {
    expect(() => free([])).not.to.throw();
  });
});
