import { expect } from "chai";
import { input, ShapeError } from "../../src/graph/tensor.ts";
import { ONES, ZEROS } from "../../src/nn/layers.ts";
import { Scope } from "../../src/nn/scope.ts";
import { add } from "../../src/ops/elementwise.ts";

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
    s.param("token", [1, 1, 2], ONES, false);
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
