import { expect } from "chai";
import {
  axisOf,
  constant,
  currentScope,
  fixed,
  input,
  inScope,
  operator,
  ShapeError,
} from "../../src/graph/tensor.ts";
import { batchNorm, conv, linear } from "../../src/nn/layers.ts";
import { Scope } from "../../src/nn/scope.ts";
import * as ops from "../../src/ops/conv.ts";
import { add } from "../../src/ops/elementwise.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { concat, pad, reshape, slice, split } from "../../src/ops/movement.ts";

const x = (...shape: (number | string)[]) => input("x", "float32", shape);

describe("scopes", () => {
  it("nest, and end with their body even if it throws", () => {
    expect(currentScope()).to.equal("");
    inScope("encoder", () => {
      expect(inScope("layer1", currentScope)).to.equal("encoder.layer1");
      expect(() =>
        inScope("bad", () => {
          throw new Error("inside");
        }),
      ).to.throw("inside");
      expect(currentScope()).to.equal("encoder");
      expect(inScope("", () => inScope("gradient", currentScope))).to.equal("gradient");
    });
    expect(currentScope()).to.equal("");
  });

  it("name the convolution that its input does not fit", () => {
    const w = input("w", "float32", [8, 4, 3, 3]);
    const build = () =>
      ["encoder", "layer1", "0", "conv2"].reduceRight<() => unknown>(
        (body, name) => () => inScope(name, body),
        () => ops.conv(x("n", 3, 8, 8), w, { pad: 1 }),
      )();
    expect(build).to.throw(
      ShapeError,
      'Conv "encoder.layer1.0.conv2": w has 4 input channels, x has 3 (inputs [n, 3, 8, 8], [8, 4, 3, 3])',
    );
  });

  it("name the layer whose weight was made for another width", () => {
    const s = new Scope("training");
    const build = (channels: number) =>
      s.in("encoder", () => conv(s, "conv1", x("n", channels, 8, 8), { out: 4, kernel: 3 }));
    build(3);
    expect(() => build(5)).to.throw(
      ShapeError,
      "state encoder.conv1.weight: expected [4, 3, 3, 3], found [4, 5, 3, 3]",
    );
    expect(() => s.in("head", () => linear(s, "fc", x(2, "m"), { out: 4 }))).to.throw(
      "expected a fixed number of features",
    );
    expect(() => batchNorm(s, "bn", x("n", "c"))).to.throw("expected a fixed number of channels, found c");
  });
});

describe("inputs that do not fit", () => {
  const cases: [what: string, build: () => unknown, message: RegExp][] = [
    [
      "sizes that do not broadcast",
      () => add(x(2, 3), x(2)),
      /^Add "": sizes 3 and 2 do not broadcast \(inputs \[2, 3\], \[2\]\)/,
    ],
    ["two symbols", () => add(x("n"), x("m")), /sizes n and m do not broadcast/],
    ["two types", () => add(x(2), input("k", "int64", [2])), /expected one type, found float32 and int64/],
    ["matrices", () => matmul(x(2, 3), x(4, 2)), /expected 3 rows on the right, found 4/],
    [
      "a kernel larger than the image",
      () => ops.conv(x(1, 1, 2, 2), x(1, 1, 3, 3)),
      /a kernel of 3 does not fit into 2/,
    ],
    [
      "groups",
      () => ops.conv(x(1, 4, 2, 2), x(3, 2, 1, 1), { groups: 2 }),
      /3 output channels do not divide into 2/,
    ],
    ["a reshape that loses values", () => reshape(x("n", 6), ["n", 4]), /\[n, 6\] holds 6\*n values/],
    ["a slice that is empty", () => slice(x(4), { 0: [4, 5] }), /is empty or outside of axis 0/],
    ["a pad that cuts all off", () => pad(x(4), [-2], [-2]), /pads -2,-2 leave nothing/],
    ["concatenated sizes", () => concat([x(2, 3), x(2, 4)], 0), /sizes must agree but for axis 0/],
    ["parts that leave a rest", () => split(x(5), 0, [x(2), x(2)]), /parts of 2, 2 do not fill axis 0/],
    ["a constant", () => constant(new Float32Array(3), [2, 2]), /3 values for shape \[2, 2\]/],
    ["an axis", () => axisOf(2, 2), /expected an axis of a tensor with 2 axes, found 2/],
    ["a symbolic size where it must be known", () => fixed("n", "width"), /expected a fixed width, found n/],
  ];
  for (const [what, build, message] of cases) it(what, () => expect(build).to.throw(ShapeError, message));

  it("axes count from both ends", () => {
    expect([axisOf(-1, 3), axisOf(0, 3), axisOf(-3, 3)]).to.deep.equal([2, 0, 0]);
    expect(() => axisOf(0.5, 3)).to.throw(ShapeError);
  });

  it("no operator is defined twice", () => {
    expect(() => operator({ type: "Add", infer: ([a]) => [a!], gradient: { none: "a test" } })).to.throw(
      "operator Add is defined twice",
    );
  });
});
