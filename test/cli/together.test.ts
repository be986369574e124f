import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { openEncoder } from "../../src/api/encoder.ts";
import { readArtifact } from "../../src/artifact/files.ts";
import { loadCheckpoint } from "../../src/train/checkpoint.ts";
import { readConfig, runFiles } from "../../src/train/run-folder.ts";
import { temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { metricsOf, run } from "../support/program.ts";

describe("cli: two runs into one folder at a time", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();

  // That is the user's mistake, and which of them stops is open.
  it("leave no file half-written", async () => {
    const graph = await tinyArtifact(join(folder.path, "graph"));
    const photos = await pictures(join(folder.path, "photos"), 8);
    const out = join(folder.path, "run");
    const args = ["train", "--data", photos, "--out", out, "--graph", graph, "--batch", "4", "--steps", "10"];
    const both = await Promise.all(
      [1, 2].map(() => run([...args, "--checkpoint-every", "1", "--threads", "1"])),
    );
    for (const { stderr } of both) expect(stderr).not.to.match(/^ +at /m);

    // Each file is whole or missing: beginning at the same moment, one may take the folder from under the other.
    const files = runFiles(out);
    if (existsSync(join(out, "manifest.json"))) {
      const artifact = await readArtifact(out);
      for (const which of ["step", "encode"] as const) await artifact.graph(which);
    }
    if (existsSync(files.config)) expect(await readConfig(out)).to.include({ steps: 10 });
    for (const { step } of await metricsOf(out)) expect(step).to.be.within(1, 10);
    const names = (await readdir(files.checkpoints).catch(() => [])).filter((name) =>
      name.endsWith(".safetensors"),
    );
    for (const name of names) await loadCheckpoint(join(files.checkpoints, name));
    if (existsSync(files.encoder)) await (await openEncoder(out)).close();
  });
});
