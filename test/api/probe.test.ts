import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import { openEncoder, writeEmbedding } from "../../src/api/encoder.ts";
import { type ProbeKind, type ProbeResult, probe, probes, summaryOf } from "../../src/api/probe.ts";
import { train } from "../../src/api/train.ts";
import { findImages } from "../../src/data/sources.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { labelled, picture, tinyArtifact } from "../support/pictures.ts";

describe("api/probe", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const silent = { output: { stream: new PassThrough(), quiet: true } };
  const kinds = ["linear", "knn"] as const satisfies readonly ProbeKind[];
  const images = () => ({ encoder: at("run"), train: at("train"), test: at("test"), threads: 1 });

  before(async () => {
    await tinyArtifact(at("graph"));
    await labelled(at("train"), ["blue", "green", "red"], 6);
    await labelled(at("test"), ["green", "red"], 3);
    await train({ data: at("train"), out: at("run"), graph: at("graph"), batch: 4, steps: 0, threads: 1 });
  });

  it("gives for several kinds and settings what each gives alone, and leaves the encoder as it is", async () => {
    const before = await readFile(at("run/encoder.onnx"));
    const all = await probes({ ...images(), kinds, k: [3, 1, 400], temperature: [0.1, 0.5] });
    expect(before.equals(await readFile(at("run/encoder.onnx")))).to.equal(true);
    const settings = all.map(({ kind, k, temperature }) => [kind, k, temperature]);
    expect(settings).to.deep.equal([
      ["linear", undefined, undefined],
      ...[0.1, 0.5].flatMap((temperature) => [1, 3, 18].map((k) => ["knn", k, temperature])),
    ]);
    expect(all[0]).to.deep.equal(await probe({ ...images(), kind: "linear" }));
    expect(all[4]).to.deep.equal(await probe({ ...images(), kind: "knn", k: 1, temperature: 0.5 }));
  });

  it("says of each test image what became of it, in the API alone", async () => {
    const result = await probe({ ...images(), kind: "knn", k: 3 });
    expect(result.images.map(({ file }) => file)).to.deep.equal((await findImages(at("test"))).files);
    expect(result.images.map((image) => image.class)).to.deep.equal([
      ...["green", "green", "green", "red", "red", "red"],
    ]);
    expect(result.top1).to.be.closeTo((100 * result.images.filter(({ right }) => right).length) / 6, 1e-9);
    expect(summaryOf(result)).to.have.keys([
      ...["kind", "top1", "low", "high", "top5", "classes", "train", "test", "features", "k", "temperature"],
    ]);
  });

  it("trains on a share of the labels and from several seeds", async () => {
    const data = { ...images(), labels: 1 / 3, kinds };
    const [linear, knn] = await probes({ ...data, seeds: 2 });
    expect(linear).to.deep.include({ train: 6, labels: 1 / 3 });
    expect(knn).to.deep.include({ train: 6, k: 6 }).and.not.have.property("seeds");
    const { top1, mean } = linear!.seeds!;
    expect(mean).to.be.closeTo((top1[0]! + top1[1]!) / 2, 1e-9);
    expect(linear!.top1).to.equal(top1[0]);
    const [first] = await probes(data);
    expect({ ...first, seeds: linear!.seeds }).to.deep.equal(linear);
    expect(await failure(probe({ ...images(), kind: "linear", seeds: 0 }))).to.match(
      /seeds: expected a whole/,
    );
  });

  describe("on features that embed wrote", () => {
    const features = () => [at("train.npy"), at("test.npy")] as const;
    let wanted: readonly ProbeResult[];

    before(async () => {
      wanted = [
        ...(await probes({ ...images(), kinds })),
        await probe({ ...images(), kind: "knn", labels: 0.5 }),
      ];
      const encoder = await openEncoder(at("run"), { threads: 1 });
      await picture(at("test/stray.png"));
      for (const set of ["train", "test"]) {
        const embedded = await encoder.embed(await findImages(at(set)), silent);
        await writeEmbedding(at(`${set}.npy`), embedded, encoder.metadata);
      }
      await encoder.close();
    });

    it("gives what it gives with the encoder, also on a share of the labels, without images that lie in no class", async () => {
      const stream = new PassThrough();
      const found = await probes(
        { features: features(), kinds, threads: 1 },
        { output: { stream, quiet: true } },
      );
      const few = await probe({ features: features(), kind: "knn", labels: 0.5, threads: 1 }, silent);
      expect([...found, few]).to.deep.equal(wanted);
      expect(String(stream.read())).to.match(
        /^warning: .*test\.json: left out images outside of the class folders: 1\n$/,
      );
    });

    it("refuses them beside an encoder, and a list of other paths", async () => {
      const refused = async (options: object) => await failure(probe({ kind: "knn", ...options }));
      expect(await refused({ features: features(), encoder: at("run") })).to.match(/features, found both/);
      expect(await refused({ encoder: at("run"), train: at("train") })).to.match(
        /found no folder to test on/,
      );
      expect(await refused({})).to.match(/found no encoder/);
      expect(await refused({ features: features(), limit: 3 })).to.match(
        /limit: expected it with an encoder/,
      );
      await writeFile(at("few.npy"), await readFile(at("test.npy")));
      await folder.write("few.json", '{"files": ["a/1.png"]}');
      expect(await refused({ features: [at("train.npy"), at("few.npy")] })).to.match(
        /few\.json: expected "files", a path for each of 7 rows, found 1/,
      );
      await folder.write("few.json", JSON.stringify({ files: Array(7).fill("a/1.png") }));
      expect(await refused({ features: [at("train.npy"), at("few.npy")] })).to.match(
        /few\.json: expected one folder per class .* found one class "a"/,
      );
    });
  });
});
