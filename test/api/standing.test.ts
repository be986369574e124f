import { join } from "node:path";
import { expect } from "chai";
import { afterFailure } from "../../src/api/standing.ts";
import { UserError } from "../../src/errors.ts";
import { saveCheckpoint } from "../../src/train/checkpoint.ts";
import { runFiles } from "../../src/train/run-folder.ts";
import { temporaryFolder } from "../data/folder.ts";

describe("api/standing", () => {
  const folder = temporaryFolder();
  const run = (name: string) => join(folder.path, name);
  const saves = async (name: string, step: number) => {
    await saveCheckpoint(runFiles(run(name)).checkpoints, { step, tensors: new Map(), progress: {} });
  };
  const unreadable = async () => {
    throw new Error("the device is lost");
  };
  const short = new UserError("webgpu: no memory", 3);
  const said = async (name: string, save: () => Promise<void>) => {
    const error = (await afterFailure(run(name), short, save)) as UserError;
    expect(error).to.be.instanceOf(UserError);
    expect(error.exitCode).to.equal(3);
    return error.message;
  };

  it("saves the state after a failure and names its checkpoint, or the latest where it cannot be read", async () => {
    expect(await said("a", unreadable)).to.equal("webgpu: no memory (there is no checkpoint yet)");
    await saves("a", 4);
    expect(await said("a", unreadable)).to.equal(
      "webgpu: no memory (latest checkpoint: step-00000004.safetensors)",
    );
    expect(await said("a", () => saves("a", 7))).to.equal(
      "webgpu: no memory (latest checkpoint: step-00000007.safetensors)",
    );
  });

  it("saves nothing after a bug", async () => {
    const bug = new TypeError("x is not a function");
    let saved = false;
    const found = await afterFailure(run("b"), bug, async () => {
      saved = true;
    });
    expect(found).to.equal(bug);
    expect(saved).to.equal(false);
  });
});
