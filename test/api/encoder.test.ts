import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { type OpenedEncoder, openEncoder } from "../../src/api/encoder.ts";
import { compareFeatures } from "../../src/export/compare.ts";
import { writeEncoder } from "../../src/export/encoder.ts";
import { MANY } from "../../src/export/for-many.ts";
import { encodeModelOf, noise } from "../export/models.ts";

const SIZE = 32;
const FEATURES = 512;
const metadata = {
  method: "simclr",
  encoder: "resnet18",
  imageSize: SIZE,
  side: SIZE,
  features: FEATURES,
  steps: 0,
  images: 1,
  seed: 0,
};

describe("api/encoder", () => {
  let dir: string;
  let encoder: OpenedEncoder;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "ort-pretrain-"));
    const path = join(dir, "encoder.onnx");
    const images = noise(1, SIZE, SIZE);
    await writeEncoder(path, { ...encodeModelOf("resnet18", SIZE), metadata, images, threads: 1 });
    encoder = await openEncoder(path, { threads: 1 });
  });
  after(async () => {
    await encoder.close();
    await rm(dir, { recursive: true, force: true });
  });

  const { data } = noise(MANY, SIZE, SIZE);
  const encode = (from: number, to: number) => {
    const bytes = SIZE * SIZE * 3;
    return encoder.encode(data.subarray(from * bytes, to * bytes), [to - from, SIZE, SIZE, 3]);
  };

  it("gives the same features of many images at once, another way, as of few", async () => {
    const few = new Float32Array(MANY * FEATURES); // [MANY, FEATURES]
    for (let i = 0; i < MANY; i += 4) few.set(await encode(i, i + 4), i * FEATURES);
    const many = await encode(0, MANY); // [MANY, FEATURES]
    expect(compareFeatures(few, many, FEATURES).maxRelative).to.be.within(1e-9, 2e-5);
  });

  it("gives no features of no images", async () => {
    expect(await encode(0, 0)).to.deep.equal(new Float32Array(0));
  });

  it("gives the same bytes each time, also when asked twice at once", async () => {
    const [first, second] = await Promise.all([encode(0, MANY), encode(0, MANY)]);
    expect(first).to.deep.equal(second);
    expect(await encode(0, MANY)).to.deep.equal(first);
  });
});
