import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { openEncoder } from "../../src/api/encoder.ts";
import { LOCK } from "../../src/files/lock.ts";
import { latestCheckpoint, loadCheckpoint } from "../../src/train/checkpoint.ts";
import { runFiles } from "../../src/train/run-folder.ts";
import { temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { metricsOf, reaches, refusal, run, start } from "../support/program.ts";

describe("cli: two at a time in a run's folder", () => {
  const folder = temporaryFolder();
  const out = (name: string) => join(folder.path, name);
  let args: (name: string, steps: number) => string[];

  before(async () => {
    const graph = await tinyArtifact(out("graph"));
    const photos = await pictures(out("photos"), 8);
    args = (name, steps) => [
      ...["train", "--data", photos, "--out", out(name), "--graph", graph, "--batch", "4", "--no-report"],
      ...["--steps", `${steps}`, "--checkpoint-every", "1", "--threads", "1"],
    ];
  });

  it("of which one begins the run, and the other is refused", async () => {
    const both = await Promise.all([1, 2].map(() => run(args("new", 10))));
    const [winner, other] = both.sort((a, b) => a.code! - b.code!);
    expect(winner!.code, winner!.stderr).to.equal(0);
    // Behind by all of the other's run, it would find the run.
    expect(refusal(other!)).to.match(
      /new: expected a folder (that no other run writes to|without a run), found/,
    );
    expect((await metricsOf(out("new"))).map(({ step }) => step)).to.deep.equal([
      1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
    ]);
    const latest = await latestCheckpoint(runFiles(out("new")).checkpoints);
    expect((await loadCheckpoint(latest!)).step).to.equal(10);
    await (await openEncoder(out("new"))).close();
  });

  it("of which the one that would go on with a run that goes on is told whose it is", async () => {
    const { child, ended } = start(args("busy", 100_000));
    await reaches(out("busy"), 2, child);
    const said = refusal(await run(["train", "--resume", "--out", out("busy")]));
    expect(said).to.contain(`no other run writes to, found process ${child.pid} on `);
    const before = (await metricsOf(out("busy"))).length;
    await reaches(out("busy"), before + 2, child);
    child.kill("SIGINT");
    expect((await ended).code).to.equal(130);
    const steps = (await metricsOf(out("busy"))).map(({ step }) => step!);
    expect(steps).to.deep.equal(Array.from(steps, (_, i) => i + 1));
    expect(await readdir(out("busy"))).not.to.include(LOCK);
  });
});
