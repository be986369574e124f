import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { UserError } from "../../src/errors.ts";
import { type EncoderParts, writeEncoder } from "../../src/export/encoder.ts";
import { freezeEncoder } from "../../src/export/freeze.ts";
import { readEncoderMetadata } from "../../src/export/metadata.ts";
import { verifyFrozen } from "../../src/export/verify.ts";
import type { TensorData } from "../../src/files/safetensors.ts";
import { encodeModelOf, featuresOf, noise } from "./models.ts";

const WEIGHT = "encoder.layer2.0.conv2.weight";
const metadata = {
  method: "simclr",
  encoder: "resnet20",
  imageSize: 32,
  side: 32,
  features: 64,
  steps: 10,
  images: 500,
  seed: 0,
};

async function failure(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(error).to.be.instanceOf(UserError).with.property("exitCode", 2);
  return (error as UserError).message;
}

describe("export/encoder", () => {
  let dir: string;
  let path: string;
  let parts: EncoderParts;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "ort-pretrain-"));
    path = join(dir, "encoder.onnx");
    parts = { ...encodeModelOf("resnet20", 32), metadata, images: noise(3, 32, 32), threads: 1 };
  });
  afterEach(() => rm(dir, { recursive: true, force: true }));

  const nothingWritten = async () => expect(await readdir(dir)).to.deep.equal([]);

  it("writes a file that says what it is and runs", async () => {
    const { bytes, maxRelative } = await writeEncoder(path, parts);
    const file = await readFile(path);
    expect(file.length).to.equal(bytes);
    expect(maxRelative).to.be.within(0, 2e-5);
    expect(readEncoderMetadata(file, path)).to.deep.equal(metadata);
    const { data, shape } = noise(2, 50, 40);
    const { data: features, dims } = await featuresOf(file, { images: new ort.Tensor("uint8", data, shape) });
    expect(dims).to.deep.equal([2, 64]);
    expect(features.every(Number.isFinite)).to.equal(true);
    expect(await readdir(dir)).to.deep.equal(["encoder.onnx"]);
  });

  it("writes equal bytes for equal parts, which hold no path", async () => {
    await writeEncoder(path, parts);
    await writeEncoder(join(dir, "again.onnx"), { ...parts, images: noise(1, 9, 9) });
    const file = await readFile(path);
    expect(file.equals(await readFile(join(dir, "again.onnx")))).to.equal(true);
    expect(file.includes(dir)).to.equal(false);
  });

  it("writes nothing if a weight differs from the training-time encoder's", async () => {
    // It is frozen before the first await; then training goes on in the same memory.
    const work = writeEncoder(path, parts);
    const weights = parts.state.get(WEIGHT)!.data as Float32Array;
    weights.forEach((w, i) => {
      weights[i] = 1.05 * w;
    });
    const message = await failure(work);
    expect(message).to.match(
      /encoder\.onnx: expected the features of the training-time encoder within 0\.1 %, found [\d.]+ % off; the file was not written$/,
    );
    await nothingWritten();
  });

  it("leaves the file that was there if the new one is refused", async () => {
    await writeFile(path, "before");
    (parts.state.get(WEIGHT)!.data as Float32Array)[5] = Number.NaN;
    const message = await failure(writeEncoder(path, parts));
    expect(message).to.match(/^encode\.onnx: expected finite features, found NaN for image 0;/);
    expect(await readFile(path, "utf8")).to.equal("before");
    expect(await readdir(dir)).to.deep.equal(["encoder.onnx"]);
  });

  it("refuses metadata that promises other features, or cannot be read back", async () => {
    const features = failure(writeEncoder(path, { ...parts, metadata: { ...metadata, features: 65 } }));
    expect(await features).to.equal("encode.onnx: expected 65 features, found 64");
    const method = failure(writeEncoder(path, { ...parts, metadata: { ...metadata, method: "a\nb" } }));
    expect(await method).to.include("a printable name");
    await nothingWritten();
  });

  it("tells a missing folder", async () => {
    const message = await failure(writeEncoder(join(dir, "none", "encoder.onnx"), parts));
    expect(message).to.include("expected a folder to write to");
  });
});

describe("export/verify", () => {
  const images = noise(2, 32, 32);
  const { encode, state } = encodeModelOf("resnet20", 32);
  const verify = (frozen: Uint8Array) =>
    verifyFrozen({ encode, state, frozen, images, where: "encoder.onnx", threads: 1 });
  const changed = (name: string, change: (x: number) => number) => {
    const data = (state.get(name)!.data as Float32Array).map(change);
    return freezeEncoder(
      encode,
      new Map<string, TensorData>(state).set(name, { ...state.get(name)!, data }),
      {},
    );
  };

  it("passes rounding, catches one changed tensor", async () => {
    expect((await verify(changed(WEIGHT, (w) => w * (1 + 1e-6)))).maxRelative).to.be.below(1e-4);
    expect(await failure(verify(changed(WEIGHT, (w) => 1.05 * w)))).to.include("within 0.1 %");
    expect(await failure(verify(changed("encoder.bn1.running_var", (v) => v + 0.1)))).to.include(
      "within 0.1 %",
    );
  });
  it("catches features that are not finite, other sizes and models that do not run", async () => {
    const infinite = changed(WEIGHT, () => Number.POSITIVE_INFINITY);
    expect(await failure(verify(infinite))).to.match(/^encoder\.onnx: expected finite features, found/);
    const wider = encodeModelOf("vit-tiny", 32);
    const frozen = freezeEncoder(wider.encode, wider.state, {});
    expect(await failure(verify(frozen))).to.include("expected 64 features, found 192");
    expect(await failure(verify(frozen.slice(0, 5000)))).to.include("expected an encoder that runs");
  });
});
