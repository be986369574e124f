/**
 * What pretraining on images that nobody curated costs against curated ones of the same count, and what wins some of it
 * back: MoCo (and SwAV for its multi-crop) on resnet20, kNN on clean test images. `tsx scripts/bench/curation.ts --data
 * DIR`, DIR with labelled folders train/ and test/ of images of one object; prints a Markdown table. Results go to
 * results.jsonl under --out, and runs that are there are not trained again.
 */
import { existsSync } from "node:fs";
import { appendFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { findLabelledImages } from "../../src/data/sources.ts";
import { checkData, probe, train } from "../../src/index.ts";
import { type Random, randomFor } from "../../src/random.ts";

const { values } = parseArgs({
  options: {
    data: { type: "string", default: "data" },
    out: { type: "string", default: "runs/curation" },
    images: { type: "string", default: "5000" },
    steps: { type: "string", default: "200" },
    seeds: { type: "string", default: "3" },
    only: { type: "string", default: "" },
  },
});
const { data, out } = values;
const [images, steps, seeds] = [Number(values.images), Number(values.steps), Number(values.seeds)];
const output = { stream: process.stderr, quiet: false };

/** Pixels: of an image, and of a scene of several. */
const [SIDE, SCENE] = [32, 64];
/** Objects of a scene, images of the frequent classes for one of the others, shares of all images. */
const [OBJECTS, IMBALANCE, COPIES, MEMES] = [4, 10, 0.3, 0.2];

/** What is wrong with a set of images. */
interface Wrong {
  readonly clutter?: boolean;
  readonly imbalance?: boolean;
  readonly copies?: boolean;
  readonly memes?: boolean;
}
const ALL: Wrong = { clutter: true, imbalance: true, copies: true, memes: true };

if (!existsSync(join(data, "train"))) {
  console.error(`${data}: expected labelled folders train/ and test/; give --data DIR`);
  process.exit(2);
}
const sources = await findLabelledImages(join(data, "train"));
const byClass = sources.classes.map((_, label) =>
  sources.files.filter((_, i) => sources.labels[i] === label),
);

/** Classes of an image, every second one frequent where they are not in balance. */
function drawFile(random: Random, { imbalance }: Wrong): string {
  const weights = byClass.map((_, label) => (imbalance && label % 2 === 0 ? IMBALANCE : 1));
  let left = random.uniform(
    0,
    weights.reduce((a, b) => a + b),
  );
  const label = weights.findIndex((weight) => {
    left -= weight;
    return left < 0;
  });
  const files = byClass[Math.max(0, label)]!;
  return join(sources.root, files[random.integer(files.length)]!);
}

const object = (path: string) => sharp(path).resize(SIDE, SIDE, { fit: "cover" }).png().toBuffer();

async function pictureOf(random: Random, wrong: Wrong): Promise<Buffer> {
  if (!wrong.clutter) return object(drawFile(random, wrong));
  const tiles = [];
  for (let i = 0; i < OBJECTS; i++) {
    const [left, top] = [random.integer(SCENE - SIDE + 1), random.integer(SCENE - SIDE + 1)];
    tiles.push({ input: await object(drawFile(random, wrong)), left, top });
  }
  const background = { r: random.integer(256), g: random.integer(256), b: random.integer(256) };
  return sharp({ create: { width: SCENE, height: SCENE, channels: 3, background } })
    .composite(tiles)
    .png()
    .toBuffer();
}

/** A plain ground with lines of bars, as of text. */
function memeOf(random: Random, side: number): Promise<Buffer> {
  const ground = Array.from({ length: 3 }, () => random.integer(256));
  const ink = ground.map((value) => (value + 128) % 256);
  const pixels = Uint8Array.from({ length: side * side * 3 }, (_, i) => ground[i % 3]!);
  for (let y = 3; y < side - 3; y += 5 + random.integer(8)) {
    for (let x = 3; x < side - 4; x += 2 + random.integer(3)) {
      const [width, height] = [1 + random.integer(2), 2 + random.integer(2)];
      for (let dy = 0; dy < height; dy++)
        for (let dx = 0; dx < width; dx++) pixels.set(ink, 3 * ((y + dy) * side + x + dx));
    }
  }
  return sharp(pixels, { raw: { width: side, height: side, channels: 3 } })
    .png()
    .toBuffer();
}

/** Encoded again, cut a little or in another light. */
function copyOf(picture: Buffer, random: Random, side: number): Promise<Buffer> {
  const kept = side - Math.round((side * random.uniform(0, 2)) / 16);
  const place = () => random.integer(side - kept + 1);
  return sharp(picture)
    .extract({ left: place(), top: place(), width: kept, height: kept })
    .resize(side, side, { fit: "fill" })
    .linear(random.uniform(0.85, 1.15), 0)
    .jpeg({ quality: 70 + random.integer(26) })
    .toBuffer();
}

/** Makes a set, unless it is there; its folder. */
async function setOf(name: string, wrong: Wrong): Promise<string> {
  const dir = join(out, "sets", name);
  if (existsSync(join(dir, "done"))) return dir;
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  const memes = wrong.memes ? Math.round(MEMES * images) : 0;
  const copies = wrong.copies ? Math.round(COPIES * images) : 0;
  const distinct = images - memes - copies;
  for (let i = 0; i < images; i++) {
    const random = randomFor("curation", i);
    const original = i < distinct + memes ? undefined : random.integer(distinct);
    if (original !== undefined) {
      const picture = await pictureOf(randomFor("curation", original), wrong);
      await writeFile(join(dir, `${i}.jpg`), await copyOf(picture, random, wrong.clutter ? SCENE : SIDE));
    } else {
      const side = wrong.clutter ? SCENE : SIDE;
      const picture = i < distinct ? await pictureOf(random, wrong) : await memeOf(random, side);
      await writeFile(join(dir, `${i}.png`), picture);
    }
  }
  await writeFile(join(dir, "done"), "");
  return dir;
}

/** The images of a set that `data check` keeps. */
async function checked(dir: string): Promise<string> {
  const writeList = join(out, "sets", "kept.txt");
  const drop = ["broken", "duplicates", "near", "flat"] as const;
  const { kept, duplicates, near, flat } = await checkData(dir, { writeList, drop }, { output });
  const copies = [...duplicates, ...near].reduce((sum, { files }) => sum + files.length - 1, 0);
  console.error(`data check: ${copies} copies and ${flat.length} flat images found, ${kept} kept`);
  return writeList;
}

interface Arm {
  readonly name: string;
  readonly data: () => Promise<string>;
  readonly method?: "moco" | "swav";
  readonly config?: Readonly<Record<string, number | number[]>>;
}

const wrong = () => setOf("all", ALL);
const SWAV = { prototypes: 128, queue: 1024, queueStart: 2 };
const arms: readonly Arm[] = [
  { name: "curated", data: () => setOf("curated", {}) },
  { name: "all of these", data: wrong },
  { name: "all, duplicates and flat images dropped", data: async () => checked(await wrong()) },
  { name: "all, least crop 0.5", data: wrong, config: { cropScale: 0.5 } },
  { name: "all, both", data: async () => checked(await wrong()), config: { cropScale: 0.5 } },
  { name: "several objects an image", data: () => setOf("clutter", { clutter: true }) },
  { name: "classes 10 : 1", data: () => setOf("imbalance", { imbalance: true }) },
  { name: "30 % copies", data: () => setOf("copies", { copies: true }) },
  { name: "20 % memes", data: () => setOf("memes", { memes: true }) },
  { name: "SwAV, curated", data: () => setOf("curated", {}), method: "swav", config: SWAV },
  { name: "SwAV, all of these", data: wrong, method: "swav", config: SWAV },
  {
    name: "SwAV, all, four small crops",
    data: wrong,
    method: "swav",
    config: { ...SWAV, smallCrops: 4, smallSize: 16, smallCropScale: [0.05, 0.2] },
  },
];

interface Result {
  readonly name: string;
  readonly seed: number;
  readonly knn: number;
}
const record = join(out, "results.jsonl");
await mkdir(out, { recursive: true });
const lines = existsSync(record) ? (await readFile(record, "utf8")).trim().split("\n") : [];
const results: Result[] = lines.filter((line) => line !== "").map((line) => JSON.parse(line));

async function knnOf(run: string): Promise<number> {
  const folders = { train: join(data, "train"), test: join(data, "test"), limit: 5000 };
  return (await probe({ encoder: run, kind: "knn", k: 20, ...folders })).top1;
}

for (let seed = 0; seed < seeds; seed++) {
  for (const { name, data: set, method = "moco", config = {} } of arms) {
    if (!name.includes(values.only) || results.some((one) => one.name === name && one.seed === seed))
      continue;
    const run = join(out, "run");
    const settings = { method, encoder: "resnet20", imageSize: 32, batch: 128, seed } as const;
    await rm(run, { recursive: true, force: true });
    const options = { ...settings, config, data: await set(), out: run, steps, guard: false, rank: false };
    await train(options, { output });
    const result = { name, seed, knn: await knnOf(run) };
    results.push(result);
    await appendFile(record, `${JSON.stringify(result)}\n`);
    console.error(JSON.stringify(result));
  }
}

const rows = arms.flatMap(({ name }) => {
  const own = results.filter((one) => one.name === name).map(({ knn }) => knn);
  if (own.length === 0) return [];
  const mean = own.reduce((a, b) => a + b) / own.length;
  return [`| ${name} | ${mean.toFixed(1)} | ${own.map((knn) => knn.toFixed(1)).join(", ")} |`];
});
console.log(`| images | kNN | seeds |
|---|---|---|
${rows.join("\n")}`);
