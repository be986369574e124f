import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { disagreement, type Taken } from "../../../src/runtime/cuda/agreement.ts";

const floats = (...values: number[]) => new ort.Tensor("float32", Float32Array.from(values), [values.length]);
const scalar = (value: number) => new ort.Tensor("float32", Float32Array.of(value), []);

describe("runtime/cuda/agreement", () => {
  const before = {
    "encoder.w": floats(1, 2),
    "encoder.b": floats(0),
    "momentum.w": floats(0, 0),
    "momentum.b": floats(0),
  };
  const taken = ({ loss = 4, w = [0.9, 2.2], b = 1e-9, skipped = 0 } = {}): Taken => ({
    outputs: { loss: scalar(loss), skipped: scalar(skipped) },
    next: {
      "encoder.w": floats(...w),
      "encoder.b": floats(b),
      "momentum.w": floats(10, -20),
      "momentum.b": floats(1e-7 + b),
    },
  });

  it("takes what rounding changes, and changes that are nothing but rounding", () => {
    expect(disagreement(taken(), taken(), before, "fp32")).to.equal(undefined);
    expect(disagreement(taken({ loss: 4.003, w: [0.909, 2.2] }), taken(), before, "fp32")).to.equal(
      undefined,
    );
    expect(disagreement(taken({ loss: 4.3, w: [0.95, 2.2] }), taken(), before, "bf16")).to.equal(undefined);
    expect(disagreement(taken({ b: 1e-8 }), taken(), before, "tf32")).to.equal(undefined);
  });

  it("tells what is wrong: a loss, a gradient, what is no number", () => {
    expect(disagreement(taken({ loss: 4.1 }), taken(), before, "fp32")).to.match(/^loss 4.0\d+, as built 4$/);
    expect(disagreement(taken({ loss: Number.NaN }), taken(), before, "bf16")).to.match(/^loss NaN/);
    expect(disagreement(taken({ w: [1, 2] }), taken(), before, "bf16")).to.equal(
      "a change of encoder.w that is 100 % off",
    );
    expect(disagreement(taken({ w: [1.1, 2.2] }), taken(), before, "tf32")).to.match(
      /^a change of encoder.w that is 89 %/,
    );
    expect(disagreement(taken({ w: [Number.NaN, 2] }), taken(), before, "fp16")).to.match(
      /^a change of encoder.w/,
    );
  });

  it("takes a step that rests where the other does not", () => {
    expect(disagreement(taken({ skipped: 1, w: [1, 2] }), taken(), before, "fp16")).to.equal(undefined);
  });
});
