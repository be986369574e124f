import { join } from "node:path";
import { expect } from "chai";
import { methods } from "../../src/methods/index.ts";
import { temporaryFolder } from "../data/folder.ts";
import { labelled } from "../support/pictures.ts";
import { metricsOf } from "../support/program.ts";
import { onWebgpu } from "../support/webgpu.ts";
import type { Failing } from "./webgpu/failing.ts";
import type { Kept } from "./webgpu/kept.ts";
import type { Compared } from "./webgpu/steps.ts";
import type { Trained } from "./webgpu/trained.ts";

/** 12 say more of how errors grow, in six times the time. */
const STEPS = process.env.ORT_PRETRAIN_WEBGPU_STEPS ?? "2";
/** SwiftShader takes seconds for a step. */
const PATIENCE = 3_600_000;

describe("runtime/webgpu", () => {
  const folder = temporaryFolder();

  it("keeps state on the GPU, in the memory that it takes once, and reads it there", async function () {
    const found = (await onWebgpu("kept", ["50"])) as [Kept] | undefined;
    if (!found) return this.skip();
    const [{ state, read, grown }] = found;
    const values = [50];
    expect(state).to.deep.equal({
      large: { dims: [1024, 1024], values },
      scalar: { dims: [], values },
      one: { dims: [1], values },
      row: { dims: [1, 3], values },
    });
    expect(read).to.deep.equal([0, 20, 1000]);
    expect(grown, "what is not freed of what 25 steps put out").to.be.below(0.2);
  });

  it("says what to lower where a buffer cannot be allocated, and keeps the state of the step before", async function () {
    const found = (await onWebgpu("failing")) as [Failing] | undefined;
    if (!found) return this.skip();
    const [{ said, state }] = found;
    expect(said).to.match(
      /^webgpu: expected memory enough for a step, found .*; lower --batch, --micro-batch/,
    );
    expect(state).to.deep.equal([1, 1, 2]);
  });

  it("trains an encoder, which the CPU goes on to train", async function () {
    this.timeout(PATIENCE);
    await labelled(join(folder.path, "images"), ["a", "b"], 2);
    const found = (await onWebgpu("trained", [folder.path])) as Trained[] | undefined;
    if (!found) return this.skip();
    expect(found.map(({ steps }) => steps)).to.deep.equal([2, 3]);
    const lines = await metricsOf(join(folder.path, "run"));
    expect(lines).to.have.length(3);
    expect(lines[1]!.knn).to.be.within(0, 100);
  });

  describe("comes to what the CPU does", () => {
    let found: readonly Compared[] | undefined;
    before(async function () {
      this.timeout(PATIENCE);
      const names = methods.map(({ name }) => name);
      found = (await onWebgpu("steps", [STEPS, ...names], { long: true })) as Compared[] | undefined;
    });
    for (const { name } of methods)
      it(name, function () {
        if (!found) return this.skip();
        const { webgpu, rounding } = found.find(({ method }) => method === name)!;
        if (process.env.ORT_PRETRAIN_WEBGPU_STEPS) console.log(name, JSON.stringify({ webgpu, rounding }));
        expect(webgpu.losses, "losses").to.be.below(1e-4 + 3 * rounding.losses);
        expect(webgpu.features, "features").to.be.below(1e-3 + 3 * rounding.features);
        expect(webgpu.state, "state").to.be.below(1e-3 + 3 * rounding.state);
      });
  });
});
