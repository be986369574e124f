import { expect } from "chai";
import { input } from "../../src/graph/tensor.ts";
import { type MlpOptions, mlp } from "../../src/nn/heads.ts";
import { Scope } from "../../src/nn/scope.ts";
import { randomFor } from "../../src/random.ts";
import { mean, rowsOf, variance } from "../ops/naive.ts";
import { compile, floats } from "../support/run.ts";

const [N, IN] = [5, 3];
const built = (options: MlpOptions) => {
  const s = new Scope("training");
  const y = s.in("head", () => mlp(s, input("x", "float32", ["n", IN]), options));
  return { s, y };
};
const paramsOf = (options: MlpOptions) =>
  Object.fromEntries(built(options).s.params.map(({ name, shape }) => [name.replace("head.", ""), shape]));

type Rows = readonly (readonly number[])[];
const columns = (rows: Rows): Rows => rows[0]!.map((_, j) => rows.map((row) => row[j]!));
const normalized = (rows: Rows): Rows =>
  columns(
    columns(rows).map((column) => column.map((v) => (v - mean(column)) / Math.sqrt(variance(column) + 1e-5))),
  );
/** Rows times the transposed weight [out, in]. */
const times = (rows: Rows, weight: Rows): Rows =>
  rows.map((row) => weight.map((w) => w.reduce((sum, v, k) => sum + v * row[k]!, 0)));

describe("heads", () => {
  it("names layers as a Sequential does, ReLUs counted", () => {
    expect(paramsOf({ sizes: [4, 6, 2] })).to.deep.equal({
      "0.weight": [4, IN],
      "1.weight": [4],
      "1.bias": [4],
      "3.weight": [6, 4],
      "4.weight": [6],
      "4.bias": [6],
      "6.weight": [2, 6],
      "6.bias": [2],
    });
    expect(paramsOf({ sizes: [4, 2], batchNorm: false })).to.deep.equal({
      "0.weight": [4, IN],
      "0.bias": [4],
      "2.weight": [2, 4],
      "2.bias": [2],
    });
  });

  it("ends with a bias, without, or with normalisation, which makes one idle", () => {
    const last = (options: Omit<MlpOptions, "sizes">) => Object.keys(paramsOf({ sizes: [2], ...options }));
    expect(last({})).to.deep.equal(["0.weight", "0.bias"]);
    expect(last({ bias: false })).to.deep.equal(["0.weight"]);
    expect(last({ lastBatchNorm: "plain" })).to.deep.equal(["0.weight"]);
    expect(last({ lastBatchNorm: "affine" })).to.deep.equal(["0.weight", "1.weight", "1.bias"]);
  });

  it("computes what its layers say, with one ReLU between each two and none at the end", async () => {
    for (const batchNorm of [true, false])
      for (const lastBatchNorm of [false, "plain"] as const) {
        const { s, y } = built({ sizes: [4, 3], batchNorm, lastBatchNorm, bias: false });
        const random = randomFor("heads", `${batchNorm}`);
        const values = Object.fromEntries(
          [{ name: "x", shape: [N, IN] }, ...s.all].map(({ name, shape }) => {
            const size = shape.reduce((a, b) => a * b, 1);
            // Scales of 1 and biases of 0, as at the start.
            const of1 = shape.length === 1 ? Number(name.endsWith("weight")) : undefined;
            return [
              name,
              floats(
                Float32Array.from({ length: size }, () => of1 ?? random.normal()),
                shape,
              ),
            ];
          }),
        );
        const rows = (name: string) =>
          rowsOf(values[name]!.data as Float32Array, values[name]!.shape.at(-1)!);
        const first = times(rows("x"), rows("head.0.weight"));
        const inner = (batchNorm ? normalized(first) : first).map((row) => row.map((v) => Math.max(v, 0)));
        const linear = times(inner, rows(batchNorm ? "head.3.weight" : "head.2.weight"));
        const wanted = (lastBatchNorm ? normalized(linear) : linear).flat();
        expect(Math.min(...wanted), "not through a ReLU").to.be.below(-0.1);
        const { y: found } = await (await compile({ y }))(values);
        wanted.forEach((v, i) => {
          expect(Number(found!.data[i])).to.be.closeTo(v, 1e-4);
        });
      }
  });
});
