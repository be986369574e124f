import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { foldersOf, linesOf, stepsIn, trainFor } from "../../scripts/bench/gpu/timed.ts";
import { temporaryFolder } from "../data/folder.ts";

describe("bench/gpu/timed", () => {
  const folder = temporaryFolder();

  it("plans as many whole steps as the time is long, and at least one", () => {
    expect(stepsIn(10, 1000, 256)).to.equal(39);
    expect(stepsIn(-3, 1000, 256)).to.equal(1);
  });

  it("asks for labelled folders train/ and test/", async () => {
    mkdirSync(join(folder.path, "data/train"), { recursive: true });
    const found = await foldersOf(join(folder.path, "data"), folder.path, 2).catch((error: Error) => error);
    expect(found)
      .to.be.an("error")
      .with.property("message")
      .that.matches(/expected labelled folders/);
  });

  it("trains anew to its end, and says when training fails", async function () {
    this.timeout(60_000);
    const { train } = await foldersOf(undefined, folder.path, 4);
    const run = join(folder.path, "run");
    const options = { data: train, provider: "cpu", encoder: "resnet20", batch: 4, "image-size": 32 };
    const plain = { ...options, "no-report": true, quiet: true };
    expect(await trainFor(60, run, { ...plain, steps: 2 }, ["--no-rank"])).to.equal(false);
    expect((await linesOf(run)).map(({ step }) => step)).to.deep.equal([1, 2]);
    expect(existsSync(join(run, "encoder.onnx"))).to.equal(true);
    expect(await trainFor(60, run, { ...plain, steps: 1 }, ["--no-rank"])).to.equal(false);
    expect((await linesOf(run)).length).to.equal(1);
    const failed = await trainFor(60, run, { ...plain, steps: 1, lr: "fast" }).catch((error: Error) => error);
    expect(failed)
      .to.be.an("error")
      .with.property("message")
      .that.matches(/train ended with/);
  });
});
