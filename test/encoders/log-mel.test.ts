import { readFileSync } from "node:fs";
import { expect } from "chai";
import { framesIn, logMel } from "../../src/encoders/log-mel.ts";
import { input } from "../../src/graph/tensor.ts";
import type { Spectrogram } from "../../src/spec.ts";
import { compile, floats } from "../support/run.ts";

const RATE = 16_000;
const USUAL: Spectrogram = { window: 400, hop: 160, mels: 64, low: 60, high: 7800 };

/** Of n sounds [n, samples]: [n][band][frame]. */
async function spectrograms(sounds: readonly Float32Array[], settings: Spectrogram, rate = RATE) {
  const [n, samples] = [sounds.length, sounds[0]!.length];
  const run = await compile({ bands: logMel(input("audio", "float32", ["n", samples]), rate, settings) });
  const all = sounds.flatMap((sound) => Array.from(sound));
  const { bands } = await run({ audio: floats(all, [n, samples]) });
  const [, mels, frames] = bands!.shape as [number, number, number];
  expect(bands!.shape).to.deep.equal([n, settings.mels, framesIn(samples, settings)]);
  const at = (i: number, band: number, frame: number) =>
    bands!.data[(i * mels + band) * frames + frame] as number;
  return sounds.map((_, i) =>
    Array.from({ length: mels }, (_, band) =>
      Array.from({ length: frames }, (_, frame) => at(i, band, frame)),
    ),
  );
}

/** By the definitions, one frame after the other. */
function naive(sound: Float32Array, { window, hop, mels, low, high }: Spectrogram, rate: number) {
  const size = 2 ** Math.ceil(Math.log2(window));
  const mel = (hertz: number) => 2595 * Math.log10(1 + hertz / 700);
  const place = (hertz: number) => (mel(hertz) - mel(low)) / ((mel(high) - mel(low)) / (mels + 1));
  const edge = (i: number) =>
    700 * (10 ** ((mel(low) + (i * (mel(high) - mel(low))) / (mels + 1)) / 2595) - 1);
  const result = Array.from({ length: mels }, () => [] as number[]);
  for (let from = 0; from + window <= sound.length; from += hop) {
    const energies = new Array<number>(mels).fill(0);
    for (let bin = 0; bin <= size / 2; bin++) {
      let [re, im] = [0, 0];
      for (let k = 0; k < window; k++) {
        const x = sound[from + k]! * Math.sin((Math.PI * k) / window) ** 2;
        re += x * Math.cos((2 * Math.PI * bin * k) / size);
        im += x * Math.sin((2 * Math.PI * bin * k) / size);
      }
      const hertz = (bin * rate) / size;
      const at = place(hertz);
      for (const band of [Math.floor(at) - 1, Math.floor(at)]) {
        if (band < 0 || band >= mels) continue;
        const [left, centre, right] = [edge(band), edge(band + 1), edge(band + 2)];
        const weight = hertz < centre ? (hertz - left) / (centre - left) : (right - hertz) / (right - centre);
        energies[band]! += weight * (re ** 2 + im ** 2);
      }
    }
    energies.forEach((energy, band) => {
      result[band]!.push(Math.log(energy + 1e-6));
    });
  }
  return result;
}

function expectClose(found: readonly (readonly number[])[], wanted: readonly (readonly number[])[]) {
  expect(found).to.have.length(wanted.length);
  found.forEach((row, band) => {
    expect(row).to.have.length(wanted[band]!.length);
    row.forEach((value, frame) => {
      expect(value, `band ${band}, frame ${frame}`).to.be.closeTo(wanted[band]![frame]!, 2e-3);
    });
  });
}

const sweep = (samples: number, rate: number, from: number) =>
  Float32Array.from(
    { length: samples },
    (_, i) => 0.5 * Math.sin((2 * Math.PI * (from * i + (i * i) / 40)) / rate) + 0.05 * Math.sin(i * i),
  );

describe("encoders/log-mel", () => {
  it("is librosa's", async () => {
    const { samples, bands } = JSON.parse(readFileSync("test/fixtures/log-mel.json", "utf8"));
    const sound = Float32Array.from({ length: samples }, (_, i) => {
      const t = i / RATE;
      const chirp = Math.sin(2 * Math.PI * (300 * t + 8000 * t ** 2));
      return 0.4 * chirp + (t > 0.03 ? 0.2 * Math.sin(2 * Math.PI * 110 * t) : 0);
    });
    const [found] = await spectrograms([sound], USUAL);
    expectClose(found!, bands);
  });

  it("is the naive computation, of each sound by itself, whatever divides window and hop", async () => {
    const settings: readonly (readonly [Spectrogram, number])[] = [
      [{ window: 400, hop: 160, mels: 20, low: 60, high: 7800 }, 16_000],
      [{ window: 64, hop: 64, mels: 12, low: 0, high: 4000 }, 8000], // no overlap, a power of two
      [{ window: 90, hop: 25, mels: 8, low: 100, high: 3000 }, 8000], // blocks of 5
      [{ window: 31, hop: 70, mels: 8, low: 200, high: 4000 }, 8000], // samples between frames that none takes
    ];
    for (const [spectrogram, rate] of settings) {
      const sounds = [sweep(709, rate, 200), sweep(709, rate, 900)];
      const found = await spectrograms(sounds, spectrogram, rate);
      sounds.forEach((sound, i) => {
        expectClose(found[i]!, naive(sound, spectrogram, rate));
      });
    }
  });

  it("puts a tone into its band and silence at the floor", async () => {
    const tone = Float32Array.from({ length: 800 }, (_, i) => Math.sin((2 * Math.PI * 1000 * i) / RATE));
    const [heard, silent] = await spectrograms([tone, new Float32Array(800)], USUAL);
    const mel = (hertz: number) => Math.log10(1 + hertz / 700);
    const place = (65 * (mel(1000) - mel(60))) / (mel(7800) - mel(60)) - 1;
    const loudest = heard!.map((row) => row[0]!).reduce((best, x, i, all) => (x > all[best]! ? i : best), 0);
    expect(loudest).to.be.within(Math.floor(place), Math.ceil(place));
    for (const row of silent!) for (const value of row) expect(value).to.be.closeTo(Math.log(1e-6), 1e-5);
  });
});
