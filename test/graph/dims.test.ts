import { expect } from "chai";
import {
  addDims,
  atLeast,
  divideDims,
  elements,
  evaluateDim,
  multiplyDims,
  sameShape,
  showShape,
} from "../../src/graph/dims.ts";
import { randomFor } from "../../src/random.ts";
import type { Dim } from "../../src/spec.ts";

describe("sizes with symbols", () => {
  it("add", () => {
    expect(addDims(2, 3)).to.equal(5);
    expect(addDims("n", "n")).to.equal("2*n");
    expect(addDims("2*n", "n")).to.equal("3*n");
    expect(addDims("n", 3)).to.equal("n + 3");
    expect(addDims("n + 3", -3)).to.equal("n");
    expect(addDims("n", multiplyDims("n", -1))).to.equal(0);
  });

  it("multiply", () => {
    expect(multiplyDims(2, 3)).to.equal(6);
    expect(multiplyDims("n", 1)).to.equal("n");
    expect(multiplyDims("n", 0)).to.equal(0);
    expect(multiplyDims("n", 4)).to.equal("4*n");
    expect(multiplyDims("2*n", 3)).to.equal("6*n");
    expect(multiplyDims("n", "h")).to.equal("h*n");
    expect(multiplyDims("n + 1", "n + 2")).to.equal("n*n + 3*n + 2");
    expect(elements([])).to.equal(1);
    expect(elements(["2*n", 3, "h", 2])).to.equal("12*h*n");
  });

  it("divide where the result is whole", () => {
    expect(divideDims(12, 4)).to.equal(3);
    expect(divideDims(12, 5)).to.equal(undefined);
    expect(divideDims(12, 0)).to.equal(undefined);
    expect(divideDims("6*n", 3)).to.equal("2*n");
    expect(divideDims("6*n", 4)).to.equal(undefined);
    expect(divideDims("6*h*n", "2*n")).to.equal("3*h");
    expect(divideDims("n", "n")).to.equal(1);
    expect(divideDims("2*n + 4", 2)).to.equal("n + 2");
    expect(divideDims("n", "h")).to.equal(undefined);
    expect(divideDims("n*n", "n")).to.equal("n");
    expect(divideDims(7, "n")).to.equal(undefined);
  });

  it("are written one way, whatever way they came about", () => {
    expect(addDims(3, "n")).to.equal(addDims("n", 3));
    expect(multiplyDims(multiplyDims("w", "n"), "h")).to.equal(multiplyDims("n", multiplyDims("h", "w")));
    expect(addDims(multiplyDims("n", "h"), "h")).to.equal(multiplyDims("h", addDims(1, "n")));
    expect(sameShape([multiplyDims("n", 2), 3], [addDims("n", "n"), 3])).to.equal(true);
    expect(sameShape(["n", 3], ["n"])).to.equal(false);
    expect(sameShape(["n", 3], ["2*n", 3])).to.equal(false);
  });

  it("evaluate", () => {
    expect(evaluateDim(5, {})).to.equal(5);
    expect(evaluateDim("2*h*n + 3", { h: 4, n: 5 })).to.equal(43);
    expect(evaluateDim("n*n + -1", { n: 3 })).to.equal(8);
    expect(() => evaluateDim("h*n", { n: 2 })).to.throw("size h*n: symbol h has no value");
  });

  it("compute what their values compute", () => {
    const random = randomFor("dims");
    const symbols = { n: 7, h: 11, w: 13 };
    const value = (dim: Dim) => evaluateDim(dim, symbols);
    for (let trial = 0; trial < 200; trial++) {
      const dims: Dim[] = ["n", "h", "w", 1 + random.integer(4)];
      for (let i = 0; i < 6; i++) {
        const [a, b] = [dims[random.integer(dims.length)]!, dims[random.integer(dims.length)]!];
        const product = multiplyDims(a, b);
        expect(value(addDims(a, b))).to.equal(value(a) + value(b));
        expect(value(product)).to.equal(value(a) * value(b));
        const quotient = divideDims(product, b);
        if (quotient !== undefined) expect(value(quotient)).to.equal(value(a));
        // A product of sums has several terms, by which no size is divided.
        else expect(b).to.be.a("string").and.include(" + ");
        dims.push(i % 2 ? product : addDims(a, b));
      }
    }
  });

  it("are at least what they are with ones for symbols", () => {
    expect(["n", "8*n + 4096", "2*h*w + n", 7].map(atLeast)).to.deep.equal([1, 4104, 3, 7]);
    expect(atLeast(addDims("n", -1))).to.equal(0);
    expect(atLeast(addDims("h", multiplyDims(-1, "w")))).to.equal(0);
  });

  it("show as a shape", () => expect(showShape(["2*n", 3, 32])).to.equal("[2*n, 3, 32]"));
});
