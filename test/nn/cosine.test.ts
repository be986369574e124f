import { expect } from "chai";
import { input } from "../../src/graph/tensor.ts";
import { cosine } from "../../src/nn/cosine.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { randomFor } from "../../src/random.ts";
import { checkGradient } from "../support/gradient.ts";
import { compile, floats } from "../support/run.ts";

const normals = (n: number, d: number, name: string) => {
  const random = randomFor("cosine", name, n, d);
  return Array.from({ length: n }, () => Array.from({ length: d }, () => Math.fround(3 * random.normal())));
};

describe("cosine", () => {
  const [a, b] = ["a", "b"].map((name) => input(name, "float32", ["n", 4]));

  it("is the mean of the rows' cosines, whatever their lengths", async () => {
    const run = await compile({ y: cosine(a!, b!) });
    for (const n of [1, 3, 10]) {
      const [p, z] = [normals(n, 4, "a"), normals(n, 4, "b")];
      const cosines = p.map((row, i) => {
        const dot = row.reduce((sum, v, k) => sum + v * z[i]![k]!, 0);
        return dot / (Math.hypot(...row) * Math.hypot(...z[i]!));
      });
      const { y } = await run({ a: floats(p.flat(), [n, 4]), b: floats(z.flat(), [n, 4]) });
      expect(y!.shape).to.deep.equal([]);
      expect(Number(y!.data[0])).to.be.closeTo(cosines.reduce((s, v) => s + v) / n, 1e-6);
    }
  });

  it("has the gradients that differences say", async () => {
    const shape = [3, 4];
    await checkGradient({ shapes: [shape, shape], build: (p, z) => cosine(p!, z!), symbolic: "all" }, 1);
  });

  it("of a row of zeros is 0, with finite gradients", async () => {
    const y = cosine(a!, b!);
    const [dA, dB] = gradients(y, [a!, b!]);
    const found = await (await compile({ y, dA: dA!, dB: dB! }))({
      a: floats([0, 0, 0, 0], [1, 4]),
      b: floats([1, 2, 3, 4], [1, 4]),
    });
    expect(Number(found.y!.data[0])).to.equal(0);
    for (const g of [found.dA!, found.dB!]) {
      expect(Array.from(g.data as Float32Array).every(Number.isFinite)).to.equal(true);
    }
  });
});
