/** The demo's images: Google's emoji as an npm package has them, sorted into labelled folders. */

import { copyFile, mkdir, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

interface Emoji {
  readonly image: string;
  readonly category: string;
  readonly sort_order: number;
  readonly has_img_google: boolean;
}

/** Of each category, in the Unicode order, every third image is for testing: enough of them for a sure figure. */
const EVERY = 3;

/** Makes `train` and `test` under `dir` anew, one folder for each category. */
export async function demoData(dir: string): Promise<{ train: string; test: string }> {
  const parts = { train: join(dir, "train"), test: join(dir, "test") };
  const source = dirname(createRequire(import.meta.url).resolve("emoji-datasource-google/package.json"));
  const emoji = JSON.parse(await readFile(join(source, "emoji.json"), "utf8")) as Emoji[];
  const counts = new Map<string, number>();
  await rm(dir, { recursive: true, force: true });
  for (const { image, category, has_img_google: there } of emoji.sort(
    (a, b) => a.sort_order - b.sort_order,
  )) {
    if (!there) continue;
    const count = counts.get(category) ?? 0;
    counts.set(category, count + 1);
    const part = count % EVERY === EVERY - 1 ? parts.test : parts.train;
    const folder = join(part, category.replaceAll(/\W+/g, "-"));
    await mkdir(folder, { recursive: true });
    await copyFile(join(source, "img", "google", "64", image), join(folder, image));
  }
  return parts;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await demoData(process.argv[2]!);
