import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { disagreement, type Taken } from "../../../src/runtime/cuda/agreement.ts";

const floats = (values: readonly number[], dims = [values.length]) =>
  new ort.Tensor("float32", Float32Array.from(values), dims);
const scalar = (value: number) => floats([value], []);

describe("runtime/cuda/agreement", () => {
  const before = {
    "encoder.w": floats([1, 2], [1, 2]),
    "momentum.encoder.w": floats([0, 0], [1, 2]),
    "momentum.encoder.b": floats([0]),
    "momentum.encoder.c": floats([0, 0]),
    running: floats([1]),
    average: floats([1, -2], [1, 2]),
  };
  /** A step whose bias b has a gradient that is nothing but rounding. */
  const taken = ({
    loss = 4,
    w = [3, -4],
    b = 1e-9,
    c = [0.1, 0.2],
    skipped = 0,
    running = 1.5,
    average = [1, -2],
  } = {}): Taken => ({
    outputs: { loss: scalar(loss), skipped: scalar(skipped) },
    next: {
      "encoder.w": floats([Math.sign(w[0]!), Math.sign(w[1]!)], [1, 2]),
      "momentum.encoder.w": floats(w, [1, 2]),
      "momentum.encoder.b": floats([b]),
      "momentum.encoder.c": floats(c),
      running: floats([running]),
      average: floats(average, [1, 2]),
    },
  });

  it("takes what rounding changes, and changes that are nothing but rounding", () => {
    expect(disagreement(taken(), taken(), before, "fp32")).to.equal(undefined);
    expect(disagreement(taken({ loss: 4.003, w: [3.1, -4] }), taken(), before, "fp32")).to.equal(undefined);
    expect(disagreement(taken({ loss: 4.3, w: [3.9, -4] }), taken(), before, "bf16")).to.equal(undefined);
    expect(disagreement(taken({ b: -1e-8 }), taken(), before, "fp32")).to.equal(undefined);
    expect(disagreement(taken({ average: [1 + 2 ** -23, -2] }), taken(), before, "fp32")).to.equal(undefined);
  });

  it("tells what is wrong: a loss, a gradient, what is no number", () => {
    expect(disagreement(taken({ loss: 4.1 }), taken(), before, "fp32")).to.match(/^loss 4.0\d+, as built 4$/);
    expect(disagreement(taken({ loss: Number.NaN }), taken(), before, "bf16")).to.match(/^loss NaN/);
    expect(disagreement(taken({ w: [0, 0] }), taken(), before, "fp32")).to.equal(
      "a change of momentum.encoder.w that is 100 % off",
    );
    expect(disagreement(taken({ w: [Number.NaN, 2] }), taken(), before, "fp16")).to.match(
      /momentum.encoder.w/,
    );
    expect(disagreement(taken({ c: [0.1, 0] }), taken(), before, "fp32")).to.match(
      /^a change of vectors of momentum that is 89 %/,
    );
    expect(disagreement(taken({ running: 2 }), taken(), before, "fp32")).to.match(
      /^a change of vectors of running/,
    );
  });

  it("asks that changes are numbers in half precision, where gradients may be rounding", () => {
    expect(disagreement(taken({ w: [0, 0] }), taken(), before, "bf16")).to.equal(undefined);
    expect(disagreement(taken({ c: [Number.NaN, 0] }), taken(), before, "bf16")).to.match(/NaN % off$/);
  });

  it("takes a step that rests where the other does not", () => {
    expect(disagreement(taken({ skipped: 1, w: [0, 0] }), taken(), before, "fp16")).to.equal(undefined);
  });
});
