import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import sharp from "sharp";
import type { TrainOptions } from "../../src/api/create.ts";
import { train } from "../../src/api/train.ts";
import { temporaryFolder } from "../data/folder.ts";
import { eventFiles, kept } from "../support/events.ts";
import { labelled, pictures, tinyArtifact } from "../support/pictures.ts";
import { metricsOf } from "../support/program.ts";

describe("api/tensorboard", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const tensorboard = () => at("board/run");
  let options: TrainOptions;

  before(async () => {
    await pictures(at("photos"), 8);
    await labelled(at("labelled"), ["a", "b"], 4);
    const graph = await tinyArtifact(at("graph"));
    options = {
      data: at("photos"),
      out: at("run"),
      graph,
      batch: 4,
      steps: 4,
      threads: 1,
      checkpointEvery: 1,
    };
    await train({ ...options, knnData: at("labelled"), tensorboard: tensorboard() });
  });

  /** Checks that what TensorBoard keeps is metrics.jsonl, in float32. */
  async function sameAsMetrics() {
    const told: Record<string, number>[] = [];
    for (const { step, scalars } of kept(eventFiles(tensorboard()))) {
      if (!scalars) continue;
      const last = told.at(-1);
      if (last?.step === step) Object.assign(last, scalars);
      else told.push({ step, ...scalars });
    }
    const written = (await metricsOf(at("run"))).map((line) =>
      Object.fromEntries(Object.entries(line).map(([name, value]) => [name, Math.fround(value)])),
    );
    expect(told).to.deep.equal(written);
    return told;
  }

  it("is told the numbers of metrics.jsonl", async () => {
    const told = await sameAsMetrics();
    expect(told[0]).to.include.keys("loss", "lr", "imagesPerSecond");
    expect(told[1]).to.include.keys("knn", "rankme");
    expect(eventFiles(tensorboard())[0]![0]).to.deep.equal({ step: 0, version: "brain.Event:2" });
  });

  it("is shown the views of the first step, as the PNG that TensorBoard can show", async () => {
    const shown = kept(eventFiles(tensorboard())).filter(({ images }) => images);
    expect(shown.map(({ step }) => step)).to.deep.equal([1]);
    const { encoded, colorspace, ...size } = shown[0]!.images!.views!;
    const metadata = await sharp(encoded).metadata();
    expect(metadata).to.include({ format: "png", channels: 4, ...size });
    expect(colorspace).to.equal(4);
    expect(size).to.deep.equal({ width: 3 * 16, height: 4 * 16 }); // 4 images, each with two views of 16 px
  });

  it("gets another file from a run that goes on, and no step twice", async () => {
    await rm(at("run/checkpoints/step-00000004.safetensors")); // as if it was cut off before that
    await train({ out: at("run"), resume: true, tensorboard: tensorboard() });
    const files = eventFiles(tensorboard());
    expect(files.map((events) => events.find(({ status }) => status === 1)?.step)).to.deep.equal([1, 4]);
    for (const events of files) expect(events.filter(({ step }) => step === 4)).to.have.length.above(1);
    await sameAsMetrics();
    const shown = kept(files).filter(({ images }) => images);
    expect(shown.map(({ step }) => step)).to.deep.equal([1, 4]);
  });

  it("changes nothing of the run", async () => {
    const out = at("without");
    await train({ ...options, out, knnData: at("labelled") });
    for (const name of ["config.json", "encoder.onnx"])
      expect((await readFile(join(out, name))).equals(await readFile(at(`run/${name}`))), name).to.equal(
        true,
      );
  });

  it("that cannot be told is one warning, and the run goes on", async () => {
    const stream = new PassThrough().setEncoding("utf8");
    await folder.write("file", "in the way");
    const told = { ...options, out: at("untold"), tensorboard: at("file/board") };
    expect(await train(told, { output: { stream, quiet: true } })).to.include({ steps: 4 });
    expect(String(stream.read())).to.equal(
      `warning: TensorBoard is told no more of this run: ${at("file/board")}: expected a folder, found a file; choose another folder\n`,
    );
  });
});
