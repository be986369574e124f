import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import { parse } from "junit2json";
import { openEncoder } from "../../src/api/encoder.ts";
import { findImages } from "../../src/data/sources.ts";
import { temporaryFolder } from "../data/folder.ts";
import { labelled, pictures, tinyArtifact } from "../support/pictures.ts";
import { type Ended, errorsIn, json, metricsOf, run, runInTurn, start } from "../support/program.ts";

/** Header and values of a .npy file, by the format's description. */
function parseNpy(bytes: Buffer) {
  expect(bytes.toString("latin1", 0, 8)).to.equal("\x93NUMPY\x01\x00");
  const start = 10 + bytes.readUInt16LE(8);
  expect(start % 64).to.equal(0);
  const header = bytes.toString("latin1", 10, start);
  const fields = /^\{'descr': '(.*)', 'fortran_order': (.*), 'shape': \((\d+), (\d+)\), \} *\n$/.exec(header);
  expect(fields, header).not.to.equal(null);
  const [, descr, fortran, n, d] = fields!;
  expect([descr, fortran]).to.deep.equal(["<f4", "False"]);
  const data = new Float32Array(
    bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + bytes.length),
  );
  expect(data).to.have.length(Number(n) * Number(d));
  return { shape: [Number(n), Number(d)], data };
}

/** As `json`, with --quiet: only warnings are said besides. */
async function quietly(args: readonly string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await run([...args, "--json", "--quiet"]);
  expect(code, stderr).to.equal(0);
  expect(stderr).to.match(/^(warning: .*\n)*$/);
  return JSON.parse(stdout);
}

