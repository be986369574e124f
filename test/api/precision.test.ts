import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { create } from "../../src/api/create.ts";
import { train } from "../../src/api/train.ts";
import type { TrainOptions } from "../../src/api/train-options.ts";
import { compile, targetNamed } from "../../src/artifact/compile.ts";
import { readArtifact, writeArtifact } from "../../src/artifact/files.ts";
import { settingsOf } from "../../src/report/settings.ts";
import { loadCheckpoint } from "../../src/train/checkpoint.ts";
import { precisionOf, type RunConfig, readConfig, writeConfig } from "../../src/train/run-folder.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { metricsOf } from "../support/program.ts";

describe("api/precision", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const options = (out: string, more: Partial<TrainOptions> = {}): TrainOptions => ({
    ...{ data: at("photos"), out: at(out), graph: at("plain"), batch: 4, steps: 2, threads: 1, rank: false },
    ...more,
  });
  const cuda = (out: string, more: Partial<TrainOptions>) =>
    create(options(out, { provider: "cuda", ...more }));

  before(async () => {
    await pictures(at("photos"), 8);
    await tinyArtifact(at("plain"));
    await tinyArtifact(at("scaled"), { method: "simclr", precision: "fp16" });
  });

  it("trains a step with a scaled loss to the same encoder, and goes on with it to the same bytes", async () => {
    const [plain, scaled] = [options("a"), options("b", { graph: at("scaled"), checkpointEvery: 1 })];
    await train(plain);
    await train(scaled);
    const encoder = (run: string) => readFile(at(`${run}/encoder.onnx`));
    expect((await encoder("b")).equals(await encoder("a"))).to.equal(true);
    const counted = (await metricsOf(at("b"))).map(({ lossScale, skipped }) => [lossScale, skipped]);
    expect(counted).to.deep.equal([
      [65_536, 0],
      [65_536, 0],
    ]);
    const last = at("b/checkpoints/step-00000002.safetensors");
    const whole = await readFile(last);
    const { tensors } = await loadCheckpoint(last);
    expect([...tensors.get("lossScaling.good")!.data]).to.deep.equal([2]);
    await rm(last);
    await train({ out: at("b"), resume: true });
    expect((await readFile(last)).equals(whole)).to.equal(true);
  });

  it("builds a step with a scaled loss for fp16 alone, and keeps what was asked for", async () => {
    for (const precision of ["tf32", "fp32", "bf16", "fp16"] as const) {
      const { config, artifact, chosen, written } = await cuda(precision, { precision });
      await written;
      expect(config.precision).to.equal(precision);
      expect(artifact.manifest.precision).to.equal(precision === "fp16" ? precision : undefined);
      expect(chosen).to.deep.equal([`provider cuda: precision ${precision}`]);
      const { manifest } = await readArtifact(at(precision));
      expect(settingsOf({ name: precision, config, manifest, records: [] }).get("precision")).to.equal(
        precision,
      );
      await writeConfig(at(precision), config);
    }
    const given = { graph: undefined, method: "simsiam", encoder: "resnet20", imageSize: 16 };
    const named = await cuda("named", { ...given, precision: "fp16" });
    await named.written;
    expect(named.artifact.manifest.precision).to.equal("fp16");
    expect(await failure(train({ out: at("bf16"), resume: true, precision: "fp16" }))).to.match(
      /^--precision: expected "bf16", as the run began, found "fp16"/,
    );
    expect(await failure(train({ out: at("fp32"), resume: true, tf32: true }))).to.match(
      /^--tf32: expected "fp32", as the run began, found "tf32"/,
    );
  });

  it("goes on with a run for fp16 on the CPU, in float32, with its scale", async () => {
    const again = options("fp16", { provider: "cpu", precision: "fp16", resume: true });
    await train(again);
    expect((await readConfig(at("fp16"))).precision).to.equal("fp16");
    const found = (await metricsOf(at("fp16"))).map(({ lossScale }) => lossScale);
    expect(found).to.deep.equal([65_536, 65_536]);
  });

  it("takes --tf32 and --no-tf32 for it, and the tf32 of earlier versions", async () => {
    const { config, written } = await cuda("flag", { tf32: false });
    await written;
    expect(config).to.include({ precision: "fp32" }).and.not.have.property("tf32");
    const { precision, ...earlier } = config;
    const precisionIn = (more: Partial<RunConfig>) => precisionOf({ ...earlier, ...more });
    expect([{}, { tf32: true }, { tf32: false }].map(precisionIn)).to.deep.equal(["tf32", "tf32", "fp32"]);
    expect(await failure(cuda("both", { tf32: false, precision: "bf16" }))).to.equal(
      "--precision: expected fp32, as by --no-tf32, found bf16; leave out one of the two",
    );
  });

  it("is fp32 where there is no CUDA", async () => {
    for (const precision of ["tf32", "bf16", "fp16"] as const)
      expect(await failure(create(options("cpu", { precision })))).to.equal(
        `--precision ${precision}: expected it with --provider cuda, found --provider cpu`,
      );
    const { config, chosen, written } = await create(options("cpu", { precision: "fp32" }));
    await written;
    expect([config.precision, chosen]).to.deep.equal(["fp32", []]);
  });

  it("refuses steps that are not computed in half precision", async () => {
    const parts = { graph: undefined, encoder: "resnet20", imageSize: 16, microBatch: 2 };
    expect(await failure(cuda("parts", { ...parts, precision: "bf16" }))).to.equal(
      "--precision bf16: expected a step that is one graph, found one in parts; leave out --micro-batch",
    );
    expect(await failure(cuda("parts", { ...parts, precision: "fp16" }))).to.match(
      /^--micro-batch: expected a step whose loss is not scaled, found precision fp16/,
    );
    const spec = { method: "simclr", encoder: "resnet20", imageSize: 16 };
    const { manifest, graphs } = compile(spec, targetNamed("cuda", 1));
    const step = Buffer.concat([graphs.step]);
    step[step.length - 1]! ^= 1; // as by another version
    await writeArtifact(at("foreign"), manifest, { ...graphs, step });
    expect(await failure(cuda("own", { graph: at("foreign"), precision: "fp16" }))).to.match(
      /^--precision fp16: expected an artifact whose loss can be scaled, found simclr-resnet20-16/,
    );
  });
});
