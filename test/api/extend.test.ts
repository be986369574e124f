import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import { extended } from "../../src/api/extend.ts";
import { train } from "../../src/api/train.ts";
import { readArtifact } from "../../src/artifact/files.ts";
import { plannedSteps, readConfig } from "../../src/train/run-folder.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { metricsOf } from "../support/program.ts";

describe("api/extend", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const copy = (from: string, to: string) => cp(at(from), at(to), { recursive: true });
  const resume = (out: string, more: object = {}) => train({ out: at(out), resume: true, ...more });
  const rates = async (out: string) => (await metricsOf(at(out))).map(({ lr }) => lr!);
  const encoder = (out: string) => readFile(at(`${out}/encoder.onnx`));

  before(async () => {
    const graph = await tinyArtifact(at("graph"));
    const data = await pictures(at("photos"), 8); // two steps an epoch
    const begun = {
      data,
      graph,
      batch: 4,
      steps: 4,
      lr: 0.1,
      warmupEpochs: 0,
      threads: 1,
      checkpointEvery: 2,
    };
    await train({ ...begun, out: at("run") });
    await train({ ...begun, out: at("whole"), steps: 8 });
    await copy("run", "longer");
  });

  it("goes on with a run that has ended, along schedules over the new length, and says so", async () => {
    const stream = new PassThrough().setEncoding("utf8");
    const result = await train(
      { out: at("longer"), resume: true, extendSteps: 4, threads: 1 },
      { output: { stream, quiet: false } },
    );
    expect(result).to.include({ steps: 8, epochs: 4, interrupted: false });
    // Half a cosine over 4 steps, then over 8.
    const cosine = (step: number, steps: number) => 0.05 * (1 + Math.cos((Math.PI * step) / steps));
    for (const [step, rate] of (await rates("longer")).entries())
      expect(rate, `step ${step}`).to.be.closeTo(cosine(step, step < 4 ? 4 : 8), 1e-12);
    expect(String(stream.read())).to.contain(
      "extended from 4 to 8 steps, over which schedules are planned now: " +
        "the learning rate goes from 0.0146 at step 4 to 0.0500 at step 5\n",
    );
    expect((await readConfig(at("longer"))).extensions).to.deep.equal([{ at: 4, by: 4 }]);
    expect((await encoder("longer")).equals(await encoder("run"))).to.equal(false);
  });

  it("comes to the same when it is cut off and resumed, whichever checkpoint is left", async () => {
    await copy("run", "cut");
    const stopped = { signal: AbortSignal.abort() };
    expect(await train({ out: at("cut"), resume: true, extendEpochs: 2 }, stopped)).to.include({
      steps: 4,
      interrupted: true,
    });
    await copy("cut", "older");
    await rm(at("older/checkpoints/step-00000004.safetensors")); // before the extension
    for (const out of ["cut", "older"]) {
      expect(await resume(out)).to.include({ steps: 8, interrupted: false });
      expect(await rates(out), out).to.deep.equal(await rates("longer"));
      expect((await encoder(out)).equals(await encoder("longer")), out).to.equal(true);
    }
  });

  it("goes on with one that was cut off, and that began longer where no step had run", async () => {
    const begun = await readConfig(at("run"));
    await copy("run", "half");
    await rm(at("half/checkpoints/step-00000004.safetensors"));
    expect(await resume("half", { extendSteps: 4 })).to.include({ steps: 8 });
    expect((await rates("half")).slice(2)).to.deep.equal((await rates("whole")).slice(2));
    await copy("run", "none");
    await rm(at("none/checkpoints"), { recursive: true });
    expect(await resume("none", { extendSteps: 4 })).to.include({ steps: 8 });
    expect((await encoder("none")).equals(await encoder("whole"))).to.equal(true);
    expect(plannedSteps(begun)).to.equal(4);
  });

  it("counts from the beginning, so that the same command may be given again", async () => {
    expect(await resume("longer", { extendEpochs: 2 })).to.include({ steps: 8, loss: null });
    expect(await resume("longer", { steps: 4 })).to.include({ steps: 8 }); // as it began
    expect(await failure(resume("longer", { extendSteps: 2 }))).to.equal(
      "--extend-steps: expected 4 steps or more, as said before, counted from the 4 steps that it began with, found 2",
    );
    expect(await failure(resume("longer", { extendSteps: 9, extendEpochs: 9 }))).to.match(
      /^--extend-steps: expected it or --extend-epochs, found both/,
    );
    expect(await failure(resume("longer", { steps: 8 }))).to.match(
      /^--steps: expected 4, as the run began, found 8; --extend-steps or --extend-epochs trains longer; leave/,
    );
  });

  it("keeps to the last of several", async () => {
    const { manifest } = await readArtifact(at("graph"));
    const begun = await readConfig(at("run"));
    const { config } = extended(begun, manifest, { extendSteps: 4 }, 4);
    const again = extended(config, manifest, { extendSteps: 10 }, 7);
    expect(again.report[0]).to.match(/^extended from 8 to 14 steps/);
    const planned = [0, 3, 4, 6, 7, 13].map((step) => plannedSteps(again.config, step));
    expect(planned).to.deep.equal([4, 4, 8, 8, 14, 14]);
    // Begun again from the first checkpoint: what was planned since holds from there on.
    const back = extended(again.config, manifest, { extendSteps: 20 }, 2).config;
    expect([1, 2, 5, 20].map((step) => plannedSteps(back, step))).to.deep.equal([4, 24, 24, 24]);
  });

  it("reads the configuration of a run from before there was such a thing", async () => {
    await copy("run", "old");
    const { recipe, init, ...old } = await readConfig(at("old"));
    await writeFile(at("old/config.json"), JSON.stringify(old));
    expect(await resume("old", { extendSteps: 2 })).to.include({ steps: 6 });
  });
});
