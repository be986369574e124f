import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { readArtifact } from "../../src/artifact/files.ts";
import { chartsOf } from "../../src/report/curves.ts";
import { type Run, readRecords, spentBy } from "../../src/report/run.ts";
import { differences, settingsOf } from "../../src/report/settings.ts";
import type { RunConfig } from "../../src/train/run-folder.ts";
import { temporaryFolder } from "../data/folder.ts";
import { tinyArtifact } from "../support/pictures.ts";

describe("what a report says of runs", () => {
  const folder = temporaryFolder();
  let made: Run;
  /** Of 40 images in batches of 4: ten steps an epoch. */
  const config: RunConfig = {
    format: 1,
    artifact: "tiny",
    data: "photos",
    limit: null,
    images: 40,
    fingerprint: "0".repeat(64),
    batch: 4,
    microBatch: null,
    steps: 20,
    seed: 7,
    lr: 0.5,
    weightDecay: null,
    warmupEpochs: 1,
    shorterSide: 32,
    checkpointEvery: 10,
    cacheMb: 10,
    provider: "cpu",
    threads: null,
    knn: null,
  };
  const line = (step: number, more: object = {}) => ({ step, epoch: 1, loss: step, ...more });
  const withRecords = (records: Run["records"], name = "a"): Run => ({ ...made, name, records });

  before(async () => {
    const { manifest } = await readArtifact(await tinyArtifact(join(folder.path, "graph")));
    made = { name: "a", config, manifest, records: [] };
  });

  it("reads the lines that are whole", async () => {
    const text = `${JSON.stringify(line(1))}\n{}\n3\n${JSON.stringify(line(2))}\n{"step":3,"lo`;
    await writeFile(join(folder.path, "metrics.jsonl"), text);
    expect(await readRecords(folder.path)).to.deep.equal([line(1), line(2)]);
    expect(await readRecords(join(folder.path, "none"))).to.deep.equal([]);
  });

  it("draws what was logged twice, over epochs, the loss beside chance", () => {
    const records = [
      line(1, { chance: 9, lr: 0.1, accuracy: 0.5 }),
      line(2, { lr: 0.2, accuracy: 0.7, waitShare: 0.25 }),
      line(10, { lr: 0.3, waitShare: 0.5, knn: 50 }),
    ];
    const charts = chartsOf([withRecords(records)]);
    expect(charts.map(({ key }) => key)).to.deep.equal(["loss", "accuracy", "lr", "waitShare"]);
    expect(charts[0]!.series).to.deep.equal([
      { name: "value", color: 0, x: [0.1, 0.2, 1], y: [1, 2, 10] },
      { name: "chance", color: 0, x: [0.1, 1], y: [9, 9], reference: true },
    ]);
    expect(charts[3]).to.deep.include({
      unit: "%",
      series: [{ name: "value", color: 0, x: [0.2, 1], y: [25, 50] }],
    });
    expect(chartsOf([withRecords([])])).to.deep.equal([]);
  });

  it("thins long curves to means of the same number of steps", () => {
    const records = Array.from({ length: 1800 }, (_, i) => line(i + 1));
    const { series } = chartsOf([withRecords(records)])[0]!;
    expect(series[0]!.y).to.have.length(600);
    expect([series[0]!.x[1], series[0]!.y[1]]).to.deep.equal([0.6, 5]);
  });

  it("lays the curves of runs over each other and tells what differs", () => {
    const b = { ...withRecords([line(5), line(10)], "b"), config: { ...config, batch: 8, lr: 1 } };
    const { series } = chartsOf([withRecords([line(1), line(2)]), b])[0]!;
    expect(series).to.deep.equal([
      { name: "a", color: 0, x: [0.1, 0.2], y: [1, 2] },
      { name: "b", color: 1, x: [1, 2], y: [5, 10] },
    ]);
    expect(differences([made, b])).to.deep.equal([
      { name: "epochs", values: ["2", "4"] },
      { name: "batch", values: ["4", "8"] },
      { name: "lr", values: ["cosine 0.5 to 0, warm-up 1 epochs", "cosine 1 to 0, warm-up 1 epochs"] },
    ]);
    const settings = settingsOf(made);
    expect(settings.get("method")).to.equal("simclr");
    expect(settings.get("simclr: temperature")).to.equal("0.5");
    expect(settings.get("images")).to.equal("40");
    expect([...settings.keys()]).not.to.include.members(["recipe", "micro-batch", "temperature"]);
  });

  it("adds up the time of a run that went on", () => {
    const spent = (seconds: number, waitShare: number) => ({
      seconds,
      waitShare,
      peakRssBytes: 1e9 * seconds,
    });
    const records = [
      line(1, spent(1, 0)),
      line(2, spent(10, 0.5)),
      line(3, spent(2, 0)),
      line(4, spent(4, 0.25)),
    ];
    expect(spentBy(withRecords(records))).to.deep.equal({
      ...{ seconds: 14, waited: 6, steps: 8, peakRssBytes: 1e10 },
      ...{ checkpoints: 0, evaluations: 0, startAndExport: 0, apart: false }, // of an earlier version
    });
    // The checkpoint after step 2 and what follows step 4 are not in the seconds of their lines.
    const logged = [
      line(1, { ...spent(3, 0), startSeconds: 1, checkpointSeconds: 0.5 }),
      line(2, { ...spent(8, 0.5), checkpointSeconds: 0.25 }),
      line(3, { ...spent(9, 0), startSeconds: 2 }),
      line(4, { ...spent(10, 0.1), checkpointSeconds: 0.25, evaluationSeconds: 3, exportSeconds: 4 }),
    ];
    expect(spentBy(withRecords(logged))).to.deep.equal({
      ...{ seconds: 28.5, waited: 5, steps: 12.5, checkpoints: 1, evaluations: 3, startAndExport: 7 },
      ...{ apart: true, peakRssBytes: 1e10 },
    });
    expect(chartsOf([withRecords(logged)]).map(({ key }) => key)).not.to.include("checkpointSeconds");
    expect(spentBy(withRecords([line(1), line(2)]))).to.equal(undefined); // of an earlier version
  });
});
