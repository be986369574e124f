import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { latestCheckpoint, loadCheckpoint } from "../../src/train/checkpoint.ts";
import { temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { json, metricsOf, refusal, run } from "../support/program.ts";

describe("cli: a disk", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const disk = () => at("disk");
  const train = () => [
    ...["train", "--data", at("photos"), "--out", join(disk(), "run"), "--graph", at("graph")],
    ...["--batch", "4", "--steps", "6", "--checkpoint-every", "2", "--threads", "1"],
  ];
  let mounted = false;

  /** A file system of its own in memory; only root may have it, and not in every container. */
  function mount(test: Mocha.Context, options: string) {
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", options, "none", disk()], { stdio: "ignore" });
      mounted = true;
    } catch {
      test.test!.title += " (skipped: mount is not allowed here)";
      test.skip();
    }
  }
  before(async () => {
    await tinyArtifact(at("graph"));
    await pictures(at("photos"), 8);
    await mkdir(disk());
  });
  // Before the folder is removed with all that is in it.
  afterEach(() => {
    if (mounted) execFileSync("umount", [disk()]);
    mounted = false;
  });

  it("that is full leaves the checkpoint before, to go on from once there is space", async function () {
    mount(this, "size=4m"); // room for the artifact and one checkpoint of 2.3 MB
    expect(refusal(await run(train()))).to.match(
      /checkpoints: disk full, 2\.3 MB could not be written; free .* --resume/,
    );
    const checkpoints = join(disk(), "run/checkpoints");
    expect(await readdir(checkpoints)).to.deep.equal(["step-00000002.safetensors"]);
    expect((await loadCheckpoint((await latestCheckpoint(checkpoints))!)).step).to.equal(2);

    execFileSync("mount", ["-o", "remount,size=16m", disk()]);
    expect(await json(["train", "--resume", "--out", join(disk(), "run")])).to.include({ steps: 6 });
    expect((await metricsOf(join(disk(), "run"))).map(({ step }) => step)).to.deep.equal([1, 2, 3, 4, 5, 6]);
  });

  it("that is full ends the event files for TensorBoard, not the run", async function () {
    mount(this, "size=4k"); // no room for the views
    const options = ["--out", at("told"), "--tensorboard", disk(), "--no-report", "--quiet"];
    const { code, stderr } = await run([...train(), ...options]);
    expect(stderr).to.match(
      /^warning: TensorBoard is told no more of this run: .*disk: disk full; free .*\n$/,
    );
    expect(code).to.equal(0);
    expect(await metricsOf(at("told"))).to.have.length(6);
  });

  it("that has no room for the run at all", async function () {
    mount(this, "size=64k");
    expect(refusal(await run(train()))).to.match(/disk full, .* could not be written/);
    expect(existsSync(join(disk(), "run/config.json"))).to.equal(false); // no run was begun: the same command may try again
  });

  it("that may not be written to", async function () {
    mount(this, "ro");
    expect(refusal(await run(train()))).to.match(/disk\/run: read-only file system; choose another folder/);
  });

  it("that takes no more files", async function () {
    mount(this, "nr_inodes=2"); // its root and one more
    expect(refusal(await run(train()))).to.match(
      /no inodes left, .* could not be written; remove some files/,
    );
  });
});
