import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import sharp from "sharp";
import { readBaseline } from "../../src/api/baseline.ts";
import { refuseFailed } from "../../src/api/gate.ts";
import { gateJunit, gateLines } from "../../src/api/gate-report.ts";
import { type RankBaseline, readRankBaseline, writeRankBaseline } from "../../src/api/rank-baseline.ts";
import { holdRank, type MeasureRankOptions, measureRank } from "../../src/api/rank-gate.ts";
import type { UserError } from "../../src/errors.ts";
import { randomFor } from "../../src/random.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { writeLinearEncoder } from "../support/linear-encoder.ts";

const SIDE = 8;
const PIXELS = 3 * SIDE * SIDE;
const FEATURES = 16;
const IMAGES = 110;

describe("api/rank-gate", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const silent = { output: { stream: new PassThrough(), quiet: true } };
  const measured = (more: Partial<MeasureRankOptions> = {}) =>
    measureRank({ encoder: at("encoder.onnx"), data: at("photos"), threads: 1, ...more }, silent);
  const refused = (more: Partial<MeasureRankOptions>) => failure(measured({ baseline, ...more }));
  let baseline: RankBaseline;

  /** Random filters, each of `shared` times the first one. */
  const writeFilters = (name: string, shared = 0) => {
    const random = randomFor("rank gate", name);
    const first = Float32Array.from({ length: PIXELS }, () => random.uniform(-1, 1));
    const weights = Float32Array.from(
      { length: PIXELS * FEATURES },
      (_, i) => random.uniform(-1, 1) + shared * first[Math.floor(i / FEATURES)]!,
    );
    return writeLinearEncoder(at(name), SIDE, weights);
  };

  async function drawn(i: number): Promise<Buffer> {
    const random = randomFor("rank gate", i);
    const pixels = Uint8Array.from({ length: PIXELS }, () => random.uniform(0, 256));
    return sharp(pixels, { raw: { width: SIDE, height: SIDE, channels: 3 } })
      .png()
      .toBuffer();
  }

  before(async () => {
    for (let i = 0; i < IMAGES; i++) await folder.write(`photos/${i}.png`, await drawn(i));
    await writeFilters("encoder.onnx");
    await writeFilters("other.onnx");
    await writeFilters("alike.onnx", 20);
    await writeRankBaseline(at("b.json"), await measured());
    baseline = await readRankBaseline(at("b.json"));
  });

  it("passes the same encoder, whose neighbours are all the same", async () => {
    const gate = holdRank(await measured({ baseline }), baseline, { leastOverlap: 1 });
    expect(gate).to.include({ passed: true, sameEncoder: true, sameProcessor: true });
    const names = ["RankMe", "neighbour overlap", "uniformity"];
    expect(gate.measures.map(({ name }) => name)).to.deep.equal(names); // 16 features are too few for alpha
    for (const { baseline, now } of gate.measures) expect(now).to.equal(baseline);
    refuseFailed(gate);
  });

  it("fails an encoder with other neighbours, where a limit is given", async () => {
    const other = await measured({ encoder: at("other.onnx"), baseline });
    const loose = holdRank(other, baseline, { tolerance: 20 });
    expect(loose).to.include({ passed: true, sameEncoder: false });
    const { now, ...overlap } = loose.measures[1]!;
    expect(now).to.be.within(0.11, 0.5); // above chance: both see the same pixels
    expect(overlap).not.to.have.property("limit");
    expect(gateJunit(loose)).to.include('tests="1"'); // RankMe alone has a limit

    const gate = holdRank(other, baseline, { tolerance: 20, leastOverlap: 0.5 });
    const { message, exitCode } = caught(() => refuseFailed(gate));
    expect(message).to.equal(`neighbour overlap is ${now.toPrecision(4)}, below its limit of 0.5000`);
    expect(exitCode).to.equal(1);
    const lines = gateLines(gate).join("\n");
    expect(lines).to.match(/^neighbour overlap +1\.000 +0\.\d+ +≥ 0\.5000 +failed$/m);
    expect(lines).to.match(/^uniformity +-\d\.\d+ +-\d\.\d+$/m);
    expect(lines).to.match(/unrelated encoders share 0\.092\.$/m); // 10 of 109
  });

  it("fails an encoder whose features use fewer dimensions, by more than the tolerance", async () => {
    const alike = await measured({ encoder: at("alike.onnx"), baseline });
    const fall = 100 * (1 - alike.result.rankme / baseline.result.rankme);
    expect(fall).to.be.within(20, 95);
    expect(holdRank(alike, baseline, { tolerance: fall + 0.1 }).passed).to.equal(true);
    const gate = holdRank(alike, baseline, { tolerance: fall - 0.1 });
    expect(caught(() => refuseFailed(gate)).message).to.match(/^RankMe is \S+, below its limit of \S+$/);
  });

  it("refuses other images, other settings, features, and too few images", async () => {
    expect(await refused({ seed: 3 })).to.match(/expected --seed 0, as its probes had, found --seed 3/);
    expect(await refused({ limit: 105 })).to.match(/expected no --limit, .* found --limit 105/);
    const photo = await drawn(0);
    for (let i = 0; i < IMAGES; i++) await folder.write(`changed/${i}.png`, i === 9 ? photo : await drawn(i));
    expect(await refused({ data: at("changed") })).to.match(
      /b\.json: expected files in --data with the hash [0-9a-f]{12}, .* found files in --data with the hash/,
    );
    const changed = await measured({ data: at("changed") });
    const { exitCode } = caught(() => holdRank(changed, baseline));
    expect(exitCode).to.equal(2);
    await folder.write("few/0.png", photo);
    await folder.write("few/1.png", photo);
    expect(await refused({ data: at("few") })).to.match(/expected 110 images in --data, .* found 2 images/);
    expect(await failure(measured({ data: at("few") }))).to.match(/expected 100 images or more, found 2/);
    const features = { encoder: undefined, data: undefined, features: at("f.npy") };
    expect(await failure(measured(features))).to.match(/an encoder and a folder of images, found features/);
  });

  it("refuses a damaged baseline, and a baseline of the other kind", async () => {
    const text = await readFile(at("b.json"), "utf8");
    const damaged = await folder.write("d.json", text.replace(/"neighbours": ".{4}/, '"neighbours": "'));
    expect(await failure(readRankBaseline(damaged))).to.match(/"neighbours": expected ten for each image/);
    const accuracies = await folder.write("a.json", JSON.stringify({ kind: "knn", top1: 50 }));
    expect(await failure(readRankBaseline(accuracies))).to.match(/expected a baseline of kind rank, found/);
    expect(await failure(readBaseline(at("b.json")))).to.match(/of accuracies, found one of kind rank/);
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
