import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import {
  openMetrics,
  type RunConfig,
  readConfig,
  runFiles,
  writeConfig,
} from "../../src/train/run-folder.ts";
import { failure, temporaryFolder } from "../data/folder.ts";

const config: RunConfig = {
  format: 1,
  artifact: "simclr-resnet20-16",
  data: "/photos",
  limit: null,
  images: 10,
  fingerprint: "0".repeat(64),
  batch: 4,
  microBatch: null,
  steps: 8,
  seed: -3,
  lr: 0.1,
  weightDecay: null,
  warmupEpochs: 0,
  shorterSide: 32,
  checkpointEvery: 2,
  cacheMb: 0,
  provider: "cpu",
  threads: null,
  knn: { data: "/labelled", every: 2 },
};
const record = (step: number) => ({ step, epoch: 1, loss: 1 / step });

describe("train/run-folder", () => {
  const folder = temporaryFolder();

  it("reads the configuration that was written", async () => {
    await writeConfig(folder.path, config);
    expect(await readConfig(folder.path)).to.deep.equal(config);
  });

  it("says what is wrong with a configuration", async () => {
    const said = async (change: object) => {
      await folder.write("bad/config.json", JSON.stringify({ ...config, ...change }));
      return failure(readConfig(join(folder.path, "bad")));
    };
    expect(await said({ format: 2 })).to.match(/config\.json: format: /);
    expect(await said({ batch: 0 })).to.match(/config\.json: batch: /);
    expect(await said({ knn: { data: "x", every: 0 } })).to.match(/config\.json: knn\.every: /);
    expect(await said({ more: 1 })).to.match(/config\.json: .*more/);
    expect(await failure(readConfig(join(folder.path, "none")))).to.match(/none: expected a run folder/);
  });

  const metrics = async (dir: string) => readFile(runFiles(dir).metrics, "utf8");
  const opened = async (name: string, content: string, step: number) => {
    await folder.write(`${name}/metrics.jsonl`, content);
    const dir = join(folder.path, name);
    return { dir, log: openMetrics(dir, step) };
  };
  const lines = (...steps: number[]) => steps.map((step) => `${JSON.stringify(record(step))}\n`).join("");

  it("drops lines after the step that the run goes on from, and what a kill cut off", async () => {
    const { dir, log } = await opened("long", `${lines(1, 2, 3)}{"step":4,"ep`, 2);
    log.write(record(3));
    log.close();
    expect(await metrics(dir)).to.equal(lines(1, 2, 3));
  });

  it("keeps whole lines and drops the one that was cut off, though it is of an earlier step", async () => {
    const { dir, log } = await opened("cut", lines(1, 2).slice(0, -1), 2);
    log.close();
    expect(await metrics(dir)).to.equal(lines(1));
  });

  it("adds to the last line what was measured after it, also when the run goes on there", async () => {
    const { dir, log } = await opened("amended", "", 0);
    log.write(record(1));
    log.write(record(2));
    log.amend({ knn: 41.5 });
    log.write(record(3));
    log.close();
    const amended = `${JSON.stringify({ ...record(2), knn: 41.5 })}\n`;
    expect(await metrics(dir)).to.equal(`${lines(1)}${amended}${lines(3)}`);
    const again = openMetrics(dir, 3);
    expect(again.last).to.deep.equal(record(3));
    again.amend({ knn: 43 });
    again.close();
    expect(await metrics(dir)).to.equal(
      `${lines(1)}${amended}${JSON.stringify({ ...record(3), knn: 43 })}\n`,
    );
    const none = openMetrics(dir, 0);
    expect(none.last).to.equal(undefined);
    none.close();
  });

  it("drops everything for step 0, and from what is no line of ours", async () => {
    (await opened("zero", lines(1, 2), 0)).log.close();
    expect(await metrics(join(folder.path, "zero"))).to.equal("");
    (await opened("foreign", `${lines(1)}hello\n${lines(2)}`, 2)).log.close();
    expect(await metrics(join(folder.path, "foreign"))).to.equal(lines(1));
  });

  it("says where metrics cannot be written", async () => {
    await mkdir(join(folder.path, "folder/metrics.jsonl"), { recursive: true });
    expect(() => openMetrics(join(folder.path, "folder"), 0)).to.throw(
      /metrics\.jsonl: expected nothing or what/,
    );
    expect(() => openMetrics(join(folder.path, "nowhere"), 0)).to.throw(
      /metrics\.jsonl: expected a folder to write to/,
    );
  });
});
