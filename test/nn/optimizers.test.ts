import { expect } from "chai";
import type { z } from "zod";
import { input, type Tensor } from "../../src/graph/tensor.ts";
import { ZEROS } from "../../src/nn/layers.ts";
import { applyOptimizer, type Hyperparameters, optimizers } from "../../src/nn/optimizers.ts";
import { Scope, type State, type Traits } from "../../src/nn/scope.ts";
import { randomFor } from "../../src/random.ts";
import { compile, floats, type Value } from "../support/run.ts";

const STEPS = 5;
const SHAPES = { matrix: [3, 2], vector: [2] } as const;
type Name = keyof typeof SHAPES;
const NAMES = ["matrix", "vector"] as const;
type Tensors = Record<Name, number[]>;

const LR = [0.1, 0.3, 0.2, 0.05, 0.1];
const DECAY = 0.1;

const normals = (key: string, count: number): number[] => {
  const random = randomFor("optimizers", key);
  return Array.from({ length: count }, () => Math.fround(random.normal()));
};
const start: Tensors = { matrix: normals("matrix", 6), vector: normals("vector", 2) };
const slopes: Tensors[] = Array.from({ length: STEPS }, (_, i) => ({
  matrix: normals(`gradient ${i}`, 6),
  vector: normals(`gradient ${i} of the vector`, 2),
}));

/** The weights after each step on the gradients given. */
async function train(
  name: string,
  given: Record<string, number | boolean>,
  from: Tensors,
  gradients: readonly Tensors[],
) {
  const s = new Scope("training");
  const optimizer = optimizers[name]!;
  const grads = new Map<State, Tensor>();
  for (const label of NAMES) {
    s.param(label, SHAPES[label], ZEROS);
    grads.set(s.params.at(-1)!, input(`gradient.${label}`, "float32", SHAPES[label]));
  }
  const config = (optimizer.config as z.ZodType).parse(given);
  applyOptimizer(s, optimizer, config, grads, { lr: 1, weightDecay: DECAY, warmupEpochs: 0 });
  const run = await compile(Object.fromEntries(s.all.map((state) => [`${state.name}.next`, state.next!])));

  let state: Record<string, Value> = Object.fromEntries(
    s.all.map(({ name: label, shape }) => {
      const values =
        label in from ? from[label as Name] : Array<number>(shape.reduce((a, b) => a * b, 1)).fill(0);
      return [label, floats(values, shape)];
    }),
  );
  const history: Tensors[] = [];
  for (const [i, gradient] of gradients.entries()) {
    const fed = Object.fromEntries(
      NAMES.map((label) => [`gradient.${label}`, floats(gradient[label], SHAPES[label])]),
    );
    const scalars = { lr: floats([LR[i]!], []), weightDecay: floats([DECAY], []), step: floats([i + 1], []) };
    const next = await run({ ...state, ...fed, ...scalars });
    state = Object.fromEntries(s.all.map(({ name: label }) => [label, next[`${label}.next`]!]));
    history.push({
      matrix: Array.from(state.matrix!.data, Number),
      vector: Array.from(state.vector!.data, Number),
    });
  }
  return history;
}

/** The same in double precision; `rule` gives one tensor's next values and may keep slots in `memory`. */
type Rule = (
  w: number[],
  g: number[],
  at: { i: number; decay: boolean; memory: Record<string, number[]> },
) => number[];
function expectedBy(rule: Rule, from = start, gradients = slopes): Tensors[] {
  const memory: Record<Name, Record<string, number[]>> = { matrix: {}, vector: {} };
  let weights = from;
  return gradients.map((gradient, i) => {
    const step = (label: Name) =>
      rule(weights[label], gradient[label], { i, decay: label === "matrix", memory: memory[label] });
    weights = { matrix: step("matrix"), vector: step("vector") };
    return weights;
  });
}

function expectSame(found: readonly Tensors[], wanted: readonly Tensors[]) {
  expect(found).to.have.length(wanted.length);
  for (const [i, tensors] of wanted.entries())
    for (const label of NAMES)
      tensors[label].forEach((value, j) => {
        expect(found[i]![label][j], `step ${i + 1}, ${label}[${j}]`).to.be.closeTo(value, 1e-5);
      });
}

