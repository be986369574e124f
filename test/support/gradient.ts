/** The numeric check that holds every gradient rule: analytic gradients against central differences. */
import { expect } from "chai";
import { reach } from "../../src/graph/model.ts";
import { input, type Tensor } from "../../src/graph/tensor.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { builtFor, portable, type Target } from "../../src/ops/target.ts";
import { randomFor } from "../../src/random.ts";
import { compile, floats, type Value } from "./run.ts";

const STEP = 1e-2;
const TOLERANCE = 3e-3;

export interface Check {
  readonly shapes: readonly (readonly number[])[];
  readonly build: (...xs: Tensor[]) => Tensor;
  /** Values of the inputs; standard normal by default. */
  readonly draw?: (normal: number) => number;
  /** Leaves the first axis symbolic: of all inputs that share the first one's size, or of the first alone. */
  readonly symbolic?: "all" | "first";
  /** What it is built for; plain forms by default. */
  readonly target?: Target;
}

/** Compares each partial derivative of a randomly weighted sum of the outputs; gives the operators it went through. */
export async function checkGradient(check: Check, seed: number): Promise<ReadonlySet<string>> {
  const random = randomFor("gradient check", seed);
  const draw = check.draw ?? ((x: number) => x);
  const batch = check.symbolic ? check.shapes[0]![0]! : undefined;
  const xs = check.shapes.map((shape, i) =>
    input(
      `x${i}`,
      "float32",
      batch && shape[0] === batch && (i === 0 || check.symbolic === "all") ? ["n", ...shape.slice(1)] : shape,
    ),
  );
  const { y, grads } = builtFor(check.target ?? portable, () => {
    const y = check.build(...xs);
    return { y, grads: gradients(y, xs, input("weight", "float32", y.shape)) };
  });
  expect(grads.map((g) => g.shape)).to.deep.equal(xs.map((x) => x.shape));

  const values: Record<string, Value> = {};
  check.shapes.forEach((shape, i) => {
    values[`x${i}`] = floats(
      Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => draw(random.normal())),
      shape,
    );
  });
  const forward = await compile({ y });
  const backward = await compile(Object.fromEntries(grads.map((g, i) => [`g${i}`, g])));
  const first = (await forward(values)).y!;
  const weights = floats(
    Array.from(first.data as Float32Array, () => random.normal()),
    first.shape,
  );
  const analytic = await backward({ ...values, weight: weights });
  const loss = async () => {
    const { data } = (await forward(values)).y!;
    return (data as Float32Array).reduce((sum, v, i) => sum + v * (weights.data as Float32Array)[i]!, 0);
  };
  for (let i = 0; i < xs.length; i++) {
    const data = values[`x${i}`]!.data as Float32Array;
    const found = analytic[`g${i}`]!.data as Float32Array;
    for (let j = 0; j < data.length; j++) {
      const at = data[j]!;
      data[j] = at + STEP;
      const [up, above] = [data[j]!, await loss()];
      data[j] = at - STEP;
      const [down, below] = [data[j]!, await loss()];
      data[j] = at;
      const numeric = (above - below) / (up - down);
      const scale = Math.max(1, Math.abs(numeric));
      expect(
        found[j]! / scale,
        `input ${i}, element ${j}: analytic ${found[j]}, numeric ${numeric}`,
      ).to.be.closeTo(numeric / scale, TOLERANCE);
    }
  }
  return new Set(reach([y]).nodes.map((node) => node.op.name));
}
