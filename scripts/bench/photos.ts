/**
 * Training vit-tiny at 224 px from photographs that do not fit into the cache: the share of the time that it waits
 * for them. `tsx scripts/bench/photos.ts --data DIR` takes a folder of photographs. Without it noise of several
 * octaves stands in, in the sizes of photographs on the web and from phones.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { decodeSource } from "../../src/data/decode.ts";
import { findImages } from "../../src/data/sources.ts";
import { train } from "../../src/index.ts";
import { secondsOf } from "./measure.ts";
import { noiseFolder, PHONE, WEB } from "./peers/images.ts";

const SIZE = 224;
/** As `train` has it. */
const SHORTER_SIDE = 256;
const BATCH = 16;

const { values } = parseArgs({
  options: { data: { type: "string" }, steps: { type: "string", default: "12" } },
});
const folders: Record<string, string> = values.data
  ? { photographs: values.data }
  : {
      "web photos": await noiseFolder("runs/bench", WEB),
      "phone photos": await noiseFolder("runs/bench", PHONE),
    };

console.log(`vit-tiny, ${SIZE} px, batches of ${BATCH}, no image in the cache

| images | ms to decode one | images/s | waiting for data |
|---|---|---|---|`);
for (const [what, data] of Object.entries(folders)) {
  const { files, root } = await findImages(data, {});
  const some = files.slice(0, 16).map((file) => join(root, file));
  const decode = async () => {
    for (const path of some) await decodeSource(path, SHORTER_SIDE);
  };
  await decode(); // the files are in the page cache from here on
  const ms = (1000 * (await secondsOf(decode))) / some.length;
  const out = await mkdtemp(join(tmpdir(), "photos-"));
  try {
    const { waitShare, imagesPerSecond } = await train({
      data,
      out: join(out, "run"),
      encoder: "vit-tiny",
      imageSize: SIZE,
      batch: BATCH,
      steps: Number(values.steps),
      cacheMb: 0,
    });
    const share = `${(100 * waitShare).toFixed(1)} %`;
    console.log(`| ${what}, ${files.length} | ${ms.toFixed(1)} | ${imagesPerSecond.toFixed(1)} | ${share} |`);
  } finally {
    await rm(out, { recursive: true, force: true });
  }
}