const zerosLike = (w: readonly number[]) => w.map(() => 0);
const length = (v: readonly number[]) => Math.hypot(...v);

const sgd =
  (momentum: number, nesterov: boolean): Rule =>
  (w, g, { i, decay, memory }) => {
    const slope = g.map((v, j) => v + (decay ? DECAY * w[j]! : 0));
    const before = memory.v ?? zerosLike(w);
    const v = slope.map((d, j) => momentum * before[j]! + d);
    memory.v = v;
    return w.map((x, j) => x - LR[i]! * (nesterov ? slope[j]! + momentum * v[j]! : v[j]!));
  };

const lars =
  (momentum: number, trust: number): Rule =>
  (w, g, { i, decay, memory }) => {
    const slope = g.map((v, j) => v + (decay ? DECAY * w[j]! : 0));
    const both = length(w) > 0 && length(slope) > 0;
    const ratio = decay && both ? (trust * length(w)) / length(slope) : 1;
    const before = memory.v ?? zerosLike(w);
    const v = slope.map((d, j) => momentum * before[j]! + LR[i]! * ratio * d);
    memory.v = v;
    return w.map((x, j) => x - v[j]!);
  };

const adamw =
  (beta1: number, beta2: number, eps: number): Rule =>
  (w, g, { i, decay, memory }) => {
    const [m, v] = [memory.m ?? zerosLike(w), memory.v ?? zerosLike(w)];
    memory.m = g.map((d, j) => beta1 * m[j]! + (1 - beta1) * d);
    memory.v = g.map((d, j) => beta2 * v[j]! + (1 - beta2) * d * d);
    return w.map((x, j) => {
      const first = memory.m![j]! / (1 - beta1 ** (i + 1));
      const second = memory.v![j]! / (1 - beta2 ** (i + 1));
      return x - (decay ? LR[i]! * DECAY * x : 0) - (LR[i]! * first) / (Math.sqrt(second) + eps);
    });
  };

const nothing: Tensors = { matrix: Array(6).fill(0), vector: [0, 0] };

describe("optimizers", () => {
  const cases: [name: string, config: Record<string, number | boolean>, rule: Rule][] = [
    ["sgd", {}, sgd(0.9, false)],
    ["sgd", { nesterov: true }, sgd(0.9, true)],
    ["sgd", { momentum: 0 }, sgd(0, false)],
    ["lars", {}, lars(0.9, 0.001)],
    ["lars", { momentum: 0.5, trust: 0.2 }, lars(0.5, 0.2)],
    ["adamw", {}, adamw(0.9, 0.999, 1e-8)],
    ["adamw", { beta1: 0.8, beta2: 0.95, eps: 1e-2 }, adamw(0.8, 0.95, 1e-2)],
  ];
  for (const [name, config, rule] of cases) {
    it(`${name} ${JSON.stringify(config)} takes the steps of the double-precision rule`, async () => {
      expectSame(await train(name, config, start, slopes), expectedBy(rule));
    });

    it(`${name} ${JSON.stringify(config)} bears gradients and weights of zero`, async () => {
      // From zero weights, on no gradient, then on one.
      const gradients = [nothing, slopes[0]!, slopes[1]!];
      expectSame(await train(name, config, nothing, gradients), expectedBy(rule, nothing, gradients));
      // From weights, on no gradient at all.
      const none = [nothing, nothing];
      const still = await train(name, config, start, none);
      expectSame(still, expectedBy(rule, start, none));
      // Decay alone moves the matrix; a vector is not decayed.
      expect(still[1]!.vector).to.deep.equal(start.vector);
      expect(length(still[1]!.matrix)).to.be.lessThan(length(start.matrix));
    });
  }

  it("lars moves the matrix by lr trust |w| at first, whatever the gradient's size", async () => {
    for (const factor of [1, 1000]) {
      const gradients = [{ matrix: slopes[0]!.matrix.map((v) => 1000 * factor * v), vector: [0, 0] }];
      const [after] = await train("lars", { trust: 0.1 }, start, gradients);
      const moved = length(after!.matrix.map((v, i) => v - start.matrix[i]!));
      expect(moved / (LR[0]! * 0.1 * length(start.matrix))).to.be.closeTo(1, 1e-3);
    }
  });

  it("feeds lr with the batch, and the decay and the step as they are", () => {
    const s = new Scope("training");
    s.param("matrix", SHAPES.matrix, ZEROS);
    const grads = new Map([[s.params[0]!, input("gradient", "float32", SHAPES.matrix)]]);
    const config = (optimizers.adamw!.config as z.ZodType).parse({});
    applyOptimizer(s, optimizers.adamw!, config, grads, { lr: 0.5, weightDecay: 0.1, warmupEpochs: 3 });
    expect(
      s.scalars.map(({ name, schedule, batchScaling }) => ({ name, schedule, batchScaling })),
    ).to.deep.equal([
      { name: "lr", schedule: { kind: "cosine", from: 0.5, to: 0, warmupEpochs: 3 }, batchScaling: "linear" },
      { name: "weightDecay", schedule: { kind: "constant", value: 0.1 }, batchScaling: "none" },
      { name: "step", schedule: { kind: "step" }, batchScaling: "none" },
    ]);
  });

  it("refuses settings out of range or unknown", () => {
    for (const [name, config] of [
      ["sgd", { momentum: 2 }],
      ["sgd", { dampening: 0 }],
      ["lars", { trust: 0 }],
      ["adamw", { eps: -1 }],
    ] as const) {
      expect(optimizers[name]!.config.safeParse(config).success, JSON.stringify(config)).to.equal(false);
    }
  });
});

