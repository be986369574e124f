/**
 * Starts runs from the weights that weights.py wrote and compares their features with PyTorch's; then trains each for a step
 * and writes its weights, and its features, for timm. Usage: weights.ts DIR
 */

import { readdirSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { openEncoder } from "../../src/api/encoder.ts";
import { exportEncoder } from "../../src/api/export.ts";
import { train } from "../../src/api/train.ts";
import { randomFor } from "../../src/random.ts";

const TOLERANCE = 1e-4;

const [dir = "."] = process.argv.slice(2);
const data = join(dir, "photos");
await mkdir(data, { recursive: true });
for (let i = 0; i < 4; i++) {
  const random = randomFor("photo", i);
  const pixels = Uint8Array.from({ length: 256 * 256 * 3 }, () => random.integer(256));
  await sharp(pixels, { raw: { width: 256, height: 256, channels: 3 } }).toFile(join(data, `${i}.png`));
}

for (const file of readdirSync(dir).filter((name) => name.endsWith(".json"))) {
  const name = file.replace(/\.json$/, "");
  const { encoder, size, shape } = JSON.parse(await readFile(join(dir, file), "utf8"));
  const bytes = await readFile(join(dir, `${name}.features`));
  const wanted = new Float32Array(new Uint8Array(bytes).buffer); // [n, d]
  const images = await readFile(join(dir, `${name}.images`));
  const run = async (init: string, steps: number, out: string) => {
    await rm(out, { recursive: true, force: true });
    const settings = { method: "simclr", encoder, imageSize: size, batch: 4, rank: false };
    await train({ ...settings, data, init, steps, out });
    const opened = await openEncoder(join(out, "encoder.onnx"));
    const features = await opened.encode(images, shape); // [n, d]
    await opened.close();
    return features;
  };
  const [begun, ours] = [join(dir, `${name}-run`), join(dir, `${name}-ours`)];
  const found = await run(join(dir, `${name}.safetensors`), 0, begun);
  const off = distance(wanted, found, shape[0]);
  process.stdout.write(`${name}: ${off.toExponential(1)} off\n`);
  if (!(off <= TOLERANCE)) process.exitCode = 1;
  if (!name.startsWith("timm-")) continue;
  const trained = await run(begun, 1, ours);
  await exportEncoder(ours, { safetensors: true });
  await writeFile(join(ours, "features"), trained);
  for (const folder of [begun, join(ours, "checkpoints")]) await rm(folder, { recursive: true });
}

/** The greatest relative distance of a row [n, d]. */
function distance(wanted: Float32Array, found: Float32Array, n: number): number {
  if (wanted.length !== found.length) throw new Error(`${found.length} values, not ${wanted.length}`);
  const d = wanted.length / n;
  const rows = Array.from({ length: n }, (_, i) => {
    const [a, b] = [wanted, found].map((all) => all.subarray(i * d, (i + 1) * d)) as [
      Float32Array,
      Float32Array,
    ];
    return Math.hypot(...a.map((x, k) => x - b[k]!)) / Math.hypot(...a);
  });
  return Math.max(...rows);
}
