import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import sharp from "sharp";
import { type Baseline, readBaseline, writeBaseline } from "../../src/api/baseline.ts";
import { openEncoder, writeEmbedding } from "../../src/api/encoder.ts";
import { hold, type MeasureOptions, measure, refuseFailed } from "../../src/api/gate.ts";
import { findImages } from "../../src/data/sources.ts";
import type { UserError } from "../../src/errors.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input } from "../../src/graph/tensor.ts";
import { reduceMean } from "../../src/ops/reduce.ts";
import { randomFor } from "../../src/random.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { writeLinearEncoder } from "../support/linear-encoder.ts";

const SIDE = 8;
const PIXELS = 3 * SIDE * SIDE;
/** Of each class: the sign of a pixel's shade, far below the noise of a single pixel. */
const CLASSES = {
  left: (x: number, _: number) => (x < SIDE / 2 ? 1 : -1),
  top: (_: number, y: number) => (y < SIDE / 2 ? 1 : -1),
};
const patterns = Object.values(CLASSES);

async function drawImages(dir: string, each: number): Promise<void> {
  for (const [name, sign] of Object.entries(CLASSES)) {
    await mkdir(join(dir, name), { recursive: true });
    for (let i = 0; i < each; i++) {
      const random = randomFor("gate", dir.slice(-4), name, i);
      const pixels = Uint8Array.from({ length: PIXELS }, (_, at) => {
        const pixel = Math.floor(at / 3);
        return 128 + 14 * sign(pixel % SIDE, Math.floor(pixel / SIDE)) + random.uniform(-90, 90);
      });
      const raw = { width: SIDE, height: SIDE, channels: 3 } as const;
      await sharp(pixels, { raw }).toFile(join(dir, name, `${i}.png`));
    }
  }
}

/** An encoder of one layer, whose filters are the classes' patterns, or the same weights in another order. */
async function writeFilters(path: string, shuffled = false): Promise<void> {
  const values = Array.from({ length: PIXELS * patterns.length }, (_, i) => {
    const pixel = Math.floor(i / patterns.length) % (SIDE * SIDE);
    return patterns[i % patterns.length]!(pixel % SIDE, Math.floor(pixel / SIDE));
  });
  await writeLinearEncoder(
    path,
    SIDE,
    Float32Array.from(shuffled ? randomFor("shuffled").shuffled(values) : values),
  );
}

