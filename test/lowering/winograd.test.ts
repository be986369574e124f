import { expect } from "chai";
import { input } from "../../src/graph/tensor.ts";
import { winogradConv, winogradPays } from "../../src/lowering/cpu/winograd.ts";
import { conv } from "../../src/ops/conv.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { randomFor } from "../../src/random.ts";
import { compile, floats } from "../support/run.ts";

const shapes = [
  [2, 3, 4, 4, 5],
  [3, 2, 8, 8, 2],
  [1, 4, 7, 7, 3],
  [2, 3, 14, 9, 2],
  [2, 2, 1, 3, 2],
  [2, 64, 16, 16, 64],
] as const;

describe("Winograd convolution", () => {
  for (const [n, c, h, w, out] of shapes) {
    it(`[${n}, ${c}, ${h}, ${w}] to ${out} channels is the convolution, and so are its gradients`, async () => {
      const random = randomFor("winograd", n, c, h, w);
      const draw = (...shape: number[]) =>
        floats(
          Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()),
          shape,
        );
      const x = input("x", "float32", ["n", c, h, w]);
      const k = input("k", "float32", [out, c, 3, 3]);
      const dy = input("dy", "float32", ["n", out, h, w]);
      const withGradients = async (y: ReturnType<typeof conv>) => {
        expect(y.shape).to.deep.equal(["n", out, h, w]);
        const [dx, dk] = gradients(y, [x, k], dy);
        return compile({ y, dx: dx!, dk: dk! });
      };
      const given = { x: draw(n, c, h, w), k: draw(out, c, 3, 3), dy: draw(n, out, h, w) };
      const wanted = await (await withGradients(conv(x, k, { pad: 1 })))(given);
      const found = await (await withGradients(winogradConv(x, k)))(given);
      for (const name of ["y", "dx", "dk"]) {
        const [a, b] = [found[name]!, wanted[name]!].map((v) => Array.from(v.data as Float32Array));
        expect(found[name]!.shape).to.deep.equal(wanted[name]!.shape);
        const greatest = Math.max(...b!.map(Math.abs));
        a!.forEach((value, i) => {
          expect(value, `${name} ${i}`).to.be.closeTo(b![i]!, 1e-5 * greatest);
        });
      }
    });
  }

  it("is for 3x3, stride 1, pad 1, many channels on small feature maps", () => {
    const pays = (c: number, size: number, kernel = 3, options = {}) =>
      winogradPays(
        input("x", "float32", ["n", c, size, size]),
        input("w", "float32", [c, c, kernel, kernel]),
        { pad: 1, ...options },
      );
    expect(pays(64, 8)).to.equal(true);
    expect(pays(16, 32)).to.equal(false);
    expect(pays(256, 64)).to.equal(false);
    expect(pays(64, 8, 1)).to.equal(false);
    expect(pays(64, 8, 3, { stride: 2 })).to.equal(false);
    expect(pays(64, 8, 3, { pad: 0 })).to.equal(false);
    expect(pays(64, 8, 3, { dilation: 2 })).to.equal(false);
  });
});
