/**
 * What `audio-video` learns of spoken and written digits: retrieval on pairs that were held out, and kNN of the picture
 * encoder against its initialisation. `tsx scripts/bench/audio-video.ts --recordings DIR --digits DIR`, see
 * spoken-digits.ts for both; prints a Markdown table with a row for each seed.
 */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { embedPairs, type RetrievalOptions } from "../../src/api/retrieval.ts";
import { probe, retrieval, train } from "../../src/index.ts";
import { takeRows } from "../../src/probe/features.ts";
import { ranksOf, recallOf } from "../../src/probe/retrieval.ts";
import { randomFor } from "../../src/random.ts";
import { spokenDigits } from "./spoken-digits.ts";

const { values } = parseArgs({
  options: {
    recordings: { type: "string" },
    digits: { type: "string" },
    out: { type: "string", default: "runs/audio-video" },
    epochs: { type: "string", default: "40" },
    seeds: { type: "string", default: "3" },
  },
});
const { recordings, digits, out } = values;
if (!recordings || !digits || !existsSync(recordings) || !existsSync(digits)) {
  console.error(
    "audio-video: expected --recordings DIR with WAV files and --digits DIR with 0.json to 9.json",
  );
  process.exit(2);
}
const output = { stream: process.stderr, quiet: false };
const data = await spokenDigits(recordings, digits, join(out, "data"));
const settings = { method: "audio-video", encoder: "resnet20", imageSize: 16, batch: 128, lr: 1e-3 } as const;
const config = { seconds: 1, flip: 0 };

async function trained(name: string, seed: number, length: { epochs: number } | { steps: number }) {
  const run = join(out, name);
  await rm(run, { recursive: true, force: true });
  await train({ ...settings, config, data: data.train, out: run, seed, ...length }, { output });
  return run;
}

const knn = async (encoder: string, test: string) =>
  (await probe({ encoder, kind: "knn", train: data.train, test })).top1;

/** Galleries of ten pairs, one of each digit. */
const GALLERIES = 100;

/**
 * Pictures of one digit are alike, so that its own can be told among those of other digits alone: recall at 1 in galleries of
 * a pair of each digit, from audio to image, by chance 10 %.
 */
async function byDigit(options: RetrievalOptions): Promise<number> {
  const { image, audio, kept, found } = await embedPairs(options, { output });
  const digitOf = (row: number) => found.files[kept[row]!]!.split("/")[0]!;
  const rows = new Map<string, number[]>();
  for (let row = 0; row < kept.length; row++)
    rows.set(digitOf(row), [...(rows.get(digitOf(row)) ?? []), row]);
  let sum = 0;
  for (let i = 0; i < GALLERIES; i++) {
    const random = randomFor("gallery", i);
    const gallery = [...rows.values()].map((own) => own[random.integer(own.length)]!);
    sum += recallOf(await ranksOf(takeRows(audio, gallery), takeRows(image, gallery), 1)).recall1;
  }
  return sum / GALLERIES;
}

const percent = (value: number) => value.toFixed(1);
console.log(`| seed | audio to image, recall at 1 / 5 / 10 | image to audio | one of each digit, recall at 1 | kNN of pictures (as initialised) | kNN of sounds |
|---|---|---|---|---|---|`);
for (let seed = 0; seed < Number(values.seeds); seed++) {
  const first = await knn(await trained(`start-${seed}`, seed, { steps: 0 }), data.pictures);
  const run = await trained(`seed-${seed}`, seed, { epochs: Number(values.epochs) });
  const options = { encoder: run, data: data.test };
  const { audioToImage, imageToAudio, chance } = await retrieval(options, { output });
  const [there, back, random] = [audioToImage, imageToAudio, chance].map(({ recall1, recall5, recall10 }) =>
    [recall1, recall5, recall10].map(percent).join(" / "),
  );
  const digit = percent(await byDigit(options));
  const pictures = `${percent(await knn(run, data.pictures))} (${percent(first)})`;
  const sounds = percent(await knn(join(run, "audio-encoder.onnx"), data.test));
  console.log(`| ${seed} | ${there} | ${back} | ${digit} | ${pictures} | ${sounds} |`);
  if (seed === 0) console.log(`| chance | ${random} | ${random} | 10.0 | 10.0 | 10.0 |`);
}