describe("cli: --json", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const probe = (kind: string) => [
    "probe",
    at("run"),
    "--kind",
    kind,
    "--train",
    at("train"),
    "--test",
    at("test"),
  ];
  let trained: Record<string, unknown>;

  before(async () => {
    await tinyArtifact(at("graph"));
    await pictures(at("photos"), 8);
    await labelled(at("train"), ["blue", "green", "red"], 5);
    await labelled(at("test"), ["green", "red"], 3);
    await folder.write("train/red/broken.png", "no image");
    const args = [
      "train",
      "--data",
      at("photos"),
      "--out",
      at("run"),
      "--graph",
      at("graph"),
      "--batch",
      "4",
    ];
    trained = await quietly([...args, "--epochs", "2", "--knn", at("train"), "--threads", "1", "--no-guard"]);
  });

  it("of train", async () => {
    const numbers = ["loss", "chance", "imagesPerSecond", "waitShare", "peakRssBytes", "seconds"];
    for (const name of numbers) expect(trained[name], name).to.be.a("number");
    expect(trained).to.include({ steps: 4, epochs: 2, run: at("run"), encoder: at("run/encoder.onnx") });
    expect(trained.interrupted).to.equal(false);
    expect(Number(trained.peakRssBytes)).to.be.within(50e6, 10e9);
    expect(trained.chance).to.be.closeTo(Math.log(7), 1e-12);
    expect(JSON.parse(await readFile(at("run/config.json"), "utf8"))).to.include({ batch: 4, guard: false });
    expect(trained).to.have.all.keys([
      "steps",
      "epochs",
      "run",
      "encoder",
      "report",
      "interrupted",
      ...numbers,
    ]);
  });

  it("and its kNN at the end of each epoch, without the broken image", async () => {
    const knn = (await metricsOf(at("run"))).map((line) => line.knn);
    expect(knn.map((top1) => typeof top1)).to.deep.equal(["undefined", "number", "undefined", "number"]);
    for (const top1 of [knn[1]!, knn[3]!]) expect(top1).to.be.within(0, 100);
  });

  it("of data check, beside a table for people", async () => {
    const args = ["data", "check", at("train"), "--drop", "broken", "--write-list", at("kept.txt")];
    const result = await json(args);
    expect(result).to.deep.include({
      images: 16,
      kept: 15,
      list: at("kept.txt"),
      page: null,
      drop: ["broken"],
    });
    const [told] = await runInTurn([args]);
    expect(told!.code).to.equal(0);
    expect(told!.stdout)
      .to.match(/^broken +1 +6\.3 %$/m)
      .and.match(/^ {2}red\/broken\.png: expected an image/m);
    expect(told!.stdout).to.match(/^folders +3, of 5 \(\w+\) to 6 images \(red\), 1\.2 : 1$/m);
  });

  it("of probe, kNN, held to its own baseline", async () => {
    const baseline = at("baseline.json");
    const result = await json([...probe("knn"), "--k", "3", "--write-baseline", baseline]);
    expect(result).to.include({ kind: "knn", k: 3, temperature: 0.1, train: 15, test: 6, features: 64 });
    expect(result.top1).to.be.within(0, 100);
    const { probes, ...about } = JSON.parse(await readFile(baseline, "utf8"));
    expect(probes).to.have.length(1);
    expect(probes[0]).to.deep.include(result);
    expect(about).to.include.keys("encoder", "data", "settings");
    expect(about.cost).to.have.keys("size", "latency", "memory", "processor");

    await folder.write("better.json", JSON.stringify({ kind: "knn", top1: Number(result.top1) + 2 }));
    const better = [...probe("knn"), "--k", "3", "--baseline", at("better.json")];
    const files = ["--junit", at("junit.xml"), "--summary", at("gate.md")];
    const held = [...probe("knn"), "--k", "3", "--baseline", baseline, "--gate", "size=1,memory=3"];
    const ended = await runInTurn([
      [...better, "--tolerance", "3"],
      [...better, "--json"],
      [...held, ...files],
    ]);
    const [tolerated, fell, passed] = ended as [Ended, Ended, Ended];
    expect(tolerated.code).to.equal(0);
    expect(fell.code).to.equal(1);
    expect(errorsIn(fell).join()).to.match(/^ort-pretrain: knn top-1 is .* %, below the baseline's/);
    const { gate, ...same } = JSON.parse(fell.stdout);
    expect(same).to.deep.equal(result);
    expect(gate.accuracies[0]).to.include({ now: result.top1, verdict: "failed" });

    expect(passed.code, passed.stderr).to.equal(0);
    expect(passed.stdout).to.match(
      /^knn top-1 .*\n *baseline .*\nknn top-1 .* passed\n(.*\n)*size .* passed\n/,
    );
    expect(await parse(await readFile(at("junit.xml"), "utf8"))).to.include({ tests: 3, failures: 0 });
    expect(await readFile(at("gate.md"), "utf8")).to.match(/^### Probes: passed\n/);
  });

  it("of probe, linear", async () => {
    const result = await quietly(probe("linear"));
    expect(result).to.include({ kind: "linear", train: 15, test: 6, features: 64 });
    expect(result.top1).to.be.within(0, 100);
    expect(result.lr).to.be.above(0);
  });

  it("of rank, held to its own baseline", async () => {
    await pictures(at("many"), 100);
    const rank = ["probe", at("run/encoder.onnx"), "--kind", "rank", "--data", at("many"), "--threads", "1"];
    const result = await json([...rank, "--write-baseline", at("rank.json")]);
    const files = ["--junit", at("rank.xml"), "--summary", at("rank.md"), "--gate", "size=1"];
    const baseline = JSON.parse(await readFile(at("rank.json"), "utf8"));
    const better = await folder.write("better-rank.json", JSON.stringify({ ...baseline, rankme: 1000 }));
    const ended = await runInTurn([
      [...rank, "--baseline", at("rank.json"), "--least-overlap", "1", ...files],
      [...rank, "--baseline", better, "--tolerance", "5", "--json"],
    ]);
    const [passed, fell] = ended as [Ended, Ended];
    expect(passed.code, passed.stderr).to.equal(0);
    expect(passed.stdout).to.match(/^RankMe .*\n *baseline .*\nRankMe .* passed\n(.*\n)*size .* passed\n/);
    const junit = await parse(await readFile(at("rank.xml"), "utf8"));
    expect(junit).to.include({ tests: 3, failures: 0 });
    expect(await readFile(at("rank.md"), "utf8")).to.match(
      /^### Probes: passed\n(.*\n)*\| neighbour overlap \|/,
    );

    expect(fell.code).to.equal(1);
    expect(errorsIn(fell).join()).to.match(/: RankMe is .*, below its limit of 950\.0$/m);
    const { gate, ...same } = JSON.parse(fell.stdout);
    expect(same).to.deep.equal(result);
    expect(gate.measures[0]).to.include({ now: result.rankme, verdict: "failed" });
  });

  it("of several probes, on features of embed too, with a confusion", async () => {
    const both = [...probe("linear,knn"), "--k", "1,3"];
    const embed = ["train", "test"].map((set) => [
      ...["embed", at("run"), "--data", at(set), "--out", at(`of-${set}.npy`)],
    ]);
    const features = `${at("of-train.npy")},${at("of-test.npy")}`;
    const knn = ["probe", "--features", features, "--kind", "knn", "--k", "3", "--confusion", at("c.csv")];
    const ended = await runInTurn([both, ...embed, knn].map((args) => [...args, "--json"]));
    for (const { code, stderr } of ended) expect(code, stderr).to.equal(0);
    const [{ probes }, , , again] = ended.map(({ stdout }) => JSON.parse(stdout));
    expect(probes.map(({ kind, k }: { kind: string; k?: number }) => [kind, k])).to.deep.equal([
      ["linear", undefined],
      ...[
        ["knn", 1],
        ["knn", 3],
      ],
    ]);
    expect(again).to.deep.equal(probes[2]);
    const rows = (await readFile(at("c.csv"), "utf8"))
      .trim()
      .split("\n")
      .map((row) => row.split(","));
    expect(rows[0]!.slice(1)).to.deep.equal(rows.slice(1).map(([name]) => name));
    const hits = rows.slice(1).reduce((sum, row, i) => sum + Number(row[i + 1]), 0);
    expect(probes[2]!.top1).to.be.closeTo((100 * hits) / 6, 1e-9);
  });

  it("of rank, which needs no labels", async () => {
    const result = await quietly([
      "probe",
      at("run"),
      "--kind",
      "rank",
      "--data",
      at("photos"),
      "--views",
      "2",
    ]);
    expect(result).to.include({ kind: "rank", images: 8, features: 64, views: 2, viewed: 8, alpha: null });
    for (const name of ["rankme", "uniformity", "alignment", "lidar"]) expect(result[name]).to.be.a("number");
  });

  it("of embed, with features as .npy and their paths", async () => {
    await folder.write("train/aside.jpg", "no image either");
    const result = await quietly([
      "embed",
      at("run"),
      "--data",
      at("train"),
      "--out",
      at("f.npy"),
      "--threads",
      "1",
    ]);
    expect(result).to.deep.equal({ features: at("f.npy"), index: at("f.json"), images: 15, length: 64 });
    const { shape, data } = parseNpy(await readFile(at("f.npy")));
    const index = JSON.parse(await readFile(at("f.json"), "utf8"));
    expect(shape).to.deep.equal([15, 64]);
    expect(index).to.deep.include({ shape });
    expect(index.encoder).to.include({ method: "simclr", steps: 4 });

    const encoder = await openEncoder(at("run/encoder.onnx"), { threads: 1 });
    const silent = { stream: new PassThrough(), quiet: true };
    const embedded = await encoder.embed(await findImages(at("train")), { output: silent });
    await encoder.close();
    expect(index.files).to.deep.equal(embedded.files);
    expect(index.files).to.include("blue/00.png").and.not.to.include("red/broken.png");
    expect(data).to.deep.equal(embedded.features.data);
  });

  it("of export, the same encoder as the run's", async () => {
    const result = await quietly(["export", at("run"), "--out", at("shipped"), "--data", at("test")]);
    expect(result).to.include({ encoder: at("shipped/encoder.onnx"), steps: 4 });
    expect(result).to.include({ compared: `6 images of ${at("test")}`, drawn: false });
    const [shipped, own] = [
      await readFile(at("shipped/encoder.onnx")),
      await readFile(at("run/encoder.onnx")),
    ];
    expect(result.bytes).to.equal(own.length);
    expect(result.maxRelative).to.be.below(1e-3);
    expect(shipped.equals(own)).to.equal(true);
  });

  it("of report", async () => {
    const result = await quietly(["report", at("run"), "--threads", "1"]);
    expect(result).to.deep.include({
      report: at("run/report.html"),
      leftOut: ["map: 15 images are too few"],
      bytes: (await readFile(at("run/report.html"))).length,
    });
  });

  it("of graphs build, list and inspect", async () => {
    const spec = ["--method", "simclr", "--encoder", "resnet20", "--image-size", "8"];
    const built = await json(["graphs", "build", ...spec, "--set", "temperature=0.2", "--out", at("built")]);
    expect(built).to.deep.include({ artifact: at("built"), name: "simclr-resnet20-8", format: 1 });
    const { manifest, graphs } = (await json(["graphs", "inspect", at("built")])) as {
      manifest: { method: { config: object } };
      graphs: { which: string; operators: Record<string, number> }[];
    };
    expect(manifest.method.config).to.include({ temperature: 0.2 });
    expect(graphs.map(({ which }) => which)).to.deep.equal(["step", "encode"]);
    expect(graphs[0]!.operators.Conv).to.be.above(0);

    const known = (await json(["graphs", "list"])) as Record<string, { name: string }[]>;
    expect(known).to.have.all.keys("prebuilt", "methods", "encoders", "recipes");
    expect(known.methods!.map(({ name }) => name)).to.include("simclr");
    const recipe = known.recipes!.find(({ name }) => name === "moco-v2-imagenet");
    expect(recipe).to.include({ method: "moco", batch: 256, epochs: 200 });
    expect(recipe).to.include.keys("paper", "figure");
    expect(known.encoders!.map(({ name }) => name)).to.include("resnet20");
  });

  it("of doctor, on whose word the CPU works", async () => {
    const { versions, machine, providers } = (await json(["doctor"])) as Record<string, object[]>;
    expect(versions).to.have.all.keys("ort-pretrain", "node", "onnxruntime", "sharp", "libvips");
    expect(machine).to.include.keys("platform", "threads", "memoryGb");
    expect(providers).to.deep.include({ provider: "cpu", works: true, detail: "works", faults: [] });
    expect(providers).to.have.length(3);
  });

  it("to a reader that has left is no crash", async () => {
    const { child, ended } = start(["graphs", "list", "--json"]);
    child.stdout!.destroy();
    const { code, stderr } = await ended;
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: "" });
  });
});
