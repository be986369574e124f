/**
 * What positives from time are worth where one image cannot tell: objects that turn, whose sides look nothing alike. The same
 * images, steps and batch with crops, frames and tracks; kNN of images on other backgrounds, and of the objects' backs by their
 * fronts. `tsx scripts/bench/positives.ts [--method moco] [--steps 400] [--seeds 2]` prints a Markdown table.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { probe, type TrainOptions, train } from "../../src/index.ts";
import { randomFor } from "../../src/random.ts";

const { values } = parseArgs({
  options: {
    out: { type: "string", default: "runs/positives" },
    method: { type: "string", default: "simclr" },
    set: { type: "string", default: "{}" },
    steps: { type: "string", default: "400" },
    "image-size": { type: "string", default: "16" },
    lr: { type: "string", default: "0.1" },
    seeds: { type: "string", default: "2" },
    sources: { type: "string", default: "crops,frames,tracks" },
  },
});
const { out } = values;
const output = { stream: process.stderr, quiet: false };

const SIDE = 32;
const OBJECTS = 20;
/** Of each object, each before a background of its own. */
const CLIPS = 6;
/** Of a clip: one turn. */
const FRAMES = 72;
const BATCH = 64;
/** A quarter of a turn. */
const WINDOW = FRAMES / 4;

type Color = readonly [number, number, number];
const colorOf = (random: ReturnType<typeof randomFor>): Color => [
  random.integer(256),
  random.integer(256),
  random.integer(256),
];

/** An object: a cylinder whose four sides have two colors each, in a pattern. */
function objectOf(id: number) {
  const random = randomFor("object", id);
  const sides = Array.from({ length: 4 }, () => ({
    colors: [colorOf(random), colorOf(random)] as const,
    pattern: random.integer(4),
    scale: 2 + random.integer(4),
  }));
  /** At an angle and a height, both from 0 to 1. */
  return (angle: number, y: number): Color => {
    const { colors, pattern, scale } = sides[Math.floor(angle * 4) % 4]!;
    const [u, v] = [Math.floor(((angle * 4) % 1) * scale), Math.floor(y * 2 * scale)];
    const second = [u % 2, v % 2, (u + v) % 2, Number(u === v % scale)][pattern];
    return colors[second ? 1 : 0];
  };
}

/** A background: a few waves of colors, which move: in a quarter of a turn it has changed. */
function backgroundOf(key: string) {
  const random = randomFor("background", key);
  const waves = Array.from({ length: 6 }, () => ({
    color: random.integer(3),
    x: random.uniform(-0.6, 0.6),
    y: random.uniform(-0.6, 0.6),
    phase: random.uniform(0, 6),
    speed: random.uniform(-0.6, 0.6),
  }));
  return (x: number, y: number, time: number): Color => {
    const color: [number, number, number] = [110, 110, 110];
    for (const wave of waves)
      color[wave.color]! += 20 * Math.sin(wave.x * x + wave.y * y + wave.speed * time + wave.phase);
    return color;
  };
}

interface Shot {
  readonly object: ReturnType<typeof objectOf>;
  readonly background: ReturnType<typeof backgroundOf>;
  /** From 0 to 1. */
  readonly angle: number;
  /** Of a clip: its frame. */
  readonly time: number;
  readonly left: number;
  readonly top: number;
}
const [WIDTH, HEIGHT] = [20, 24];

async function draw(file: string, { object, background, angle, time, left, top }: Shot): Promise<void> {
  const pixels = new Uint8Array(SIDE * SIDE * 3);
  for (let y = 0; y < SIDE; y++)
    for (let x = 0; x < SIDE; x++) {
      const [u, v] = [(2 * (x + 0.5 - left)) / WIDTH - 1, (y + 0.5 - top) / HEIGHT];
      const inside = Math.abs(u) < 1 && v >= 0 && v < 1;
      const color = inside
        ? object((angle + 1 + Math.asin(u) / (2 * Math.PI)) % 1, v).map(
            (c) => c * (0.5 + 0.5 * Math.sqrt(1 - u * u)),
          )
        : background(x, y, time);
      pixels.set(
        color.map((c) => Math.max(0, Math.min(255, Math.round(c)))),
        3 * (y * SIDE + x),
      );
    }
  await sharp(pixels, { raw: { width: SIDE, height: SIDE, channels: 3 } }).toFile(file);
}

