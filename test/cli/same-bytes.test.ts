import { cp, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { openEncoder } from "../../src/api/encoder.ts";
import { temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { json } from "../support/program.ts";

describe("cli: the same bytes", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const trained = async (home: string, ...more: string[]) => {
    // Relative paths from a folder of its own, as users give them.
    const args = [
      "train",
      "--data",
      "photos",
      "--out",
      "run",
      "--graph",
      at("graph"),
      "--batch",
      "4",
      "--no-report",
    ];
    const result = await json([...args, "--threads", "1", ...more], at(home));
    return { result, encoder: await readFile(at(`${home}/run/encoder.onnx`)) };
  };

  before(async () => {
    await tinyArtifact(at("graph"));
    await pictures(at("a/photos"), 12);
    for (const home of ["elsewhere/b", "c", "d"]) await cp(at("a"), at(home), { recursive: true });
  });

  it("come from the same seed, whatever the folder and the time; others from another", async () => {
    const a = await trained("a", "--steps", "5");
    const b = await trained("elsewhere/b", "--steps", "5");
    const c = await trained("c", "--steps", "5", "--seed", "1");
    expect(a.encoder.equals(b.encoder)).to.equal(true);
    expect(a.result.loss).to.equal(b.result.loss);
    expect(a.encoder.equals(c.encoder)).to.equal(false);
    expect(a.result.loss).not.to.equal(c.result.loss);
    expect(a.encoder.includes(folder.path)).to.equal(false);
    expect(a.encoder.includes("photos")).to.equal(false);
  });

  it("are exported for 0 steps: the encoder as initialised", async () => {
    const { result } = await trained("d", "--steps", "0");
    expect(result).to.include({ steps: 0, epochs: 0, loss: null, interrupted: false });
    const encoder = await openEncoder(at("d/run"), { threads: 1 });
    expect(encoder.metadata).to.include({ steps: 0, images: 12, seed: 0 });
    await encoder.close();
  });
});
