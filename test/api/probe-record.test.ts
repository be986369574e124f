import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import { type ProbeResult, probes } from "../../src/api/probe.ts";
import { recordProbes } from "../../src/api/probe-record.ts";
import { train } from "../../src/api/train.ts";
import { readProbes } from "../../src/report/probes.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { labelled, tinyArtifact } from "../support/pictures.ts";
import { json, run as program } from "../support/program.ts";

describe("the record of probes", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const sets = () => ({ encoder: at("run"), train: at("train"), test: at("test"), threads: 1 });
  const words = () => ["--train", at("train"), "--test", at("test"), "--threads", "1"];
  let results: readonly ProbeResult[];

  before(async () => {
    await tinyArtifact(at("graph"));
    await labelled(at("train"), ["blue", "green", "red"], 6);
    await labelled(at("test"), ["green", "red"], 3);
    await train({ data: at("train"), out: at("run"), graph: at("graph"), batch: 4, steps: 3, threads: 1 });
    results = await probes({ ...sets(), kinds: ["knn", "layers"], k: [1, 3] });
  });

  it("is written by the program, of a run's folder alone", async () => {
    const printed = await json(["probe", at("run"), "--kind", "knn", "--k", "3", ...words()]);
    const [probe, ...others] = await readProbes(at("run"));
    expect(others).to.deep.equal([]);
    expect(probe).to.deep.include({ ...printed, step: 3, data: { train: at("train"), test: at("test") } });
    await json(["probe", at("run"), "--kind", "rank", "--data", at("test"), "--views", "2"]);
    const [rank, knn] = await readProbes(at("run"));
    expect(rank).to.deep.include({ kind: "rank", images: 6, data: { images: at("test") } });
    expect(knn).to.deep.equal(probe);
    const before = await readFile(at("run/probes.json"));
    await json(["probe", at("run/encoder.onnx"), "--kind", "knn", "--k", "1", ...words()]);
    expect(before.equals(await readFile(at("run/probes.json")))).to.equal(true);
  });

  it("keeps the newest of each kind and settings, with how many were taken for which", async () => {
    await recordProbes(results, sets());
    await recordProbes([{ ...results[1]!, top1: 12.5 }], sets());
    const found = await readProbes(at("run"));
    expect(found.map(({ kind, ...probe }) => [kind, "k" in probe ? probe.k : undefined])).to.deep.equal([
      ["knn", 3],
      ["knn", 1],
      ["layers", undefined],
      ["rank", undefined],
    ]);
    const [newest, , layers] = found;
    expect(newest).to.include({ top1: 12.5 });
    expect(layers).to.have.property("layers").with.length(results[2]!.layers!.length);
    if (newest!.kind === "rank") throw new Error("not of kNN");
    const { names, pairs } = newest!.confusion!;
    for (const own of names)
      for (const taken of names) {
        const count = results[1]!.images.filter((image) => image.class === own && image.predicted === taken);
        const pair = pairs.find(([row, column]) => names[row] === own && names[column] === taken);
        expect(pair?.[2] ?? 0).to.equal(count.length);
      }
  });

  it("is bounded: the oldest go first", async () => {
    await mkdir(at("bounded"));
    for (const name of ["config.json", "manifest.json", "encoder.onnx"])
      await writeFile(at(`bounded/${name}`), await readFile(at(`run/${name}`)));
    const many = Array.from({ length: 60 }, (_, i) => ({ ...results[0]!, k: i + 1 }));
    await recordProbes(many, { ...sets(), encoder: at("bounded") });
    expect(await readProbes(at("bounded"))).to.have.length(50);
    // 6 bytes each as JSON.
    const classes = Array.from({ length: 500 }, (_, i) => `${i}${"\u0001".repeat(200)}`);
    const images = classes.map((name) => ({ file: "", class: name, predicted: name, right: true }));
    const large = many.map((result) => ({ ...result, images }));
    await recordProbes(large, { ...sets(), encoder: at("bounded") });
    const kept = await readProbes(at("bounded"));
    expect(kept).to.have.length.within(20, 49);
    expect(kept[0]).to.include({ k: 1 });
  });

  it("loses none of those that end at the same time", async () => {
    await mkdir(at("together"));
    for (const name of ["config.json", "encoder.onnx"])
      await writeFile(at(`together/${name}`), await readFile(at(`run/${name}`)));
    const ends = Array.from({ length: 8 }, (_, i) => [{ ...results[0]!, k: i + 1 }]);
    await Promise.all(ends.map((one) => recordProbes(one, { ...sets(), encoder: at("together") })));
    const found = await readProbes(at("together"));
    expect(found.map((probe) => "k" in probe && probe.k).sort()).to.deep.equal([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(await readdir(at("together"))).to.have.members(["config.json", "encoder.onnx", "probes.json"]);
  });

  const recorded = async (run: string): Promise<string> => {
    const said: string[] = [];
    const stream = new PassThrough().on("data", (text) => said.push(`${text}`));
    await recordProbes(results, { ...sets(), encoder: at(run) }, { output: { stream, quiet: true } });
    return said.join("");
  };

  it("that cannot be written costs a line, not the probe", async () => {
    await mkdir(at("taken/probes.json"), { recursive: true });
    for (const name of ["config.json", "encoder.onnx"])
      await writeFile(at(`taken/${name}`), await readFile(at(`run/${name}`)));
    const line = /^warning: the result is not in the run's folder: .*probes\.json: expected .*\n$/;
    expect(await recorded("taken")).to.match(line);
    const { code, stdout } = await program(["probe", at("taken"), "--kind", "knn", "--k", "1", ...words()]);
    expect(code).to.equal(0);
    expect(stdout).to.match(/^knn top-1/);
  });

  it("goes over no file that it cannot read, nor does a new run", async () => {
    await writeFile(at("bounded/probes.json"), "mine");
    expect(await recorded("bounded")).to.match(/probes\.json: expected JSON.*; remove it and probe again\n$/);
    expect(await readFile(at("bounded/probes.json"), "utf8")).to.equal("mine");
    await folder.write("other/probes.json", "mine");
    const options = { data: at("train"), graph: at("graph"), batch: 4, steps: 1 };
    expect(await failure(train({ ...options, out: at("other") }))).to.match(
      /expected nothing that a run would write over, found "probes\.json"/,
    );
  });
});