describe("rates of an optimizer", () => {
  const optimizer = optimizers.sgd!;
  const apply = (choice: Hyperparameters, traits: Traits = {}) => {
    const s = new Scope("training");
    s.with(traits, () => NAMES.map((label) => s.param(label, SHAPES[label], ZEROS)));
    const grads = new Map(s.params.map((p) => [p, p.tensor]));
    applyOptimizer(s, optimizer, (optimizer.config as z.ZodType).parse({}), grads, choice);
    return s;
  };
  const scalarsOf = (s: Scope) =>
    Object.fromEntries(s.scalars.map(({ tensor, name, ...rest }) => [name, rest]));
  const base = { lr: 0.5, weightDecay: 0.1, warmupEpochs: 2 };

  it("end at a share of the peak, or drop at shares of the run", () => {
    expect(scalarsOf(apply({ ...base, finalLr: 0.01 })).lr).to.deep.equal({
      schedule: { kind: "cosine", from: 0.5, to: 0.005, warmupEpochs: 2 },
      batchScaling: "linear",
    });
    const drops = { factor: 0.1, at: [0.6, 0.8] };
    expect(scalarsOf(apply({ ...base, drops })).lr!.schedule).to.deep.equal({
      kind: "steps",
      from: 0.5,
      ...drops,
      warmupEpochs: 2,
    });
  });

  it("stay at the peak for parameters of a constant rate", () => {
    expect(scalarsOf(apply(base, { constantRate: true }))["lr.constant"]).to.deep.equal({
      schedule: { kind: "constant", value: 0.5 },
      batchScaling: "linear",
    });
    expect(scalarsOf(apply(base))).not.to.have.property("lr.constant");
  });

  it("are another share for parameters of one axis", async () => {
    const s = apply({ ...base, weightDecay: 0, biasLr: 0.25 });
    const run = await compile(Object.fromEntries(s.params.map((p) => [`${p.name}.next`, p.next!])));
    const ones = Object.fromEntries(
      s.all.map(({ name, role, shape }) => [
        name,
        floats(Array(shape.reduce((a, b) => a * b, 1)).fill(role === "param" ? 1 : 0), shape),
      ]),
    );
    const found = await run({ ...ones, lr: floats([0.5], []), weightDecay: floats([0], []) });
    // The gradient is the parameter itself.
    expect(found["matrix.next"]!.data[0]).to.be.closeTo(0.5, 1e-6);
    expect(found["vector.next"]!.data[0]).to.be.closeTo(1 - 0.5 * 0.25, 1e-6);
  });
});
