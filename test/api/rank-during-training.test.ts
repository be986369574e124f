import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import { openEncoder } from "../../src/api/encoder.ts";
import { sampleForRank } from "../../src/api/evaluation.ts";
import { train } from "../../src/api/train.ts";
import type { TrainOptions } from "../../src/api/train-options.ts";
import { findImages } from "../../src/data/sources.ts";
import { alphaReq, rankMe } from "../../src/probe/rank.ts";
import { temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { computedOf, metricsOf } from "../support/program.ts";

describe("api: the rank of training images", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  let begun: Omit<TrainOptions, "out">;
  const computed = async (run: string) => (await metricsOf(at(run))).map(computedOf);

  before(async () => {
    await pictures(at("photos"), 110);
    // Two steps an epoch.
    const graph = await tinyArtifact(at("graph"));
    begun = { data: at("photos"), graph, batch: 55, steps: 4, threads: 1, checkpointEvery: 1 };
    await train({ ...begun, out: at("run") });
  });

  it("is logged after each epoch, as it is of the exported features", async () => {
    const lines = await metricsOf(at("run"));
    for (const name of ["rankme", "alpha"])
      expect(lines.map((line) => name in line)).to.deep.equal([false, true, false, true]);
    const encoder = await openEncoder(at("run"), { threads: 1 });
    const { features } = await encoder.embed(sampleForRank(await findImages(at("photos")), 0)!);
    await encoder.close();
    expect(features.n).to.equal(110);
    const [rankme, alpha] = [await rankMe(features), (await alphaReq(features))!];
    expect(lines[3]!.rankme).to.be.closeTo(rankme, 1e-3 * rankme);
    expect(lines[3]!.alpha).to.be.closeTo(alpha, 1e-3 * alpha);
    expect(lines[1]!.rankme).not.to.be.closeTo(rankme, 1e-3 * rankme); // of other weights
  });

  it("changes nothing of what is learned", async () => {
    await train({ ...begun, out: at("without"), rank: false });
    const rankless = (await computed("run")).map(({ rankme, alpha, ...rest }) => rest);
    expect(await computed("without")).to.deep.equal(rankless);
    for (const name of ["encoder.onnx", "checkpoints/step-00000004.safetensors"])
      expect((await readFile(at(`run/${name}`))).equals(await readFile(at(`without/${name}`)))).to.equal(
        true,
      );
  });

  it("is the same of a run that was cut off, before its measurement or before its checkpoint", async () => {
    await cp(at("run"), at("cut"), { recursive: true });
    const whole = await computed("run");
    const lines = (await metricsOf(at("run"))).map(({ rankme, alpha, ...rest }) => rest);
    const unmeasured = (await metricsOf(at("run"))).slice(0, 3).concat(lines[3] as Record<string, number>);
    await writeFile(at("cut/metrics.jsonl"), unmeasured.map((line) => `${JSON.stringify(line)}\n`).join(""));
    await train({ out: at("cut"), resume: true });
    expect(await computed("cut")).to.deep.equal(whole);
    await rm(at("cut/checkpoints/step-00000004.safetensors"));
    await train({ out: at("cut"), resume: true });
    expect(await computed("cut")).to.deep.equal(whole);
  });

  it("is left out of a run that goes on without it, and of 100 images, with a line that says so", async () => {
    await cp(at("run"), at("off"), { recursive: true });
    await train({ out: at("off"), resume: true, rank: false, extendSteps: 2 });
    const ranked = (await metricsOf(at("off"))).filter(({ rankme }) => rankme !== undefined);
    expect(ranked.map(({ step }) => step)).to.deep.equal([2, 4]);

    const stream = new PassThrough().setEncoding("utf8");
    const few = { ...begun, out: at("few"), batch: 50, limit: 100, steps: 2 };
    await train(few, { output: { stream, quiet: false } });
    expect(String(stream.read())).to.match(
      /100 images, 2 steps of 50 an epoch \(RankMe and alpha need 101 images or more\)\n/,
    );
    expect((await metricsOf(at("few")))[1]).not.to.have.property("rankme");
  });
});
