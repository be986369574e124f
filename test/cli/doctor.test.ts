import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { run } from "../support/program.ts";

describe("cli: providers, on a machine without a GPU", function () {
  this.timeout(60_000);
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);

  before(function () {
    if (
      process.platform === "linux" &&
      !["nvidiactl", "dxg", "dri"].some((name) => existsSync(`/dev/${name}`))
    )
      return;
    console.warn("    NOT RUN: these tests want Linux without a GPU");
    this.skip();
  });

  it("doctor names the driver and the commands", async () => {
    const { code, stdout } = await run(["doctor"]);
    expect(code).to.equal(0);
    expect(stdout).to.match(/^cpu +works$/m);
    expect(stdout).to.match(/^cuda +does not work: .*Failed to load/m);
    expect(stdout).to.match(/^ +- no NVIDIA driver: \/dev\/nvidiactl .*CUDA 13 wants release 580 or newer$/m);
    expect(stdout).to.match(/^cuda kernels +once compiled, kept in \/.*\/kernels$/m);
    expect(stdout).to.match(/^ +python3 -m pip install .* onnxruntime-gpu==[\d.]+$/m);
  });

  it("train takes the CPU for auto, says so, and notes it in config.json", async () => {
    await tinyArtifact(at("graph"));
    await pictures(at("photos"), 4);
    const args = [
      "train",
      "--graph",
      at("graph"),
      "--data",
      at("photos"),
      "--out",
      at("run"),
      "--batch",
      "4",
    ];
    const { code, stderr } = await run([...args, "--steps", "1", "--threads", "1", "--provider", "auto"]);
    expect(code, stderr).to.equal(0);
    expect(stderr).to.match(
      /^provider cpu: the best that works here \(cuda: no GPU for it; webgpu: no GPU for it\)/m,
    );
    expect(JSON.parse(await readFile(at("run/config.json"), "utf8"))).to.include({ provider: "cpu" });
  });
});