/** Clips in `clips`, with boxes in tracks.csv. */
async function makeClips(): Promise<void> {
  const boxes = ["image,track,x,y,width,height"];
  for (let id = 0; id < OBJECTS; id++)
    for (let clip = 0; clip < CLIPS; clip++) {
      const random = randomFor("clip", id, clip);
      const background = backgroundOf(`${id} ${clip}`);
      const [start, sway, rise] = [random.uniform(), random.uniform(0, 6), random.uniform(0, 6)];
      const name = `${id}-${clip}`;
      await mkdir(join(out, "clips", name), { recursive: true });
      for (let i = 0; i < FRAMES; i++) {
        const left = 6 + 5 * Math.sin(sway + i / 9);
        const top = 4 + 3 * Math.sin(rise + i / 13);
        const file = `${name}/${String(i).padStart(3, "0")}.png`;
        const shot = { object: objectOf(id), background, angle: start + i / FRAMES, time: i, left, top };
        await draw(join(out, "clips", file), shot);
        boxes.push(`${file},${name},${left.toFixed(2)},${top.toFixed(2)},${WIDTH},${HEIGHT}`);
      }
    }
  await writeFile(join(out, "tracks.csv"), `${boxes.join("\n")}\n`);
}

/** Labelled images whose angles lie in a range, each before a background of its own. */
async function makeSet(set: string, each: number, from: number, to: number): Promise<void> {
  for (let id = 0; id < OBJECTS; id++) {
    const dir = join(out, set, String(id).padStart(2, "0"));
    await mkdir(dir, { recursive: true });
    for (let i = 0; i < each; i++) {
      const random = randomFor(set, id, i);
      const place = { left: random.uniform(1, 11), top: random.uniform(1, 7) };
      const background = backgroundOf(`${set} ${id} ${i}`);
      const angle = random.uniform(from, to);
      await draw(join(dir, `${i}.png`), { object: objectOf(id), background, angle, time: 0, ...place });
    }
  }
}

await rm(out, { recursive: true, force: true });
await makeClips();
await makeSet("some", 5, 0, 1);
await makeSet("any", 10, 0, 1);
// What is seen at an angle reaches a quarter of a turn to either side: these share nothing.
await makeSet("front", 5, -0.02, 0.02);
await makeSet("back", 10, 0.48, 0.52);

const sources: Readonly<Record<string, Partial<TrainOptions>>> = {
  crops: {},
  frames: { positives: "frames", window: `${WINDOW}`, far: `${FRAMES}` },
  tracks: { positives: "tracks", tracks: join(out, "tracks.csv"), window: `${WINDOW}` },
};
const rows: string[] = [];
const knn = async (encoder: string, train: string, test: string) =>
  (await probe({ encoder, kind: "knn", train: join(out, train), test: join(out, test) })).top1;
const mean = (all: readonly number[]) => all.reduce((a, b) => a + b, 0) / all.length;

async function row(name: string, steps: number, more: Partial<TrainOptions>): Promise<void> {
  const found: [any: number, back: number][] = [];
  let told = "";
  for (let seed = 0; seed < Number(values.seeds); seed++) {
    const run = join(out, `run-${name}-${seed}`);
    const settings = {
      method: values.method,
      encoder: "resnet20",
      imageSize: Number(values["image-size"]),
      batch: BATCH,
      lr: Number(values.lr),
      warmupEpochs: 0, // an epoch is longer with crops
      rank: false,
    };
    const config = JSON.parse(values.set);
    const result = await train(
      { ...settings, ...more, config, data: join(out, "clips"), out: run, steps, seed },
      { output },
    );
    told =
      steps > 0 ? `${result.imagesPerSecond.toFixed(0)} | ${(100 * result.waitShare).toFixed(1)} %` : " | ";
    found.push([await knn(run, "some", "any"), await knn(run, "front", "back")]);
  }
  const shown = (all: readonly number[]) =>
    `${mean(all).toFixed(1)} (${all.map((x) => x.toFixed(1)).join(", ")})`;
  rows.push(
    `| ${name} | ${shown(found.map(([any]) => any))} | ${shown(found.map(([, back]) => back))} | ${told} |`,
  );
}

await row("initialised", 0, {});
for (const name of values.sources.split(",")) await row(name, Number(values.steps), sources[name]!);
console.log(`| positives | kNN, any side | kNN, backs by fronts | items/s | waited |
|---|---|---|---|---|
${rows.join("\n")}`);
