/** The share of its time that training resnet20 from a folder of small JPEGs waits for data; prints one JSON object. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { train } from "../../src/index.ts";
import { randomImages } from "./measure.ts";

const SIZE = 32;
const IMAGES = 2048;
const BATCH = 128;

const dir = await mkdtemp(join(tmpdir(), "bench-"));
try {
  const pixels = randomImages(IMAGES, SIZE);
  for (let i = 0; i < IMAGES; i++) {
    const image = pixels.subarray(i * SIZE * SIZE * 3, (i + 1) * SIZE * SIZE * 3);
    await sharp(image, { raw: { width: SIZE, height: SIZE, channels: 3 } })
      .jpeg()
      .toFile(join(dir, `${i}.jpg`));
  }
  // One epoch, so that every image is decoded from its file.
  const { waitShare, imagesPerSecond } = await train({
    data: dir,
    out: join(dir, "run"),
    encoder: "resnet20",
    batch: BATCH,
    epochs: 1,
    rank: false, // what is measured after the epoch is no step
  });
  console.log(JSON.stringify({ waitShare, imagesPerSecond }));
} finally {
  await rm(dir, { recursive: true, force: true });
}
