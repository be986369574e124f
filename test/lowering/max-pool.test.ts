import { expect } from "chai";
import { input } from "../../src/graph/tensor.ts";
import { cuda } from "../../src/lowering/cuda.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { maxPool } from "../../src/ops/pool.ts";
import { builtFor, portable } from "../../src/ops/target.ts";
import { randomFor } from "../../src/random.ts";
import { compile, floats } from "../support/run.ts";

describe("max pooling that tells where the maxima were", () => {
  const random = randomFor("max pooling");
  const cases = {
    "many equal values": () => Math.max(0, random.integer(4) - 1),
    "values below the zeros outside": () => -1 - random.integer(3),
    "zeros and less": () => -random.integer(2),
  };
  for (const [name, draw] of Object.entries(cases)) {
    it(`has the gradient of the plain form, of ${name} that of the first`, async () => {
      const [x, dy] = [input("x", "float32", ["n", 3, 7, 6]), input("dy", "float32", ["n", 3, 4, 3])];
      const built = [portable, cuda].map((target) =>
        builtFor(target, () => {
          const y = maxPool(x, { kernel: 3, stride: 2, pad: 1 });
          return { y, dx: gradients(y, [x], dy)[0]! };
        }),
      );
      const feeds = {
        x: floats(Array.from({ length: 2 * 3 * 7 * 6 }, draw), [2, 3, 7, 6]),
        dy: floats(
          Array.from({ length: 2 * 3 * 4 * 3 }, (_, i) => i + 1),
          [2, 3, 4, 3],
        ),
      };
      const [plain, told] = await Promise.all(built.map(async (outputs) => (await compile(outputs))(feeds)));
      expect(plain).to.deep.equal(told);
      expect([...(plain!.dx!.data as Float32Array)].filter((v) => v > 0).length).to.be.above(10);
    });
  }
});
