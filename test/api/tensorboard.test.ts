import { mkdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import sharp from "sharp";
import { openEncoder } from "../../src/api/encoder.ts";
import { train } from "../../src/api/train.ts";
import type { TrainOptions } from "../../src/api/train-options.ts";
import { findImages } from "../../src/data/sources.ts";
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

  /** What TensorBoard's projector reads of a folder, byte by byte as it does. */
  async function projection(dir: string) {
    const config = await readFile(join(dir, "projector_config.pbtxt"), "utf8");
    const [, name, rows, columns, sprite, cell] =
      /^embeddings \{\n {2}tensor_name: "([ -~]+)"\n {2}tensor_path: "(\S+)"\n {2}metadata_path: "(\S+)"\n {2}sprite \{\n {4}image_path: "(\S+)"\n {4}single_image_dim: (\d+)\n {4}single_image_dim: \5\n {2}\}\n\}\n$/.exec(
        config,
      )!;
    const table = async (path: string) => {
      const text = await readFile(join(dir, path), "utf8");
      expect(text.endsWith("\n")).to.equal(true);
      return text
        .slice(0, -1)
        .split(/(?!\t)[\p{Cc}\p{Zl}\p{Zp}]/u) // all that ends a line in Python, and more
        .map((line) => line.split("\t"));
    };
    return {
      name,
      rows: (await table(rows!)).map((line) => line.map(Number)),
      columns: await table(columns!),
      sprite: await readFile(join(dir, sprite!)),
      cell: Number(cell),
    };
  }

  it("is shown a sample of images by their features at the end, with classes and thumbnails", async () => {
    const { name, rows, columns, sprite, cell } = await projection(tensorboard());
    expect(name).to.equal("features after 4 steps");
    const encoder = await openEncoder(at("run"), { threads: 1 });
    const { features, files } = await encoder.embed(await findImages(at("labelled")));
    await encoder.close();
    expect(columns).to.deep.equal([["class", "image"], ...files.map((file) => [file.slice(0, 1), file])]);
    expect(rows.map((row) => Float32Array.from(row))).to.deep.equal(
      files.map((_, i) => features.data.slice(i * features.d, (i + 1) * features.d)),
    );
    const { data, info } = await sharp(sprite).raw().toBuffer({ resolveWithObject: true });
    expect((await sharp(sprite).metadata()).format).to.equal("png");
    expect(cell).to.equal(48);
    expect([info.width, info.height]).to.deep.equal([3 * cell, 3 * cell]); // 8 images
    // A class is a hue: red in the first four cells, green from the fifth on.
    const hue = (place: number) => {
      const [x, y] = [(place % 3) * cell + cell / 2, Math.floor(place / 3) * cell + cell / 2];
      const pixel = data.subarray(
        info.channels * (y * info.width + x),
        info.channels * (y * info.width + x) + 3,
      );
      return pixel.indexOf(Math.max(...pixel));
    };
    expect(Array.from({ length: 8 }, (_, i) => hue(i))).to.deep.equal([0, 0, 0, 0, 1, 1, 1, 1]);
  });

  it("is shown images without classes by their paths alone, a line each whatever these hold", async () => {
    const odd = "a\tb\n\u2028.png";
    await mkdir(at("odd"));
    await pictures(at("odd"), 4);
    await rename(at("odd/02.png"), at(`odd/${odd}`));
    await train({ ...options, data: at("odd"), out: at("odd-run"), steps: 0, tensorboard: at("board/odd") });
    const { name, rows, columns } = await projection(at("board/odd"));
    expect(name).to.equal("features after 0 steps");
    expect(columns).to.deep.equal([["00.png"], ["01.png"], ["03.png"], ["a\\u{9}b\\u{a}\\u{2028}.png"]]);
    expect(rows.map(({ length }) => length)).to.deep.equal([64, 64, 64, 64]);
  });

  it("that the projector's files cannot be told is a warning too", async () => {
    const stream = new PassThrough().setEncoding("utf8");
    await folder.write("board/blocked/projector", "in the way");
    const told = { ...options, out: at("blocked"), steps: 0, tensorboard: at("board/blocked") };
    expect(await train(told, { output: { stream, quiet: true } })).to.include({ steps: 0 });
    expect(String(stream.read())).to.equal(
      `warning: TensorBoard is shown no embeddings: ${at("board/blocked/projector")}: expected a folder, found a file; choose another folder\n`,
    );
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
