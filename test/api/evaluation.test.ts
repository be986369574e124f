import { join } from "node:path";
import { expect } from "chai";
import { evenly, imagesForKnn, openEvaluation, sampleForRank } from "../../src/api/evaluation.ts";
import { compile } from "../../src/artifact/compile.ts";
import { findImages, type Sources } from "../../src/data/sources.ts";
import { rankMe } from "../../src/probe/rank.ts";
import type { Trainer } from "../../src/runtime/trainer.ts";
import type { Manifest } from "../../src/spec.ts";
import { temporaryFolder } from "../data/folder.ts";
import { labelled } from "../support/pictures.ts";

const manifest = compile({ method: "simclr", encoder: "resnet20", imageSize: 16 }).manifest as Manifest;
const d = manifest.encoder.features;

describe("api/evaluation", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);

  /** Features are an image's mean colour: its class, by how `labelled` makes them. */
  async function opened({
    onEncode = () => {},
    signal,
    rank = true,
    sources,
  }: {
    onEncode?: () => void;
    signal?: AbortSignal;
    rank?: boolean;
    sources?: Sources;
  } = {}) {
    const [warnings, shown]: [string[], string[]] = [[], []];
    let encoded = 0;
    const given: Float32Array[] = [];
    const trainer = {
      encode: async (images: Uint8Array, [n]: readonly number[]) => {
        encoded += n!;
        onEncode();
        const pixels = images.length / n!;
        const features = Float32Array.from({ length: n! * d }, (_, i) => {
          const [row, column] = [Math.floor(i / d), i % d];
          if (column > 2) return 0;
          const own = images.subarray(row * pixels, (row + 1) * pixels);
          return own.reduce((sum, value, p) => (p % 3 === column ? sum + value : sum), 0) / pixels;
        });
        given.push(features);
        return features;
      },
    } as unknown as Trainer;
    const images = sources ?? (await imagesForKnn(at("labelled"), {}));
    const evaluation = openEvaluation(images, manifest, trainer, {
      rank,
      batch: 8,
      threads: 1,
      cacheBytes: 0,
      warn: (line) => void warnings.push(line),
      progress: { show: (line) => void shown.push(line), note: () => {}, end: () => {} },
      signal,
    });
    return { evaluation, warnings, shown, given, encoded: () => encoded };
  }

  before(async () => {
    await labelled(at("labelled"), ["a", "b"], 10);
    await folder.write("labelled/a/broken.png", "no picture");
  });

  it("asks a fifth of the images of the others, and says how far it is", async () => {
    const { evaluation, warnings, shown, given, encoded } = await opened();
    const first = await evaluation.run();
    // Of three dimensions there is no alpha.
    expect(first).to.deep.equal({ knn: 100, rankme: await rankMe({ data: given[0]!, n: 20, d }) });
    expect(first.rankme).to.be.within(1.1, 3);
    expect(encoded()).to.equal(20);
    expect(shown.at(-1)).to.match(/^kNN: 21\/21 images .* 0 s left$/);
    expect(await evaluation.run()).to.deep.equal(first); // nothing was kept, so all was decoded again
    expect(warnings).to.have.length(1);
    expect(warnings[0]).to.match(/broken\.png: .*; it is left out$/);
    await evaluation.close();
  });

  it("takes the rank of rows from all over", () => {
    expect(evenly(1000, 4)).to.deep.equal([0, 250, 500, 750]);
    expect(evenly(3, 4)).to.deep.equal([0, 1, 2]);
  });

  it("stops once it is told to", async () => {
    const stop = new AbortController();
    const onEncode = () => stop.abort(new Error("stopped"));
    const { evaluation, encoded } = await opened({ onEncode, signal: stop.signal });
    expect(await evaluation.run().catch((error: Error) => error.message)).to.equal("stopped");
    expect(encoded()).to.equal(20);
    await evaluation.close();
  });

  it("leaves the rank out where it is told to", async () => {
    const { evaluation } = await opened({ rank: false });
    expect(await evaluation.run()).to.deep.equal({ knn: 100 });
    await evaluation.close();
  });

  it("takes the rank alone of images without labels, of which the loader warns", async () => {
    const { evaluation, warnings, shown, given } = await opened({
      sources: await findImages(at("labelled")),
    });
    const found = await evaluation.run();
    expect(given.map(({ length }) => length / d)).to.deep.equal([8, 7, 5]); // as many as a step sees, but the broken one
    const data = Float32Array.from(given.flatMap((rows) => [...rows]));
    expect(found).to.deep.equal({ rankme: await rankMe({ data, n: 20, d }) });
    expect(shown.at(-1)).to.match(/^rank: 21\/21 images /);
    expect(warnings).to.deep.equal([]);
    await evaluation.close();
  });

  it("ends no run where nobody asked for it, but stops when it is told to", async () => {
    const sources = await findImages(at("labelled"));
    const onEncode = () => {
      throw new Error("no memory");
    };
    const failed = await opened({ sources, onEncode });
    expect(await failed.evaluation.run()).to.deep.equal({});
    expect(failed.warnings).to.deep.equal(["RankMe and alpha of this epoch are left out: no memory"]);
    const asked = await opened({ onEncode });
    expect(await asked.evaluation.run().catch((error: Error) => error.message)).to.equal("no memory");
    const signal = AbortSignal.abort(new Error("stopped"));
    const stopped = await opened({ sources, signal });
    expect(await stopped.evaluation.run().catch((error: Error) => error.message)).to.equal("stopped");
    expect(stopped.warnings).to.deep.equal([]);
    for (const { evaluation } of [failed, asked, stopped]) await evaluation.close();
  });

  it("draws a sample of the training images by the seed, of more than 100", async () => {
    const of = (count: number): Sources => {
      const files = Array.from({ length: count }, (_, i) => `${1000 + i}.png`);
      return { root: "photos", files, classes: [], labels: new Int32Array(0), notes: [] };
    };
    expect(sampleForRank(of(100), 0)).to.equal(undefined);
    expect(sampleForRank(of(101), 0)!.files).to.deep.equal(of(101).files);
    const { files } = sampleForRank(of(2000), 0)!;
    expect(new Set(files).size).to.equal(256);
    expect(files)
      .to.deep.equal([...files].sort())
      .and.to.deep.equal(sampleForRank(of(2000), 0)!.files);
    expect(files).not.to.deep.equal(sampleForRank(of(2000), 1)!.files);
  });
});
