import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { UserError } from "../../src/errors.ts";
import { decodeSafetensors, encodeSafetensors, type TensorData } from "../../src/files/safetensors.ts";
import {
  type Checkpoint,
  latestCheckpoint,
  loadCheckpoint,
  saveCheckpoint,
} from "../../src/train/checkpoint.ts";

const tensors = new Map<string, TensorData>([
  ["w", { dtype: "float32", shape: [2, 2], data: new Float32Array([1, 2, 3, 4]) }],
  ["1", { dtype: "bool", shape: [1], data: new Uint8Array([1]) }],
  ["bank.at", { dtype: "int64", shape: [], data: new BigInt64Array([5n]) }],
]);
const at = (step: number): Checkpoint => ({ step, tensors, progress: { epoch: 3, order: [1, "a", null] } });

async function messageOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).to.be.instanceOf(UserError);
  return (error as UserError).message;
}

describe("train/checkpoint", () => {
  let dir: string;
  beforeEach(async () => {
    dir = join(await mkdtemp(join(tmpdir(), "checkpoint-")), "checkpoints");
  });
  afterEach(() => rm(join(dir, ".."), { recursive: true }));

  it("gives back what was saved", async () => {
    const path = await saveCheckpoint(dir, at(120));
    expect(path).to.equal(join(dir, "step-00000120.safetensors"));
    const { step, tensors: found, progress } = await loadCheckpoint(path);
    expect(step).to.equal(120);
    expect(progress).to.deep.equal(at(120).progress);
    expect(found).to.deep.equal(tensors);
  });

  it("writes the same bytes for the same state", async () => {
    const first = await readFile(await saveCheckpoint(dir, at(1)));
    const second = await readFile(await saveCheckpoint(join(dir, "b"), at(1)));
    expect(first.equals(second)).to.equal(true);
  });

  it("finds the latest by number, and none where there is none", async () => {
    expect(await latestCheckpoint(dir)).to.equal(undefined);
    await mkdir(dir, { recursive: true });
    expect(await latestCheckpoint(dir)).to.equal(undefined);
    for (const step of [99_999_999, 100_000_000, 5]) await saveCheckpoint(dir, at(step), 9);
    await writeFile(join(dir, "step-999.safetensors"), "");
    await writeFile(join(dir, "step-0200000000.safetensors"), "");
    await mkdir(join(dir, "step-300000000.safetensors"));
    expect(await latestCheckpoint(dir)).to.equal(join(dir, "step-100000000.safetensors"));
    await writeFile(join(dir, "file"), "");
    expect(await messageOf(latestCheckpoint(join(dir, "file")))).to.match(/expected a folder of checkpoints/);
  });

  it("keeps the newest ones and touches nothing else", async () => {
    await mkdir(dir, { recursive: true });
    const foreign = [
      "notes.txt",
      "step-1.safetensors",
      "step-00000001.safetensors.bak",
      "best.0123456789ab.tmp",
    ];
    for (const file of foreign) await writeFile(join(dir, file), "");
    await writeFile(join(dir, "step-00000001.safetensors.0123456789ab.tmp"), "left by a kill");
    for (const step of [1, 2, 3]) await saveCheckpoint(dir, at(step));
    const kept = ["step-00000002.safetensors", "step-00000003.safetensors"];
    expect(await readdir(dir)).to.have.members([...kept, ...foreign]);
    await saveCheckpoint(dir, at(4), 0);
    expect(await readdir(dir)).to.have.members(["step-00000004.safetensors", ...foreign]);
  });

  it("never removes what it just wrote, nor later steps", async () => {
    for (const step of [10, 20]) await saveCheckpoint(dir, at(step));
    await saveCheckpoint(dir, at(5), 1);
    expect(await readdir(dir)).to.have.length(3);
  });

  it("notices a flipped bit anywhere in the file", async () => {
    const path = await saveCheckpoint(dir, at(7));
    const bytes = await readFile(path);
    for (let i = 0; i < bytes.length; i++) {
      const flipped = Uint8Array.from(bytes);
      flipped[i]! ^= 1 << (i % 8);
      await writeFile(path, flipped);
      await messageOf(loadCheckpoint(path));
    }
    await writeFile(path, bytes.subarray(0, bytes.length - 1));
    expect(await messageOf(loadCheckpoint(path))).to.match(
      /expected data up to offset .*; the checkpoint is damaged: remove it to start again$/,
    );
  });

  it("names the checkpoint to go on from", async () => {
    await saveCheckpoint(dir, at(40));
    const path = await saveCheckpoint(dir, at(80));
    const bytes = await readFile(path);
    bytes[bytes.length - 1]! ^= 1;
    await writeFile(path, bytes);
    expect(await messageOf(loadCheckpoint(path))).to.equal(
      `${path}: expected the sha256 that was saved, found another; the checkpoint is damaged: ` +
        "remove it to go on from the previous one, step-00000040.safetensors",
    );
    await writeFile(path, "");
    expect(await messageOf(loadCheckpoint(path))).to.match(/found 0 bytes; the checkpoint is damaged/);
    await rm(path);
    expect(await messageOf(loadCheckpoint(path))).to.equal(
      `${path}: expected a checkpoint, found no such file`,
    );
  });

  it("refuses other formats, steps and progress", async () => {
    const path = await saveCheckpoint(dir, at(7));
    const { metadata } = decodeSafetensors(await readFile(path), path);
    const refusal = async (change: Record<string, string>) => {
      await writeFile(path, encodeSafetensors(tensors, { ...metadata, ...change }));
      return messageOf(loadCheckpoint(path));
    };
    expect(await refusal({ format: "2" })).to.match(
      /expected format 1, found a newer one; update ort-pretrain/,
    );
    expect(await refusal({ format: "" })).to.match(/the format that was saved, found another/);
    expect(await refusal({ step: "8" })).to.match(/headerSha256/);
    expect(await refusal({ step: "NaN" })).to.match(/expected a step/);
    expect(await refusal({ progress: '{"__proto__":{}}' })).to.match(/progress: expected plain keys/);
    expect(await refusal({ progress: "[]" })).to.match(/progress as an object/);
    expect(await refusal({ progress: "{" })).to.match(/progress: expected JSON/);
    await writeFile(path, encodeSafetensors(tensors));
    expect(await messageOf(loadCheckpoint(path))).to.match(/damaged/);
  });

  it("leaves the older ones when a write fails", async () => {
    const old = await saveCheckpoint(dir, at(1), 1);
    await mkdir(join(dir, "step-00000002.safetensors", "inner"), { recursive: true });
    expect(await messageOf(saveCheckpoint(dir, at(2), 1))).to.match(/step-00000002/);
    expect(await readdir(dir)).to.have.length(2);
    expect((await loadCheckpoint(old)).step).to.equal(1);
    await writeFile(join(dir, "file"), "");
    expect(await messageOf(saveCheckpoint(join(dir, "file"), at(2)))).to.match(/^.*file: /);
  });
});
