import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import { readBaseline, writeBaseline } from "../../src/api/baseline.ts";
import { hold, measure } from "../../src/api/gate.ts";
import { gateMarkdown, repeatLines } from "../../src/api/gate-report.ts";
import { type ProbeResult, probe, probes } from "../../src/api/probe.ts";
import { train } from "../../src/api/train.ts";
import type { TrainOptions } from "../../src/api/train-options.ts";
import { spreadOf } from "../../src/probe/result.ts";
import { readProbes } from "../../src/report/probes.ts";
import { runFiles } from "../../src/train/run-folder.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { labelled, tinyArtifact } from "../support/pictures.ts";
import { run as program, reaches, refusal, start } from "../support/program.ts";

describe("api/repeat", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const sets = () => ({ train: at("train"), test: at("test"), threads: 1 });
  const begin = (out: string, more: Partial<TrainOptions> = {}) =>
    train({ data: at("train"), out: at(out), graph: at("graph"), batch: 4, steps: 3, threads: 1, ...more });
  const encoder = (run: string) => readFile(runFiles(at(run)).encoder);
  let results: readonly ProbeResult[];

  before(async () => {
    await tinyArtifact(at("graph"));
    await labelled(at("train"), ["blue", "green", "red"], 8);
    await labelled(at("test"), ["blue", "green", "red"], 5);
    await begin("run", { lr: 0.5, seed: 4, limit: 16 });
  });

  it("trains the configuration with the next seeds, as by itself, and gives the spread of each figure", async () => {
    const stream = new PassThrough();
    const kinds = ["knn", "layers"] as const;
    const asked = { ...sets(), kinds, k: [3] };
    results = await probes({ ...asked, encoder: at("run"), repeat: 3 }, { output: { stream, quiet: false } });
    const said = String(stream.read());
    expect(said).to.match(/^training 2 of 3 \(seed 5\) {2}epoch 1\/1 {2}step 1\/3 .* left/m);
    expect(said).to.match(/^training 3 of 3 \(seed 6\): .*run\/repeats\/seed-6$/m);
    expect(await readdir(at("run/repeats"))).to.have.members(["seed-5", "seed-6"]);
    await begin("fifth", { lr: 0.5, seed: 5, limit: 16 });
    expect((await encoder("run/repeats/seed-5")).equals(await encoder("fifth"))).to.equal(true);
    expect((await encoder("run/repeats/seed-5")).equals(await encoder("run"))).to.equal(false);

    const runs = ["run", "run/repeats/seed-5", "run/repeats/seed-6"];
    const each = await Promise.all(runs.map((run) => probes({ ...asked, encoder: at(run) })));
    for (const [i, { repeats, layers, ...first }] of results.entries()) {
      const all = each.map((of) => of[i]!);
      expect(first).to.deep.include({ top1: all[0]!.top1, images: all[0]!.images });
      expect(repeats).to.deep.equal({
        seeds: [4, 5, 6],
        top1: spreadOf(all.map(({ top1 }) => top1)),
        top5: spreadOf(all.map(({ top5 }) => top5)),
      });
      for (const [l, layer] of layers?.entries() ?? [])
        expect(layer.repeats).to.deep.equal(spreadOf(all.map((of) => of.layers![l]!.top1)));
    }
    expect(await readProbes(at("run/repeats/seed-6"))).to.have.length(2);
    const [head, ...rows] = repeatLines(results);
    expect(head).to.match(/^3 trainings, seeds 4 to 6 +mean +std +least +greatest$/);
    expect(rows).to.have.length(2 + results[1]!.layers!.length);
    const { least, greatest } = results[0]!.repeats!.top1;
    expect(rows[0]).to.match(
      new RegExp(`^knn top-1 .* \\d\\.\\d\\d +${least.toFixed(2)} % +${greatest.toFixed(2)} %$`),
    );
  });

  it("takes those that have ended as they are, and trains what is missing alone", async () => {
    const metrics = runFiles(at("run/repeats/seed-5")).metrics;
    await writeFile(metrics, "untouched");
    const again = await probes({ ...sets(), kinds: ["knn"], k: [3], encoder: at("run"), repeat: 4 });
    expect(again[0]!.repeats!.top1.values.slice(0, 3)).to.deep.equal(results[0]!.repeats!.top1.values);
    expect(again[0]!.repeats!.seeds).to.deep.equal([4, 5, 6, 7]);
    expect(await readFile(metrics, "utf8")).to.equal("untouched");
  });

  it("keeps the spread in a baseline, and tells a fall in standard deviations; the tolerance decides", async () => {
    const asked = { ...sets(), kinds: ["knn"] as const, k: [3], encoder: at("run") };
    const measured = await measure({ ...asked, repeat: 3 });
    const values = [90, 80, 70];
    const [first] = measured.results;
    const top1 = spreadOf(values);
    const written = { ...first!, top1: 90, repeats: { ...first!.repeats!, top1 } };
    await writeBaseline(at("b.json"), { ...measured, results: [written] });
    const baseline = await readBaseline(at("b.json"));
    const now = { ...measured, results: [{ ...first!, top1: 75 }] };
    for (const [tolerance, passed] of [
      [14, false],
      [16, true],
    ] as const) {
      const gate = hold(now, baseline, { tolerance });
      expect(gate.passed).to.equal(passed);
      expect(gate.accuracies[0]!.pretraining).to.deep.equal({
        ...{ before: top1, now: first!.repeats!.top1, fall: 1.5 },
      });
      expect(gateMarkdown(gate)).to.match(
        /3 trainings of the baseline lie from 70\.00 to 90\.00 %, mean 80\.00 %, standard deviation 10\.00: the run at hand is 1\.5 standard deviations below the baseline\. 3 trainings of this configuration lie/,
      );
    }
  });

  it("starts each from the weights that the run started from", async () => {
    await begin("tuned", { init: at("fifth"), steps: 2 });
    await begin("tuned-1", { init: at("fifth"), steps: 2, seed: 1 });
    await probe({ ...sets(), kind: "knn", k: 3, encoder: at("tuned"), repeat: 2 });
    expect((await encoder("tuned/repeats/seed-1")).equals(await encoder("tuned-1"))).to.equal(true);
  });

  it("stops with a checkpoint, and goes on from there to the same bytes", async () => {
    await begin("long", { steps: 80, checkpointEvery: 1000 });
    await begin("long-1", { steps: 80, checkpointEvery: 1000, seed: 1 });
    const words = ["--train", at("train"), "--test", at("test"), "--threads", "1"];
    const asked = ["probe", at("long"), "--kind", "knn", "--k", "3", ...words, "--repeat", "3"];
    const again = at("long/repeats/seed-1");
    const { child, ended } = start(asked);
    await reaches(again, 3, child);
    child.kill("SIGTERM");
    const { code, stderr } = await ended;
    expect(code, stderr).to.equal(130);
    expect(stderr).to.match(/^ort-pretrain: interrupted: the same command goes on$/m);
    expect(await readdir(again))
      .to.include("checkpoints")
      .and.not.include("encoder.onnx");
    const second = await program(asked);
    expect(second.code, second.stderr).to.equal(0);
    const done = Number(/going on at step (\d+) of 80/.exec(second.stderr)![1]);
    // Told after four steps, of both trainings that were left; then of the last.
    const toGo = [...second.stderr.matchAll(/to go: (\d+) steps/g)].map(([, steps]) => Number(steps));
    expect(toGo).to.deep.equal([80 - done - 4 + 80, 80 - 4]);
    expect(second.stdout).to.match(/^knn top-1 .*\n3 trainings, seeds 0 to 2 .*\nknn top-1 .*\n$/);
    const [recorded] = await readProbes(at("long"));
    expect(recorded).to.have.nested.property("repeats.seeds").deep.equal([0, 1, 2]);
    expect((await encoder("long/repeats/seed-1")).equals(await encoder("long-1"))).to.equal(true);
  });

  it("refuses what is no run that has ended, and goes over no other configuration", async () => {
    const refused = (run: string, repeat = 2) =>
      failure(probe({ ...sets(), kind: "knn", k: 3, encoder: at(run), repeat }));
    expect(await refused("run", 1)).to.match(/repeat: expected a whole number of 2 or more, found 1/);
    expect(await refused("run/encoder.onnx")).to.match(
      /repeat: expected the folder of a run, whose config\.json says .*, found .*encoder\.onnx$/,
    );
    const config = runFiles(at("run/repeats/seed-5")).config;
    await writeFile(config, (await readFile(config, "utf8")).replace('"lr": 0.5', '"lr": 0.4'));
    expect(await refused("run")).to.match(
      /seed-5: "lr": expected 0\.5, as .*run has it, found 0\.4; remove it to train it anew$/,
    );
    const own = runFiles(at("long")).config;
    await writeFile(own, (await readFile(own, "utf8")).replace('"steps": 80', '"steps": 81'));
    expect(await refused("long")).to.match(
      /a run that has ended, after 81 steps, found an encoder of step 80/,
    );
    const features = ["--features", "a.npy,b.npy", "--repeat", "2"];
    expect(refusal(await program(["probe", "--kind", "knn", ...features]))).to.match(/repeat: expected/);
  });
});
