import { expect } from "chai";
import { resamplePositions } from "../../src/encoders/positions.ts";
import { input } from "../../src/graph/tensor.ts";
import { checkGradient } from "../support/gradient.ts";
import { compile, floats } from "../support/run.ts";
import { bicubic, normals } from "./contrast.ts";

const WIDTH = 3;

/** A token, then a grid `from` x `from`, of `WIDTH` values each, at `to` x `to`. */
async function resampled(values: readonly number[], from: number, to: number): Promise<number[]> {
  const positions = input("positions", "float32", [1, 1 + from * from, WIDTH]);
  const run = await compile({ y: resamplePositions(positions, from, to) });
  const { y } = await run({ positions: floats(values, positions.shape as number[]) });
  expect(y!.shape).to.deep.equal([1, 1 + to * to, WIDTH]);
  return Array.from(y!.data, Number);
}

const drawn = (grid: number) => Array.from(normals([1 + grid * grid, WIDTH], grid).data, Number);

function expectClose(found: readonly number[], wanted: readonly number[]) {
  expect(found).to.have.length(wanted.length);
  wanted.forEach((value, i) => {
    expect(found[i], `value ${i}`).to.be.closeTo(value, 1e-5);
  });
}

describe("position embeddings of a view", () => {
  for (const [from, to] of [
    [14, 6],
    [12, 5],
    [4, 2],
    [2, 5],
    [1, 3],
  ] as const) {
    it(`are interpolated from ${from} x ${from} to ${to} x ${to}, and the token's left alone`, async () => {
      const values = drawn(from);
      const [token, grid] = [values.slice(0, WIDTH), values.slice(WIDTH)];
      expectClose(await resampled(values, from, to), [...token, ...bicubic(grid, from, to, WIDTH)]);
    });
  }

  it("are PyTorch's: interpolate(size=..., mode='bicubic')", async () => {
    const grid = (side: number) =>
      Array.from({ length: side * side }, (_, i) => {
        const [row, column] = [Math.floor(i / side), i % side];
        return ((5 * row * row + 3 * column + row * column) % 11) / 8;
      });
    const wanted: [from: number, to: number, values: number[][]][] = [
      [
        4,
        3,
        [
          [0.137583, 0.58044, 1.023296],
          [0.993074, 0.710938, 0.428801],
          [0.358111, 0.58044, 0.802769],
        ],
      ],
      [
        3,
        5,
        [
          [-0.094848, 0.045204, 0.303, 0.632076, 0.84552],
          [0.157204, 0.421434, 0.72, 0.623556, 0.481072],
          [0.577, 0.882, 1.125, 0.6255, 0.166],
          [1.000576, 0.880056, 0.72, 0.672804, 0.668488],
          [1.25652, 0.780072, 0.303, 0.710988, 1.145824],
        ],
      ],
    ];
    for (const [from, to, values] of wanted) {
      const each = (value: number) => Array<number>(WIDTH).fill(value);
      const found = await resampled([0, ...grid(from)].flatMap(each), from, to);
      expectClose(found, [0, ...values.flat()].flatMap(each));
    }
  });

  it("of the image size are the parameter itself", () => {
    const positions = input("positions", "float32", [1, 17, WIDTH]);
    expect(resamplePositions(positions, 4, 4)).to.equal(positions);
  });

  it("have the exact gradient", async () => {
    await checkGradient({ shapes: [[1, 17, 2]], build: (x) => resamplePositions(x, 4, 3) }, 1);
  });
});
