import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { exportEncoder } from "../../src/api/export.ts";
import { finetune } from "../../src/api/finetune.ts";
import { compareFinetuned, comparisonLines } from "../../src/api/finetune-compare.ts";
import type { FinetuneOptions } from "../../src/api/finetune-start.ts";
import { probe } from "../../src/api/probe.ts";
import { imagesShown } from "../../src/api/report-embedding.ts";
import { findTraining } from "../../src/api/supervised.ts";
import { train } from "../../src/api/train.ts";
import { readArtifact } from "../../src/artifact/files.ts";
import { openDecoder } from "../../src/data/decoder.ts";
import { findLabelTable } from "../../src/data/label-table.ts";
import { readEncoderMetadata } from "../../src/export/metadata.ts";
import { readRecords } from "../../src/report/run.ts";
import { readConfig, runFiles } from "../../src/train/run-folder.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { labelled, pictures, tinyArtifact } from "../support/pictures.ts";
import { stopAfter } from "../support/stop-after.ts";

describe("api/finetune: images of several classes, and the best epoch", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const CLASSES = ["cool", "green", "warm"];
  /** What the hue of `labelled` says: one class, two, or none. */
  const OF: Readonly<Record<string, readonly string[]>> = { a: ["warm"], b: ["green", "cool"], c: [] };
  let told: Omit<FinetuneOptions, "out"> & { readonly test: string };

  /** A table of the images of a labelled folder. */
  async function table(name: string, photos: string, each: number): Promise<string> {
    const lines = Object.entries(OF).flatMap(([hue, labels]) =>
      Array.from({ length: each }, (_, i) =>
        [`${photos}/${hue}/${String(i).padStart(2, "0")}.png`, ...labels].join(),
      ),
    );
    return folder.write(name, `image,labels\n${lines.join("\n")}\n`);
  }

  before(async () => {
    const graph = await tinyArtifact(at("graph"));
    const photos = await pictures(at("photos"), 8);
    await train({ data: photos, graph, out: at("run"), batch: 4, steps: 2, lr: 0.1, threads: 1 });
    await labelled(at("train"), ["a", "b", "c"], 10);
    await labelled(at("test"), ["a", "b", "c"], 3);
    told = {
      ...{ encoder: at("run"), batch: 8, epochs: 2, threads: 1, heldOut: 0.2 },
      data: await table("train.csv", "train", 10),
      test: await table("test.csv", "test", 3),
    };
  });

  it("ends with a classifier whose classes are independent, and their average precision", async () => {
    const result = await finetune({ ...told, epochs: 12, mixup: 0.2, out: at("tuned") });
    expect(result).to.deep.include({ measure: "averagePrecision", images: 24, heldOut: 6, test: null });
    expect(result.validation).to.be.within(0, 100);
    const { classes, mean, low, high, images } = result.averagePrecision!;
    expect(classes.map(({ averagePrecision: _, ...own }) => own)).to.deep.equal(
      CLASSES.map((name) => ({ class: name, images: 3 })),
    );
    expect(images).to.equal(9);
    expect(mean).to.be.within(low, high);
    expect(mean).to.be.greaterThan(90); // hues are easily told apart; by chance it is about 40

    const config = (await readArtifact(at("tuned"))).manifest.method.config;
    expect(config).to.deep.include({ independent: true, classes: 3, smoothing: 0 });
    const bytes = await readFile(result.classifier!);
    const metadata = readEncoderMetadata(bytes, "classifier");
    expect(metadata).to.deep.include({ classes: CLASSES, independent: true });
    expect(readEncoderMetadata(await readFile(at("tuned/encoder.onnx")), "")).not.to.have.property("classes");

    // By hand: the classifier's own probabilities of the test images, and average precision by its definition.
    const { root, files, labelSets } = await findLabelTable(told.test);
    const decoder = openDecoder({ root, files, notes: [] } as never, { warn: () => {} });
    const squares = await Promise.all(files.map((file) => decoder.square(file, metadata.side)));
    const pixels = Buffer.concat(squares.map((square) => square!.pixels));
    const session = await ort.InferenceSession.create(bytes);
    const shape = [files.length, metadata.side, metadata.side, 3];
    const found = await session.run({ images: new ort.Tensor("uint8", pixels, shape) });
    const scores = found.probabilities!.data as Float32Array;
    expect(found.probabilities!.dims).to.deep.equal([9, 3]);
    CLASSES.forEach((_, c) => {
      const ranked = Array.from(files.keys()).sort((a, b) => scores[3 * b + c]! - scores[3 * a + c]!);
      const places = ranked.flatMap((row, place) => (labelSets![row]!.includes(c) ? [place + 1] : []));
      const wanted = places.reduce((sum, place, i) => sum + (i + 1) / place, 0) / places.length;
      expect(classes[c]!.averagePrecision).to.be.closeTo(100 * wanted, 1e-6);
    });
  });

  it("reads the same images for exports and reports, and from another folder", async () => {
    const { drawn } = await exportEncoder(at("tuned"));
    expect(drawn).to.equal(false);
    const [config, { manifest }] = [await readConfig(at("tuned")), await readArtifact(at("tuned"))];
    const { sources } = await imagesShown({ config, manifest });
    expect(sources.files).to.have.length(30);
    const moved = await table("elsewhere/train.csv", "train", 10);
    const out = at("moved");
    const options = { ...told, epochs: 1, data: moved, images: folder.path, test: undefined, out };
    const { images } = await finetune(options);
    expect(images).to.equal(24);
    expect((await readConfig(out)).supervision).to.deep.include({ images: folder.path });
    const again = await finetune({ out, resume: true, test: await table("elsewhere/test.csv", "test", 3) });
    expect(again.averagePrecision!.images).to.equal(9);
  });

  it("refuses labels that changed when it goes on", async () => {
    const text = await readFile(told.data!, "utf8");
    await writeFile(told.data!, text.replace("a/00.png,warm", "a/00.png,cool"));
    const message = await failure(finetune({ out: at("tuned"), resume: true }));
    await writeFile(told.data!, text);
    expect(message).to.match(/found others; their names or labels have changed$/);
  });

  it("takes a share of the labels by image, and compares starts by the mean average precision", async () => {
    const supervision = { labels: 0.3, heldOut: 0.3, earlyStop: null };
    const { sources, heldOut } = await findTraining(told.data!, { seed: 3 }, supervision);
    expect([sources.files.length, heldOut!.files.length]).to.deep.equal([6, 3]);
    expect([...new Set(sources.labelSets!.flat())].sort()).to.deep.equal([0, 1, 2]);
    const starts = ["scratch"] as const;
    const options = { ...told, epochs: 1, starts, shares: [0.5], seeds: 2, heldOut: 0, out: at("compared") };
    const compared = await compareFinetuned(options);
    const [row] = compared.rows;
    const [a, b] = row!.values as [number, number];
    expect(row!.mean).to.be.closeTo((a + b) / 2, 1e-9);
    expect(row!.measure).to.equal("averagePrecision");
    expect(comparisonLines(compared)[0]).to.match(/seeds +mAP +std/);
  });

  it("exports the best epoch of a run that stops early, and the same bytes after a stop", async () => {
    const early = { ...told, earlyStop: 2, epochs: 12, lr: 0.01, headLr: 0.01 };
    const whole = await finetune({ ...early, out: at("whole") });
    const ends = (await readRecords(at("whole"))).filter(({ validation }) => validation !== undefined);
    const most = Math.max(...ends.map(({ validation }) => validation!));
    const best = ends.find(({ validation }) => validation === most)!;
    expect(whole).to.deep.include({ bestEpoch: best.epoch, validation: most });
    expect(best.step).to.be.lessThan(ends.at(-1)!.step);
    expect(await readdir(runFiles(at("whole")).best)).to.deep.equal([
      `step-${String(best.step).padStart(8, "0")}.safetensors`,
    ]);
    const { steps } = readEncoderMetadata(await readFile(whole.classifier!), "classifier");
    expect(steps).to.equal(best.step);

    const cutAt = async (out: string, step: number) => {
      await finetune({ ...early, out: at(out) }, stopAfter(step));
    };
    await cutAt("cut", best.step + 1);
    const rest = await finetune({ out: at("cut"), resume: true, test: told.test, threads: 1 });
    const { seconds: _, run: __, classifier: ___, ...same } = whole;
    expect(rest).to.deep.include(same);
    for (const name of ["classifier.onnx", "encoder.onnx", `best/${(await readdir(at("cut/best")))[0]}`])
      expect((await readFile(at(`cut/${name}`))).equals(await readFile(at(`whole/${name}`))), name).to.equal(
        true,
      );
    // Stopped before that epoch was looked at, which is made up for.
    await cutAt("evaluated", best.step);
    await finetune({ out: at("evaluated"), resume: true, threads: 1 });
    const [own, other] = await Promise.all(
      ["evaluated", "whole"].map((name) => readFile(at(`${name}/classifier.onnx`))),
    );
    expect(own!.equals(other!)).to.equal(true);
  });

  it("trains again with other seeds, each with images of its own", async () => {
    await probe({
      ...{ kind: "knn", k: 3, encoder: at("whole"), repeat: 2, threads: 1 },
      ...{ train: at("train"), test: at("test") },
    });
    const again = at("whole/repeats/seed-1");
    const [first, second] = [await readConfig(at("whole")), await readConfig(again)];
    expect(second.fingerprint).not.to.equal(first.fingerprint);
    await finetune({ ...told, earlyStop: 2, epochs: 12, lr: 0.01, headLr: 0.01, seed: 1, out: at("own") });
    const [own, repeated] = [
      await readFile(at("own/encoder.onnx")),
      await readFile(join(again, "encoder.onnx")),
    ];
    expect(own.equals(repeated)).to.equal(true);
    const before = await readFile(join(again, "metrics.jsonl"), "utf8");
    await probe({
      ...{ kind: "knn", k: 3, encoder: at("whole"), repeat: 2, threads: 1 },
      ...{ train: at("train"), test: at("test") },
    });
    expect(await readFile(join(again, "metrics.jsonl"), "utf8")).to.equal(before);
  });

  it("refuses bad input in one line, before anything is written", async () => {
    const out = at("refused");
    const refused = async (options: Partial<FinetuneOptions>) => {
      const message = await failure(finetune({ ...told, out, ...options }));
      expect(message).not.to.include("\n");
      return message;
    };
    const unknown = await folder.write("unknown.csv", "test/a/00.png,warm\ntest/b/00.png,huge\n");
    expect(await refused({ test: unknown })).to.match(/class "huge", which the training set lacks$/);
    const missing = await folder.write("missing.csv", "train/a/00.png,x\ntrain/a/99.png,y\n");
    expect(await refused({ data: missing })).to.match(/missing\.csv: .* found no "train\/a\/99\.png"; name/);
    expect(await refused({ test: at("test") })).to.match(/^--test: expected a \.csv .*, found a folder/);
    expect(await refused({ data: at("train"), test: told.test })).to.match(/^--test: expected a folder/);
    expect(await refused({ data: at("train"), test: at("test"), images: at("train") })).to.match(
      /^--images: /,
    );
    const none = await folder.write(
      "none.csv",
      "train/a/00.png,x\ntrain/b/00.png,y\ntrain/c/00.png\ntrain/c/01.png\n",
    );
    expect(await refused({ data: none, test: undefined, heldOut: 0.5 })).to.match(
      /^--held-out: expected an image/,
    );

    const names = Array.from({ length: 700 }, (_, i) => `${i}`.padStart(200, "x"));
    const many = await folder.write("many.csv", ["train/a/00.png", ...names].join());
    expect(await refused({ data: many, test: undefined, heldOut: 0 })).to.match(
      /of at most 120000 characters/,
    );

    await labelled(at("folders"), ["a", "b"], 1);
    const folders = { data: at("folders"), test: undefined };
    await mkdir(at("folders/empty"));
    expect(await refused(folders)).to.match(
      /folders\/empty: expected images of the class, found none; add some/,
    );
    await rm(at("folders/empty"), { recursive: true });
    await labelled(at("folders"), ["caf\u00e9", "cafe\u0301"], 1);
    expect(await refused(folders)).to.match(
      /one folder per class, found two folders "caf\u00e9", whose names/,
    );

    const supervision = { labels: 1, heldOut: 0, earlyStop: null };
    const pairs = await folder.write("pairs.csv", "00.png,01.png\n02.png,03.png\n");
    const both = { data: at("photos"), positives: "pairs", pairs, supervision } as const;
    expect(await failure(train({ ...both, out }))).to.match(
      /^train, supervision: expected it without --positives, found --positives pairs$/,
    );
    expect(await readdir(folder.path)).not.to.include("refused/config.json");
  });
});
