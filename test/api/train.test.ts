import { existsSync, rmSync } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { expect } from "chai";
import { openEncoder } from "../../src/api/encoder.ts";
import { exportEncoder } from "../../src/api/export.ts";
import { probe } from "../../src/api/probe.ts";
import { train } from "../../src/api/train.ts";
import type { TrainOptions } from "../../src/api/train-options.ts";
import { compile } from "../../src/artifact/compile.ts";
import { readArtifact, writeArtifact } from "../../src/artifact/files.ts";
import { UserError } from "../../src/errors.ts";
import { latestCheckpoint, loadCheckpoint } from "../../src/train/checkpoint.ts";
import { readConfig } from "../../src/train/run-folder.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { labelled, picture, pictures, tinyArtifact } from "../support/pictures.ts";
import { metricsOf } from "../support/program.ts";

describe("api/train", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  let begun: TrainOptions;

  before(async () => {
    await pictures(at("photos"), 8);
    await labelled(at("labelled"), ["a", "b"], 4);
    const graph = await tinyArtifact(at("graph"));
    begun = { data: at("photos"), out: at("run"), graph, batch: 4, steps: 3, lr: 0.1, limit: 8, threads: 1 };
    await train({ ...begun, knnData: at("labelled") });
  });

  it("leaves a run folder as the design says, and nothing besides", async () => {
    expect(await readdir(at("run"))).to.have.members([
      "manifest.json",
      "step.onnx",
      "encode.onnx",
      "config.json",
      "metrics.jsonl",
      "checkpoints",
      "encoder.onnx",
    ]);
  });

  const changes: readonly [Partial<TrainOptions>, says: RegExp][] = [
    [{ method: "moco" }, /^--method: expected "simclr", as the run began, found "moco"; leave it out/],
    [{ encoder: "resnet18" }, /^--encoder: expected "resnet20"/],
    [{ imageSize: 32 }, /^--image-size: expected 16/],
    [{ optimizer: "lars" }, /^--optimizer: expected "sgd"/],
    [
      { optimizer: { name: "sgd", lr: 9, weightDecay: 0, warmupEpochs: 0 } },
      /^optimizer\.lr: expected [\d.]+, as the run began, found 9/,
    ],
    [{ recipe: "moco-cifar10" }, /^--recipe: expected none, as the run began, found "moco-cifar10"/],
    [{ init: "elsewhere" }, /^--init: expected none, as the run began, found ".*elsewhere"/],
    [{ config: { temperature: 0.5, blur: 1 } }, /^--set blur: expected 0/],
    [{ config: { sharpness: 1 } }, /^--set sharpness: expected none/],
    [{ epochs: 100 }, /^--epochs: expected 1\.5/],
    [{ steps: 4 }, /^--steps: expected 3/],
    [{ batch: 8 }, /^--batch: expected 4/],
    [{ lr: 0.2 }, /^--lr: expected 0\.1/],
    [{ weightDecay: 0 }, /^--weight-decay: expected none/],
    [{ warmupEpochs: 0 }, /^--warmup-epochs: expected none/],
    [{ seed: 1 }, /^--seed: expected 0/],
    [{ limit: 4 }, /^--limit: expected 8/],
    [{ checkpointEvery: 1 }, /^--checkpoint-every: expected 2/],
    [{ knnData: "other" }, /^--knn: expected ".*labelled"/],
    [{ knnEvery: 2 }, /^--knn-every: expected 1/],
  ];
  for (const [change, says] of changes) {
    it(`does not go on with another ${Object.keys(change)}`, async () => {
      const resumed = train({ out: at("run"), resume: true, ...change });
      expect(await resumed.catch((error: unknown) => error)).to.be.instanceOf(UserError);
      expect(await failure(resumed)).to.match(says);
    });
  }

  it("does not go on with another artifact", async () => {
    await train({
      ...begun,
      out: at("other"),
      graph: undefined,
      encoder: "resnet20",
      imageSize: 8,
      steps: 0,
    });
    const resumed = train({ out: at("run"), resume: true, graph: at("other") });
    expect(await failure(resumed)).to.match(
      /^--graph: expected the artifact that the run began with, found another/,
    );
  });

  it("builds an artifact in the portable form anew for the CPU", async () => {
    const { manifest, graphs } = compile({ method: "simclr", encoder: "resnet20", imageSize: 16 });
    await writeArtifact(at("portable"), manifest, graphs);
    await train({ ...begun, out: at("lowered"), graph: at("portable"), steps: 0 });
    const found = await readArtifact(at("lowered"));
    expect(found.manifest).to.deep.equal((await readArtifact(at("run"))).manifest);
    expect(found.manifest.target).to.equal("cpu");
  });

  it("goes on with the same options, and with none", async () => {
    const options = {
      ...begun,
      config: { temperature: 0.5 },
      epochs: 1.5,
      knnData: at("labelled"),
      knnEvery: 1,
    };
    expect(await train({ ...options, resume: true })).to.include({ steps: 3, loss: null });
    expect(await train({ out: at("run"), resume: true })).to.include({
      steps: 3,
      encoder: at("run/encoder.onnx"),
    });
  });

  it("goes on with a ViT that sees patches alone, and exports it for whole images", async () => {
    const spec = {
      method: "relative-position",
      encoder: "vit-tiny",
      imageSize: 32,
      graph: undefined,
    } as const;
    const out = at("patches");
    const { encoder: path } = await train({ ...begun, ...spec, out, steps: 2, checkpointEvery: 1 });
    const whole = await readFile(path!);
    await rm(join(out, "checkpoints/step-00000002.safetensors"));
    expect((await train({ out, resume: true })).loss).to.satisfy(Number.isFinite);
    expect((await readFile(path!)).equals(whole), "the same bytes").to.equal(true);
    const encoder = await openEncoder(path!);
    const features = await encoder.encode(new Uint8Array(32 * 32 * 3).fill(99), [1, 32, 32, 3]);
    expect(features).to.have.length(192);
    await encoder.close();
  });

  it("may be tried again after it could not begin", async () => {
    const out = at("retried");
    expect(await failure(train({ ...begun, out, batch: 9 }))).to.match(
      /batch: expected at most the number of images/,
    );
    expect(await failure(train({ ...begun, out, data: undefined }))).to.match(
      /expected --data DIR, found none/,
    );
    const few = await labelled(at("few"), ["a", "b"], 1);
    expect(await failure(train({ ...begun, out, knnData: few }))).to.match(
      /few: expected several images of two classes/,
    );
    expect(existsSync(out), "what is refused leaves nothing behind").to.equal(false);
    expect(await train({ ...begun, out })).to.include({ steps: 3 });
  });

  it("takes all images as one batch if there are fewer than 256", async () => {
    const result = await train({ ...begun, out: at("whole"), batch: undefined, steps: undefined, epochs: 2 });
    expect(result).to.include({ steps: 2, epochs: 2 });
  });

  it("takes a recipe's settings, and what is given before them", async () => {
    const options = { data: at("photos"), steps: 0, threads: 1, encoder: "resnet20", batch: 8 } as const;
    await train({ ...options, out: at("recipe"), recipe: "moco-cifar10", config: { queue: 32 } });
    const { manifest } = await readArtifact(at("recipe"));
    expect(manifest.method.name).to.equal("moco");
    expect(manifest.method.config).to.include({ queue: 32, temperature: 0.1 });
    expect(manifest.optimizer.config).to.include({ lr: 0.12, weightDecay: 5e-4, warmupEpochs: 0 });
    expect(manifest.encoder).to.include({ name: "resnet20", imageSize: 32 });
    const again = { ...options, out: at("recipe"), recipe: "moco-cifar10", resume: true };
    expect(await train(again)).to.include({ steps: 0 });
    expect(await failure(train({ ...options, out: at("none"), recipe: "moco-cifar" }))).to.match(
      /^unknown recipe "moco-cifar": did you mean "moco-cifar10"/,
    );
  });

  it("takes views as large as the images, by the median of their shorter sides, unless told", async () => {
    for (const [i, [width, height]] of [
      [90, 70],
      [30, 300],
      [240, 210],
    ].entries())
      await picture(at(`sized/${i}.png`), 0, width, height);
    const options = { data: at("sized"), steps: 0, threads: 1, encoder: "resnet20", batch: 2 } as const;
    const stream = new PassThrough().setEncoding("utf8");
    await train({ ...options, out: at("sized-run") }, { output: { stream, quiet: false } });
    expect(String(stream.read())).to.contain(
      "views of 64 px, for the images have 70 px on their shorter side (median); --image-size takes another\n",
    );
    expect((await readArtifact(at("sized-run"))).manifest.encoder.imageSize).to.equal(64);
    await train({ ...options, out: at("told-run"), imageSize: 32 });
    expect((await readArtifact(at("told-run"))).manifest.encoder.imageSize).to.equal(32);
  });

  it("takes batches of whole parts where the method splits them", async () => {
    const graph = await tinyArtifact(at("moco"), { method: "moco", config: { queue: 16, splits: 4 } });
    const options = { ...begun, graph, limit: undefined };
    expect(await failure(train({ ...options, out: at("parts"), batch: 6 }))).to.equal(
      "batch for moco-resnet20-16: expected a multiple of 4 (the setting splits), found 6; --set splits=1 lifts it",
    );
    expect(await train({ ...options, out: at("parts"), batch: undefined })).to.include({ steps: 3 });
  });

  it("trains a batch a few images at a time, and goes on with it", async () => {
    const options = { ...begun, graph: undefined, encoder: "resnet20", imageSize: 16, batch: 8 };
    const out = at("micro");
    const result = await train({ ...options, out, microBatch: 3 });
    expect(result).to.include({ steps: 3 });
    expect(result.loss).to.be.within(0.5, 4);
    expect((await readArtifact(out)).manifest.name).to.equal("simclr-resnet20-16-parts");
    expect(await failure(train({ out, resume: true, microBatch: 4 }))).to.match(
      /^--micro-batch: expected 3, as the run began/,
    );
    expect(await train({ out, resume: true })).to.include({ steps: 3 });
  });

  it("refuses what it cannot work with before there is a run", async () => {
    const one = await pictures(at("one-photo"), 1);
    const graph = await tinyArtifact(at("byol"), { method: "byol", config: { hidden: 8, projection: 8 } });
    const out = at("too-few");
    for (const [options, says] of [
      [{ data: one }, /^images for simclr-resnet20-16: expected 2 or more, found 1; it tells the images/],
      [{ graph, batch: 1 }, /^batch for byol-resnet20-16: expected 2 or more, found 1; its projector takes/],
    ] as const) {
      expect(
        await failure(train({ ...begun, limit: undefined, batch: undefined, out, ...options })),
      ).to.match(says);
      expect(await readdir(out).catch(() => [])).not.to.include("config.json");
    }
  });

  it("stops once it has collapsed, and goes on without its guard", async () => {
    const config = { hidden: 8, projection: 8 };
    const graph = await tinyArtifact(at("collapses"), { method: "similarity", config, imageSize: 8 });
    const out = at("collapsed");
    const run = train({ ...begun, limit: undefined, out, graph, steps: 150, lr: 1, checkpointEvery: 130 });
    expect(await run.catch((error: unknown) => error))
      .to.be.instanceOf(UserError)
      .and.include({ exitCode: 1 });
    expect(await failure(run)).to.match(/^the representation has collapsed at step 140: .* --no-guard$/);
    const guarded = async () => (await readConfig(out)).guard;
    expect(await guarded()).to.equal(true);
    expect(await train({ out, resume: true, guard: false })).to.include({ steps: 150, chance: 0 });
    expect(await guarded()).to.equal(false);
    const signs = (await metricsOf(out)).filter(({ embeddingStd }) => embeddingStd !== undefined);
    expect(signs.map(({ step }) => step)).to.include.members([140, 150]);
    await train({ out, resume: true });
    expect(await guarded(), "as it was left").to.equal(false);
  });

  it("says that the CPU is deterministic, and keeps that it was asked", async () => {
    const [out, stream] = [at("deterministic"), new PassThrough().setEncoding("utf8")];
    await train({ ...begun, out, deterministic: true }, { output: { stream, quiet: false } });
    expect(String(stream.read())).to.match(/^deterministic: runs on the CPU always are/m);
    expect((await readConfig(out)).deterministic).to.equal(true);
    expect(await failure(train({ out, resume: true, deterministic: false }))).to.match(
      /^--deterministic: expected true, as the run began/,
    );
    expect(await failure(train({ out, resume: true, provider: "webgpu" }))).to.match(
      /^--deterministic: expected it with --provider cuda or cpu/,
    );
  });

  it("warns on the stream it is given, and is quiet otherwise", async () => {
    await labelled(at("broken"), ["a", "b"], 4);
    await folder.write("broken/b/cut.png", "no image");
    const stream = new PassThrough().setEncoding("utf8");
    const output = { stream, quiet: true };
    await train(
      { ...begun, limit: undefined, out: at("noted"), data: at("broken"), knnData: at("broken") },
      { output },
    );
    const said = String(stream.read()).split("\n").filter(Boolean);
    expect(said).to.have.length(2);
    for (const line of said)
      expect(line).to.match(/^warning: .*b\/cut\.png: expected an image that can be decoded/);
  });

  it("keeps a log, and what systems put into folders, and no folder where it could not begin", async () => {
    for (const name of [".gitkeep", ".DS_Store", "train.log"]) await folder.write(`logged/${name}`, "kept");
    expect(await train({ ...begun, out: at("logged") })).to.include({ steps: 3 });
    expect(await readFile(at("logged/train.log"), "utf8")).to.equal("kept");
    await failure(train({ ...begun, out: at("not-begun"), data: at("nothing") }));
    expect(await readdir(folder.path)).not.to.include("not-begun");
    await folder.write("strange/checkpoints/step-00000009.safetensors", "another's");
    expect(await failure(train({ ...begun, out: at("strange") }))).to.match(
      /expected nothing that a run would write over, found "checkpoints\/step-00000009\.safetensors"; move it/,
    );
  });

  it("tells after a loss that is no number what there is to go on from", async () => {
    const diverging = { ...begun, lr: 1e30, steps: 8 };
    const early = await failure(train({ ...diverging, out: at("early"), checkpointEvery: 100 }));
    const late = await failure(train({ ...diverging, out: at("late"), checkpointEvery: 1 }));
    const anew = "train anew with another --out and a lower --lr or more --warmup-epochs";
    expect(early).to.match(/^the loss is (NaN|-?Infinity) at step \d+ \(learning rate 1\.00e\+30\); /);
    expect(early).to.contain(`; there is no checkpoint yet: ${anew}`);
    const step = Number(
      /the checkpoint of step (\d) is finite, but --resume would come to the same/.exec(late)?.[1],
    );
    expect(late).to.contain(`${anew}, from its weights with --init ${at("late")}`);
    const { step: latest } = await loadCheckpoint((await latestCheckpoint(at("late/checkpoints")))!);
    expect(step).to.equal(latest);
    expect(await failure(train({ out: at("late"), resume: true }))).to.equal(late);
  });

  it("is interrupted before its first step without harm", async () => {
    const out = at("aborted");
    const result = await train({ ...begun, out }, { signal: AbortSignal.abort() });
    expect(result).to.include({ steps: 0, interrupted: true, encoder: null });
    expect(await train({ out, resume: true })).to.include({ steps: 3, interrupted: false });
  });

  it("exports the state as it stands, and as initialised where there is no checkpoint", async () => {
    const out = at("nothing-yet");
    await train({ ...begun, out }, { signal: AbortSignal.abort() });
    expect(await exportEncoder(out)).to.include({ steps: 0 });
    const encoder = await openEncoder(out, { threads: 1 });
    expect(encoder.metadata).to.include({ encoder: "resnet20", steps: 0, features: 64 });
    const features = await encoder.encode(new Uint8Array(2 * 30 * 40 * 3).fill(100), [2, 30, 40, 3]);
    expect(features).to.have.length(128);
    expect(features.subarray(0, 64)).to.deep.equal(features.subarray(64));
    await encoder.close();
  });

  it("compares the encoder on images of another folder, or drawn ones where the run's are gone", async () => {
    const [data, out] = [await pictures(at("moved"), 2), at("lonely")];
    await train({ ...begun, data, limit: undefined, batch: 2, out, steps: 0 });
    const kept = await exportEncoder(out);
    expect(kept).to.include({ compared: `2 images of ${data}`, drawn: false });
    await rm(data, { recursive: true });
    const drawn = await exportEncoder(out);
    expect(drawn).to.include({ drawn: true, bytes: kept.bytes });
    expect(drawn.compared).to.equal(
      `8 drawn images (${data}: expected a folder of images, found nothing at this path)`,
    );
    expect(drawn.maxRelative).to.be.within(0, 1e-4);
    expect(await exportEncoder(out, { data: at("photos") })).to.include({
      compared: `8 images of ${at("photos")}`,
      drawn: false,
    });
    expect(await failure(exportEncoder(out, { data }))).to.match(/moved: expected a folder of images/);
  });

  it("keeps what was trained though the images vanish meanwhile", async () => {
    const [data, out] = [await pictures(at("vanishing"), 2), at("bereft")];
    const said: string[] = [];
    const stream = new Writable({
      write(chunk, _, done) {
        said.push(String(chunk));
        rmSync(data, { recursive: true, force: true }); // as soon as it tells that it has begun
        done();
      },
    });
    const options = { ...begun, data, limit: undefined, batch: 2, out, steps: 0 };
    const { encoder } = await train(options, { output: { stream, quiet: false } });
    expect(encoder).to.equal(at("bereft/encoder.onnx"));
    expect(said.join("")).to.match(/warning: encoder\.onnx was compared on 8 drawn images \(.*vanishing: /);
  });

  it("gives an encoder that tells hues apart", async () => {
    const folders = { train: at("labelled"), test: at("labelled") };
    const { top1, k } = await probe({ encoder: at("run"), kind: "knn", k: 1, threads: 1, ...folders });
    expect({ top1, k }).to.deep.equal({ top1: 100, k: 1 }); // each image's nearest is itself
  });
});
