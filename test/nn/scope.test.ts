import { expect } from "chai";
import { input, ShapeError, scalar } from "../../src/graph/tensor.ts";
import { ONES, ZEROS } from "../../src/nn/layers.ts";
import { Scope } from "../../src/nn/scope.ts";
import { add, mul } from "../../src/ops/elementwise.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { normalize, reduceSum } from "../../src/ops/reduce.ts";
import { compile, floats } from "../support/run.ts";

describe("Scope", () => {
  it("names state by the scope it was made in, in the order of making", () => {
    const s = new Scope("training");
    s.in("encoder", () => {
      s.param("weight", [2, 3], ONES);
      s.in("bn1", () => s.buffer("running_mean", [3], ZEROS));
    });
    s.param("bias", [3], ZEROS);
    expect(s.all.map(({ name, role, shape, init }) => [name, role, shape, init])).to.deep.equal([
      ["encoder.weight", "param", [2, 3], ONES],
      ["encoder.bn1.running_mean", "buffer", [3], ZEROS],
      ["bias", "param", [3], ZEROS],
    ]);
    expect(s.params.map(({ name }) => name)).to.deep.equal(["encoder.weight", "bias"]);
  });

  it("shares the tensor of a name that is asked for twice", () => {
    const s = new Scope("training");
    const build = () => s.in("encoder", () => s.param("weight", [2], ONES));
    expect(build()).to.equal(build());
    expect(s.all).to.have.length(1);
    expect(s.param("weight", [2], ONES)).not.to.equal(build());
  });

  it("refuses the same name with another shape or role", () => {
    const s = new Scope("training");
    s.param("weight", [2], ONES);
    expect(() => s.param("weight", [3], ONES)).to.throw(ShapeError, "state weight: expected [2], found [3]");
    expect(() => s.buffer("weight", [2], ONES)).to.throw(ShapeError, "state weight");
  });

  it("decays what has two axes or more, unless told", () => {
    const s = new Scope("training");
    s.param("matrix", [2, 2], ONES);
    s.param("vector", [2], ONES);
    s.param("token", [1, 1, 2], ONES, { decay: false });
    expect(s.params.map(({ decay }) => decay)).to.deep.equal([true, false, false]);
  });

  it("takes one update for each state, of its shape", () => {
    const s = new Scope("training");
    const w = s.param("weight", [2], ONES);
    const next = add(w, 1);
    expect(() => s.update(w, input("x", "float32", [3]))).to.throw(
      ShapeError,
      "state weight: expected [2], found [3]",
    );
    s.update(w, next);
    expect(s.all[0]!.next).to.equal(next);
    expect(() => s.update(w, next)).to.throw("state weight is updated twice");
    expect(() => s.in("head", () => s.update(next, next))).to.throw("no state of head");
  });

  it("feeds a scalar once under one name", () => {
    const s = new Scope("training");
    const lr = s.scalar("lr", { kind: "constant", value: 1 }, "linear");
    expect(s.scalar("lr", { kind: "constant", value: 2 })).to.equal(lr);
    expect(lr.shape).to.deep.equal([]);
    expect(
      s.scalars.map(({ name, schedule, batchScaling }) => ({ name, schedule, batchScaling })),
    ).to.deep.equal([{ name: "lr", schedule: { kind: "constant", value: 1 }, batchScaling: "linear" }]);
  });

  it("stands averages in for parameters: updated first, without gradient, with buffers of their own", async () => {
    const s = new Scope("training");
    const decay = s.scalar("momentum", { kind: "constant", value: 0.9 });
    const build = () => s.in("encoder", () => [s.param("weight", [2], ONES), s.buffer("mean", [2], ZEROS)]);
    const [own] = build();
    const [average] = s.with({ average: decay }, build);
    expect(s.with({ average: decay }, build)[0]).to.equal(average); // updated once
    expect(s.all.map(({ name, role, init }) => [name, role, init])).to.deep.equal([
      ["encoder.weight", "param", ONES],
      ["encoder.mean", "buffer", ZEROS],
      ["average.encoder.weight", "average", { kind: "copy", of: "encoder.weight" }],
      ["average.encoder.mean", "buffer", ZEROS],
    ]);
    const [gradient] = gradients(reduceSum(mul(own!, average!)), [own!]);
    const next = s.all[2]!.next!;
    const run = await compile({ average: average!, next, gradient: gradient! });
    const found = await run({
      momentum: floats([0.75], []),
      "encoder.weight": floats([4, 8], [2]),
      "average.encoder.weight": floats([0, 4], [2]),
    });
    expect([...found.average!.data]).to.deep.equal([1, 5]);
    expect([...found.next!.data]).to.deep.equal([1, 5]);
    expect([...found.gradient!.data]).to.deep.equal([1, 5]); // of the product by its own factor alone
  });

  it("takes averages as they are when it evaluates", () => {
    const s = new Scope("evaluation");
    const average = s.with({ average: scalar(1) }, () => s.param("weight", [2], ONES));
    expect(average.source).to.deep.include({ kind: "input", name: "average.weight" });
  });

  it("lets parameters and their slots stand still while they do not train", async () => {
    const s = new Scope("training");
    const trains = s.scalar("trains", { kind: "start", steps: 5, epochs: 0 });
    const w = s.with({ trains }, () => s.param("weight", [1], ONES));
    const slot = s.slot(s.params[0]!, "momentum");
    s.update(w, add(w, 1));
    s.update(slot, add(slot, 2));
    const [next, momentum] = s.all.map((state) => state.next!);
    const run = await compile({ next: next!, momentum: momentum! });
    const from = { weight: floats([10], [1]), "momentum.weight": floats([20], [1]) };
    for (const [on, wanted] of [
      [0, [10, 20]],
      [1, [11, 22]],
    ] as const) {
      const found = await run({ ...from, trains: floats([on], []) });
      expect([found.next!.data[0], found.momentum!.data[0]]).to.deep.equal(wanted);
    }
  });

  it("projects a parameter before the gradient is taken", async () => {
    const s = new Scope("training");
    const w = s.param("weight", [2, 2], ONES, { project: normalize });
    const x = input("x", "float32", [2, 2]);
    const [gradient] = gradients(reduceSum(mul(w, x)), [s.params[0]!.value]);
    expect(s.params[0]!.value).to.equal(w);
    const run = await compile({ w, gradient: gradient! });
    const found = await run({ weight: floats([3, 4, 0, 2], [2, 2]), x: floats([1, 2, 3, 4], [2, 2]) });
    expect([...found.w!.data].map((v) => Number(v).toFixed(4))).to.deep.equal([
      "0.6000",
      "0.8000",
      "0.0000",
      "1.0000",
    ]);
    // Not turned into the sphere's tangent, as a gradient through the projection would be.
    expect([...found.gradient!.data]).to.deep.equal([1, 2, 3, 4]);
  });

  it("feeds of a memory bank the rows of the batch, and some others", () => {
    const s = new Scope("training");
    const of = input("x", "float32", ["n", 7]);
    const bank = () => s.rows("bank", [4], { kind: "directions" }, { of, count: 10 });
    const { own, others } = bank();
    expect(bank()).to.deep.equal({ own, others });
    expect([own.shape, others.shape]).to.deep.equal([
      ["n", 4],
      ["m", 4],
    ]);
    const { name, role, shape, rows } = s.all[0]!;
    expect({ name, role, shape, rows }).to.deep.equal({
      name: "bank",
      role: "buffer",
      shape: [4],
      rows: { others: "bank.others", count: 10 },
    });
    expect(s.inputs).to.deep.equal([own, others]);
    s.update(own, add(own, 1));
    expect(s.all[0]!.next!.shape).to.deep.equal(["n", 4]);
  });

  it("goes on from the latest value where a state is advanced", () => {
    const s = new Scope("training");
    const mean = s.buffer("mean", [1], ZEROS);
    s.advance(mean, (latest) => {
      expect(latest).to.equal(mean);
      return add(latest, 1);
    });
    const first = s.all[0]!.next!;
    s.advance(mean, (latest) => {
      expect(latest).to.equal(first);
      return add(latest, 1);
    });
    expect(() => s.update(mean, mean)).to.throw("updated twice");
  });

  it("names an optimizer's slot after its parameter, wherever it is made", () => {
    const s = new Scope("training");
    s.in("encoder", () => s.param("weight", [2, 3], ONES));
    s.in("update", () => s.slot(s.params[0]!, "momentum"));
    const { name, role, shape, init, decay } = s.all[1]!;
    expect({ name, role, shape, init, decay }).to.deep.equal({
      name: "momentum.encoder.weight",
      role: "optimizer",
      shape: [2, 3],
      init: ZEROS,
      decay: false,
    });
  });
});
