/** Whole runs with `--engine training-web`. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { train } from "../../src/api/train.ts";
import { readConfig } from "../../src/train/run-folder.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";

describe("api/train, engine training-web", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  let given: { data: string; graph: string; batch: number; threads: number; checkpointEvery: number };
  before(async () => {
    given = {
      data: await pictures(at("images"), 16),
      graph: await tinyArtifact(at("graph"), { method: "moco" }),
      batch: 8,
      threads: 1,
      checkpointEvery: 2,
    };
  });

  it("goes on after a stop with the same bytes, and as node where that is asked for", async () => {
    const run = { ...given, engine: "training-web", steps: 6 } as const;
    await train({ ...run, out: at("through") });
    const stop = new AbortController();
    const asked = {
      signal: stop.signal,
      checkpointAsked() {
        stop.abort();
        return false;
      },
    };
    const { interrupted, steps } = await train({ ...run, out: at("stopped") }, asked);
    expect([interrupted, steps]).to.deep.equal([true, 1]);
    const { encoder } = await train({ out: at("stopped"), resume: true });
    expect((await readConfig(at("stopped"))).engine).to.equal("training-web");
    for (const file of ["encoder.onnx", "checkpoints/step-00000006.safetensors"]) {
      const [whole, parts] = await Promise.all(
        ["through", "stopped"].map((out) => readFile(join(folder.path, out, file))),
      );
      expect(parts!.equals(whole!), file).to.equal(true);
    }
    expect(encoder).to.equal(at("stopped/encoder.onnx"));
    await train({ out: at("through"), resume: true, engine: "node", extendSteps: 1 });
    expect(await readConfig(at("through"))).not.to.have.property("engine");
  });

  it("prepares batches on a thread of their own, for steps block this one, and on this one for node", async () => {
    let threads = 0;
    const count = () => {
      threads++;
    };
    process.on("worker", count);
    try {
      const run = { ...given, steps: 1, rank: false };
      await train({ ...run, out: at("beside"), engine: "training-web" });
      expect(threads).to.equal(1);
      await train({ ...run, out: at("here") });
      expect(threads).to.equal(1);
    } finally {
      process.off("worker", count);
    }
  });

  it("refuses what it cannot compute before anything is written", async () => {
    const begin = (more: object) =>
      failure(train({ ...given, out: at("none"), engine: "training-web", steps: 1, ...more }));
    expect(await begin({ microBatch: 2, graph: undefined })).to.match(
      /^--engine training-web: expected a step that is one graph, found --micro-batch; /,
    );
    expect(await begin({ provider: "webgpu" })).to.match(
      /^--engine training-web: expected it with --provider cpu, found --provider webgpu/,
    );
  });
});