describe("api/gate", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const options = (more: Partial<MeasureOptions> = {}): MeasureOptions => ({
    ...{ encoder: at("encoder.onnx"), train: at("train"), test: at("test"), threads: 1 },
    ...{ kinds: ["knn"], k: [5], ...more },
  });
  let baseline: Baseline;

  before(async () => {
    await drawImages(at("train"), 20);
    await drawImages(at("test"), 20);
    await writeFilters(at("encoder.onnx"));
    await writeFilters(at("shuffled.onnx"), true);
    const measured = await measure(options({ kinds: ["knn", "linear"], seeds: 2, costs: ["latency"] }));
    await writeBaseline(at("b.json"), measured);
    baseline = await readBaseline(at("b.json"));
  });

  /** The line that a measurement is refused with, always before the work. */
  const refused = async (more: Partial<MeasureOptions>, file = baseline) =>
    await failure(measure(options({ ...more, baseline: file })));

  it("passes the same encoder, with the same images right", async () => {
    const measured = await measure(options({ kinds: ["knn", "linear"], seeds: 2, baseline }));
    const gate = hold(measured, baseline);
    expect(gate).to.include({ passed: true, sameEncoder: true, sameProcessor: true });
    expect(gate.accuracies.map(({ name, now, paired }) => [name, now, paired])).to.deep.equal(
      baseline.probes.map(({ kind, top1, seeds }) => [
        ...[`${kind} top-1`, seeds?.mean ?? top1, { lost: 0, won: 0, p: 1 }],
      ]),
    );
    expect(baseline.probes[0]!.top1).to.be.above(90);
    refuseFailed(gate);
  });

  it("fails an encoder with the weights of its layer shuffled, with exit code 1", async () => {
    const gate = hold(await measure(options({ encoder: at("shuffled.onnx"), baseline })), baseline, {
      tolerance: 10,
    });
    expect(gate).to.include({ passed: false, sameEncoder: false });
    const [check] = gate.accuracies;
    expect(check!.paired!.p).to.be.below(0.01);
    expect(check!.lost[0]!.file).to.match(/^left|top\/\d+\.png$/);
    const { message, exitCode } = caught(() => refuseFailed(gate));
    expect(exitCode).to.equal(1);
    expect(message).to.match(/^knn top-1 is \d\d\.\d\d %, below the baseline's \d+\.00 % by more than 10$/);
  });

  it("holds one of several probes that a baseline has", async () => {
    const gate = hold(await measure(options({ kinds: ["linear"], baseline })), baseline);
    expect(gate.accuracies.map(({ name }) => name)).to.deep.equal(["linear top-1"]);
    // The mean and the spread of the baseline's seeds.
    const { mean, std } = baseline.probes[1]!.seeds!;
    expect(gate.accuracies[0]!.limit).to.be.closeTo(mean - 1.96 * std, 1e-9);
  });

  it("refuses other settings, naming both", async () => {
    const wants = (setting: string, found: string) =>
      new RegExp(`b\\.json: expected ${setting}, as its probes had, found ${found}; give the same`);
    expect(await refused({ k: [7] })).to.match(wants("--k 5", "--k 7"));
    expect(await refused({ temperature: [0.5] })).to.match(
      wants("--temperature 0\\.1", "--temperature 0\\.5"),
    );
    const linear = { kinds: ["linear"] } as const;
    expect(await refused({ ...linear, epochs: 7 })).to.match(wants("--epochs 100", "--epochs 7"));
    expect(await refused({ ...linear, augment: true })).to.match(wants("no --augment", "--augment"));
    expect(await refused({ seed: 3 })).to.match(wants("--seed 0", "--seed 3"));
    expect(await refused({ labels: 0.5 })).to.match(wants("--labels 100%", "--labels 50%"));
    expect(await refused({ limit: 30 })).to.match(wants("no --limit", "--limit 30"));
    expect(await refused({ range: [0, 9] })).to.match(wants("no --range", "--range 0,9"));
  });

  it("takes a k beyond the training set for all of it, in the baseline and now", async () => {
    await writeBaseline(at("all.json"), await measure(options({ k: [100] })));
    const all = await readBaseline(at("all.json"));
    expect(hold(await measure(options({ k: [200], baseline: all })), all).passed).to.equal(true);
    expect(await refused({ k: [30] }, all)).to.match(/expected --k 40, .* found --k 30/);
  });

  it("refuses other images: fewer, of other names, or changed in a single file", async () => {
    for (const name of ["few", "other"]) await drawImages(at(`${name}/test`), name === "few" ? 19 : 20);
    expect(await refused({ test: at("few/test") })).to.match(
      /b\.json: expected 40 images in --test, as its probes had, found 38 images in --test; give the same/,
    );
    const few = await measure(options({ test: at("few/test") }));
    expect(caught(() => hold(few, baseline)).message).to.match(/expected 40 images in --test, .* found 38/);
    const picture = await readFile(at("train/top/3.png"));
    await folder.write("other/test/top/3.png", picture);
    expect(await refused({ test: at("other/test") })).to.match(
      /expected files in --test with the hash [0-9a-f]{12}, .* found files in --test with the hash/,
    );
    await folder.write("few/test/top/new.png", picture);
    await folder.write("few/test/left/new.png", picture);
    expect(await refused({ test: at("few/test") })).to.match(/expected paths in --test with the hash/);
  });

  it("compares accuracy alone with a file of an earlier version, of one probe", async () => {
    const old = { kind: "knn", top1: 50, k: 200, temperature: 0.1, train: 40, test: 40 };
    await folder.write("old.json", JSON.stringify(old));
    const earlier = await readBaseline(at("old.json"));
    const gate = hold(await measure(options({ baseline: earlier })), earlier);
    expect(gate.accuracies[0])
      .to.include({ verdict: "passed", baseline: 50 })
      .and.not.have.property("paired");
    expect(gate).not.to.have.property("sameEncoder");
    expect(await refused({ kinds: ["linear"] }, earlier)).to.match(/a baseline of kind linear, found knn/);
    expect(await refused({ k: [1, 5] }, earlier)).to.match(/one kind of probe with one k .* found 2 of them/);
  });

  it("refuses a damaged baseline, and one of a later version", async () => {
    const text = await readFile(at("b.json"), "utf8");
    const read = async (content: string) =>
      await failure(readBaseline(await folder.write("d.json", content)));
    expect(await read(text.replace(/"right": ".{4}/, '"right": "'))).to.match(
      /"right": expected a bit for each/,
    );
    expect(await read(text.replace('"format": 1', '"format": 2'))).to.match(
      /"format": expected 1, found 2; a newer/,
    );
    expect(await read("{}")).to.match(/d\.json: expected a baseline, found another file/);
    expect(await read(text.replaceAll(/"knn"/g, '"\\u001b"'))).to.match(/printable text/);
  });

  it("holds costs to ratios, latency on the processor of the baseline alone", async () => {
    const costs = ["latency", "memory"] as const;
    const measured = await measure(options({ costs, baseline }));
    const { size, latency, memory } = measured.cost!;
    expect(size).to.equal((await readFile(at("encoder.onnx"))).length);
    expect(latency).to.be.within(1e-6, 1);
    expect(memory).to.be.within(1e5, 1e9);
    const against = (cost: object, ratios: object) =>
      hold(measured, { ...baseline, cost: { ...measured.cost!, ...cost } }, { costs: ratios });
    const grown = against({ size: size / 2, memory: memory! / 2 }, { size: 1.9, memory: 2.1 });
    expect(grown.costs.map(({ name, verdict }) => [name, verdict])).to.deep.equal([
      ["latency", "passed"],
      ["size", "failed"],
      ["memory", "passed"],
    ]);
    expect(caught(() => refuseFailed(grown)).message).to.equal(
      "size is 2.00 times the baseline's, above 1.90",
    );
    const slower = { latency: latency! / 2 };
    expect(against(slower, { latency: 1.5 }).passed).to.equal(false);
    const elsewhere = against({ ...slower, processor: "another" }, { latency: 1.5 });
    expect(elsewhere.costs[0]).to.include({ verdict: "skipped" });
    expect(elsewhere.costs[0]!.reason).to.match(/^the baseline was measured on another, this on /);
    expect(elsewhere).to.include({ passed: true, sameProcessor: false });
    expect(await refused({ costs: ["memory"] }, { ...baseline, cost: undefined })).to.match(
      /b\.json: expected the memory of an encoder, found none; write one anew/,
    );
  });

  it("measures of a third-party model its size alone", async () => {
    const pixels = input("pixels", "float32", ["n", 3, SIDE, SIDE]);
    const graph = buildModel({ features: reduceMean(pixels, { axes: [2, 3] }) }, { name: "other" });
    await folder.write("other.onnx", encodeModel(graph));
    const model = { size: SIDE, mean: "imagenet" } as const;
    const measured = await measure(options({ encoder: at("other.onnx"), model, costs: ["latency"] }));
    expect(measured.cost).to.have.keys("size", "processor");
    const size = { costs: { size: 1 } };
    expect(hold(measured, baseline, size).costs.map(({ name }) => name)).to.deep.equal(["size"]);
    expect(caught(() => hold(measured, baseline, { costs: { latency: 2 } })).message).to.match(
      /gate, latency: expected it in the baseline and now, found none of a third-party model/,
    );
  });

  it("compares features of embed by the images' names", async () => {
    const encoder = await openEncoder(at("encoder.onnx"), { threads: 1 });
    for (const set of ["train", "test", "few/test"]) {
      const embedded = await encoder.embed(await findImages(at(set)));
      await writeEmbedding(at(`${set}.npy`), embedded, encoder.metadata);
    }
    await encoder.close();
    const features = [at("train.npy"), at("test.npy")] as const;
    const given = { encoder: undefined, train: undefined, test: undefined, features };
    const gate = hold(await measure(options({ ...given, baseline })), baseline);
    expect(gate).to.include({ passed: true });
    expect(gate.accuracies[0]!.paired).to.include({ lost: 0, won: 0 });
    const other = { ...given, features: [features[0], at("few/test.npy")] as const, baseline };
    expect(await failure(measure(options(other)))).to.match(/expected paths in --test with the hash/);
    expect(await failure(measure(options({ ...given, costs: ["size"] })))).to.match(
      /its size, found features/,
    );
  });
});

function caught(work: () => void): UserError {
  try {
    work();
  } catch (error) {
    return error as UserError;
  }
  throw new Error("expected an error");
}
