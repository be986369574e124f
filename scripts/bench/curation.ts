/**
 * What pretraining on images that nobody curated costs against curated ones, and what wins some of it back: MoCo (and SwAV
 * for its multi-crop) on resnet20 at 32 px, as many images and steps in each arm, kNN on clean test images. Each arm changes
 * one thing, each seed draws sets of its own. `tsx scripts/bench/curation.ts --data DIR`, DIR with labelled folders train/
 * and test/ of images of one object; prints a Markdown table. Results go to results.jsonl under --out, with all settings;
 * runs that are there are not trained again.
 */
import { existsSync } from "node:fs";
import { appendFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { findImages, findLabelledImages } from "../../src/data/sources.ts";
import { unknownName } from "../../src/errors.ts";
import { checkData, type FaultName, probe, train } from "../../src/index.ts";
import { type Random, randomFor } from "../../src/random.ts";

const { values } = parseArgs({
  options: {
    data: { type: "string", default: "data" },
    out: { type: "string", default: "runs/curation" },
    images: { type: "string", default: "2000" },
    steps: { type: "string", default: "200" },
    batch: { type: "string", default: "128" },
    /** Test images, and as many labelled ones that they are compared with. */
    test: { type: "string", default: "2000" },
    threads: { type: "string", default: "1" },
    seeds: { type: "string", default: "3" },
    /** Names of arms, between commas. */
    only: { type: "string" },
  },
});
const { out, seeds, only, ...settings } = values;
const [images, steps, batch] = [Number(settings.images), Number(settings.steps), Number(settings.batch)];
const [test, threads] = [Number(settings.test), Number(settings.threads)];
const output = { stream: process.stderr, quiet: false };

/** Pixels: of an object, which is the whole image where there is one, and of a scene. */
const [OBJECT, SCENE] = [32, 64];

/** What is wrong with a set of images. */
interface Wrong {
  /** In a scene. @default an image is one object */
  readonly objects?: number;
  /** Images of a frequent class for one of the others. @default 1 */
  readonly imbalance?: number;
  /** Shares of the images. @default 0 */
  readonly copies?: number;
  readonly memes?: number;
}

interface Arm {
  readonly name: string;
  readonly wrong?: Wrong;
  /** Share of `images`. @default 1 */
  readonly share?: number;
  /** What `data check` leaves out. @default it is not asked */
  readonly drop?: readonly FaultName[];
  readonly method?: "moco" | "swav";
  readonly config?: Readonly<Record<string, number | number[]>>;
  readonly cropOverlap?: number;
  /** The encoder as it is initialised. */
  readonly untrained?: boolean;
}

const CLUTTER: Wrong = { objects: 4 };
const [IMBALANCE, COPIES, MEMES] = [{ imbalance: 10 }, { copies: 0.3 }, { memes: 0.3 }];
const ALL: Wrong = { ...CLUTTER, ...IMBALANCE, ...COPIES, ...MEMES };
const [LARGER, OVERLAP] = [{ config: { cropScale: 0.5 } }, { cropOverlap: 0.8 }];
const MULTI_CROP = { config: { smallCrops: 4, smallSize: 16, smallCropScale: [0.05, 0.2] } };

const arms: readonly Arm[] = [
  { name: "untrained", untrained: true },
  { name: "curated" },
  { name: "clutter", wrong: CLUTTER },
  { name: "clutter + least crop 0.5", wrong: CLUTTER, ...LARGER },
  { name: "clutter + overlap 0.8", wrong: CLUTTER, ...OVERLAP },
  { name: "copies", wrong: COPIES },
  { name: "copies dropped", wrong: COPIES, drop: ["duplicates", "near"] },
  { name: "memes", wrong: MEMES },
  { name: "memes dropped", wrong: MEMES, drop: ["flat"] },
  { name: "fewer curated", share: 0.7 }, // as many as are left where copies or memes are dropped
  { name: "imbalance", wrong: IMBALANCE },
  { name: "all", wrong: ALL },
  { name: "all + memes dropped + least crop 0.5", wrong: ALL, drop: ["flat"], ...LARGER },
  { name: "scenes of one object", wrong: { objects: 1 } },
  { name: "swav curated", method: "swav" },
  { name: "swav clutter", method: "swav", wrong: CLUTTER },
  { name: "swav clutter + multi-crop", method: "swav", wrong: CLUTTER, ...MULTI_CROP },
];
/** MoCo's queue is shorter than an epoch of any arm, lest an image's own earlier keys be negatives. */
const CONFIG = {
  moco: { queue: 512 },
  swav: { prototypes: 128, queue: 1024, queueStart: 2 },
} as const;
const configOf = ({ method = "moco", config }: Arm) => ({ ...CONFIG[method], ...config });
const referenceOf = ({ method }: Arm) => (method === "swav" ? "swav curated" : "curated");

function end(message: string): never {
  console.error(message);
  process.exit(2);
}
if (!existsSync(join(settings.data, "train")))
  end(`${settings.data}: expected labelled folders train/ and test/; give --data DIR`);
const names = arms.map(({ name }) => name);
const chosen = only === undefined ? names : only.split(",");
for (const name of chosen) if (!names.includes(name)) end(unknownName("arm", name, names).message);

const sources = await findLabelledImages(join(settings.data, "train"));
const byClass = sources.classes.map((_, label) =>
  sources.files.filter((_, i) => sources.labels[i] === label).map((file) => join(sources.root, file)),
);

/** Files of `count` objects, each once, in random order; every second class is frequent where they are not in balance. */
function objectsOf(count: number, seed: number, { imbalance = 1 }: Wrong): string[] {
  const weights = byClass.map((_, label) => (label % 2 === 0 ? imbalance : 1));
  const total = weights.reduce((a, b) => a + b);
  let before = 0;
  const files = byClass.flatMap((all, label) => {
    const from = Math.round((count * before) / total);
    before += weights[label]!;
    const wanted = Math.round((count * before) / total) - from;
    if (wanted > all.length)
      end(`${sources.classes[label]}: expected ${wanted} images, found ${all.length}; give fewer --images`);
    return randomFor("objects", seed, label).shuffled(all).slice(0, wanted);
  });
  return randomFor("order", seed).shuffled(files);
}

/** An image of the objects: a scene, or the only one by itself. */
async function pictureOf(files: readonly string[], random: Random, { objects }: Wrong): Promise<Buffer> {
  const tiles = await Promise.all(
    files.map((file) => sharp(file).resize(OBJECT, OBJECT, { fit: "cover" }).png().toBuffer()),
  );
  if (objects === undefined) return tiles[0]!;
  const place = () => random.integer(SCENE - OBJECT + 1);
  const placed = tiles.map((input) => ({ input, left: place(), top: place() }));
  const background = { r: random.integer(256), g: random.integer(256), b: random.integer(256) };
  return sharp({ create: { width: SCENE, height: SCENE, channels: 3, background } })
    .composite(placed)
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

/** A folder with a set, made anew. */
async function makeSet(seed: number, { wrong = {}, share = 1 }: Arm): Promise<string> {
  const dir = join(out, "set");
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  const count = Math.round(share * images);
  const [copies, memes] = [Math.round((wrong.copies ?? 0) * count), Math.round((wrong.memes ?? 0) * count)];
  const { objects = 1 } = wrong;
  const side = wrong.objects === undefined ? OBJECT : SCENE;
  const distinct = count - copies - memes;
  const files = objectsOf(distinct * objects, seed, wrong);
  const pictures: Buffer[] = [];
  for (let i = 0; i < distinct; i++) {
    const own = files.slice(i * objects, (i + 1) * objects);
    pictures.push(await pictureOf(own, randomFor("picture", seed, i), wrong));
    await writeFile(join(dir, `picture-${i}.png`), pictures[i]!);
  }
  for (let i = 0; i < memes; i++)
    await writeFile(join(dir, `meme-${i}.png`), await memeOf(randomFor("meme", seed, i), side));
  for (let i = 0; i < copies; i++) {
    const random = randomFor("copy", seed, i);
    const copy = await copyOf(pictures[random.integer(distinct)]!, random, side);
    await writeFile(join(dir, `copy-${i}.jpg`), copy);
  }
  return dir;
}

/** The list of a set's images that `data check` keeps. */
async function checked(set: string, drop: readonly FaultName[]): Promise<string> {
  const writeList = join(out, "kept.txt");
  await checkData(set, { drop, writeList }, { output });
  return writeList;
}

async function measure(arm: Arm, seed: number): Promise<Result> {
  const { drop, method = "moco", cropOverlap, untrained } = arm;
  const set = await makeSet(seed, arm);
  const data = drop ? await checked(set, drop) : set;
  const run = join(out, "run");
  await rm(run, { recursive: true, force: true });
  const trained = {
    ...{ method, encoder: "resnet20", imageSize: 32, config: configOf(arm), cropOverlap },
    ...{ data, out: run, steps: untrained ? 0 : steps, batch, seed, threads, guard: false, rank: false },
  };
  await train(trained, { output });
  const folders = { train: join(settings.data, "train"), test: join(settings.data, "test"), limit: test };
  const { top1 } = await probe({ encoder: run, kind: "knn", k: 20, threads, ...folders });
  return { of: keyOf(arm, seed), images: (await findImages(data)).files.length, knn: top1 };
}

const keyOf = (arm: Arm, seed: number) => ({ ...settings, ...arm, config: configOf(arm), seed });

interface Result {
  /** All that it depends on. */
  readonly of: ReturnType<typeof keyOf>;
  /** That were trained on. */
  readonly images: number;
  /** Top-1, %. */
  readonly knn: number;
}

const record = join(out, "results.jsonl");
await mkdir(out, { recursive: true });
const lines = existsSync(record) ? (await readFile(record, "utf8")).split("\n") : [];
const results = lines.filter((line) => line !== "").map((line) => JSON.parse(line) as Result);
const resultOf = (arm: Arm, seed: number) => {
  const of = JSON.stringify(keyOf(arm, seed));
  return results.find((result) => JSON.stringify(result.of) === of);
};

for (let seed = 0; seed < Number(seeds); seed++)
  for (const arm of arms) {
    if (!chosen.includes(arm.name) || resultOf(arm, seed)) continue;
    const result = await measure(arm, seed);
    results.push(result);
    await appendFile(record, `${JSON.stringify(result)}\n`);
    console.error(`${arm.name}: seed ${seed}, ${result.images} images, kNN ${result.knn.toFixed(1)}`);
  }

const meanOf = (all: readonly number[]) => all.reduce((a, b) => a + b, 0) / all.length;
/** Mean and standard deviation. */
function spread(all: readonly number[], signed = ""): string {
  if (all.length === 0) return "";
  const mean = meanOf(all);
  const deviation = Math.sqrt(all.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (all.length - 1));
  return `${mean > 0 ? signed : ""}${mean.toFixed(1)}${all.length > 1 ? ` (${deviation.toFixed(1)})` : ""}`;
}

const rows = arms.flatMap((arm) => {
  const own = Array.from({ length: Number(seeds) }, (_, seed) => resultOf(arm, seed));
  const there = own.filter((result) => result !== undefined);
  if (there.length === 0) return [];
  const reference = arms.find(({ name }) => name === referenceOf(arm))!;
  const gains = own.flatMap((result, seed) => {
    const curated = resultOf(reference, seed);
    return result && curated && arm !== reference ? [result.knn - curated.knn] : [];
  });
  const knn = there.map((result) => result.knn);
  const each = knn.map((value) => value.toFixed(1)).join(", ");
  const count = meanOf(there.map((result) => result.images)).toFixed(0);
  return [`| ${arm.name} | ${count} | ${spread(knn)} | ${spread(gains, "+")} | ${each} |`];
});
console.log(`| images | count | kNN | against curated | seeds |
|---|---|---|---|---|
${rows.join("\n")}`);
