import { expect } from "chai";
import { checkState, fromRuntime, initialState, toRuntime } from "../../src/runtime/state.ts";
import type { Init, Manifest, StateEntry } from "../../src/spec.ts";

const entry = (name: string, init: Init, shape = [40, 50]): StateEntry => ({
  name,
  role: "param",
  dtype: "float32",
  shape,
  init,
  next: `${name}.next`,
});
const draw = (init: Init, seed = 0) =>
  initialState({ state: [entry("w", init)] }, { seed, images: 1 }).get("w")!.data as Float32Array;
const moments = (data: Float32Array) => {
  const mean = data.reduce((a, b) => a + b, 0) / data.length;
  return { mean, std: Math.sqrt(data.reduce((sum, x) => sum + (x - mean) ** 2, 0) / data.length) };
};

describe("runtime/state", () => {
  it("draws as each initialiser says", () => {
    expect(new Set(draw({ kind: "constant", value: 0.5 }))).to.deep.equal(new Set([0.5]));
    const normal = moments(draw({ kind: "normal", std: 2 }));
    expect(normal.mean).to.be.closeTo(0, 0.2);
    expect(normal.std).to.be.closeTo(2, 0.15);
    const truncated = draw({ kind: "truncated-normal", std: 3 });
    expect(Math.max(...truncated.map(Math.abs))).to.be.within(5.5, 6);
    const uniform = draw({ kind: "uniform", bound: 0.1 });
    expect(Math.max(...uniform.map(Math.abs))).to.be.within(0.099, 0.1 + 1e-8);
    expect(moments(uniform).std).to.be.closeTo(0.1 / Math.sqrt(3), 0.003);
  });

  it("draws directions as rows of length 1, one row for each image in a bank", () => {
    const bank = { ...entry("bank", { kind: "directions" }, [8]), rows: { others: "bank.others", count: 2 } };
    const { data, shape } = initialState({ state: [bank] }, { seed: 1, images: 500 }).get("bank")!;
    expect(shape).to.deep.equal([500, 8]);
    const rows = Array.from({ length: 500 }, (_, i) => Array.from(data.slice(8 * i, 8 * i + 8), Number));
    for (const row of rows) expect(Math.hypot(...row)).to.be.closeTo(1, 1e-6);
    for (let j = 0; j < 8; j++) {
      const mean = rows.reduce((sum, row) => sum + row[j]!, 0) / 500;
      expect(mean).to.be.closeTo(0, 5 / Math.sqrt(8 * 500));
    }
  });

  it("depends on the seed and the tensor's name alone", () => {
    const init = { kind: "normal", std: 1 } as const;
    const alone = initialState({ state: [entry("b", init)] }, { seed: 3, images: 1 });
    const among = initialState({ state: [entry("a", init), entry("b", init)] }, { seed: 3, images: 1 });
    expect(among.get("b")).to.deep.equal(alone.get("b"));
    expect(among.get("a")!.data).not.to.deep.equal(among.get("b")!.data);
    expect(draw(init, 1)).not.to.deep.equal(draw(init, 2));
  });

  it("copies what an average starts from, in the manifest's order, to memory of its own", () => {
    const state = initialState(
      { state: [entry("average", { kind: "copy", of: "w" }), entry("w", { kind: "normal", std: 1 })] },
      { seed: 0, images: 1 },
    );
    expect([...state.keys()]).to.deep.equal(["average", "w"]);
    expect(state.get("average")).to.deep.equal(state.get("w"));
    state.get("w")!.data[0] = 9;
    expect(state.get("average")!.data[0]).not.to.equal(9);
  });

  it("names the tensor that does not fit", () => {
    const manifest = {
      name: "m",
      state: [entry("w", { kind: "constant", value: 0 }, [2])],
    } as unknown as Manifest;
    const w = { dtype: "float32", shape: [2], data: new Float32Array(2) } as const;
    const check =
      (...tensors: [string, object][]) =>
      () =>
        checkState(manifest, new Map(tensors) as never, 3, "here");
    expect(check(["w", w])).not.to.throw();
    expect(check()).to.throw(/^here: tensor w of m is missing/);
    expect(check(["w", { ...w, shape: [1, 2] }])).to.throw(
      "here: w: expected float32 [2], found float32 [1,2]",
    );
    expect(check(["w", { ...w, dtype: "int32" }])).to.throw("expected float32 [2], found int32 [2]");
    expect(check(["w", w], ["v", w])).to.throw("here: m has no tensor v");
    const bank = { ...entry("w", { kind: "directions" }, [2]), rows: { others: "others", count: 1 } };
    const fits = (images: number) => () =>
      checkState(
        { name: "m", state: [bank] } as unknown as Manifest,
        new Map([["w", { ...w, shape: [3, 2] }]]) as never,
        images,
        "here",
      );
    expect(fits(3)).not.to.throw();
    expect(fits(4)).to.throw("here: w: expected float32 [4,2], found float32 [3,2]");
  });

  it("goes to the runtime and back", () => {
    for (const tensor of [
      { dtype: "float32", shape: [], data: Float32Array.of(1.5) },
      { dtype: "int64", shape: [2], data: BigInt64Array.of(1n, -2n) },
      { dtype: "bool", shape: [1, 2], data: Uint8Array.of(1, 0) },
    ] as const) {
      expect(fromRuntime(toRuntime(tensor))).to.deep.equal(tensor);
    }
  });
});
