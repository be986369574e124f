import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect } from "chai";
import { decodeAudio } from "../../src/data/audio.ts";
import { middlePart } from "../../src/data/audio-part.ts";
import { drawAudio } from "../../src/train/draws.ts";
import { toneWav } from "../support/wav.ts";
import { failure, temporaryFolder } from "./folder.ts";

const installed = spawnSync("ffmpeg", ["-version"]).status === 0;

/** How many times it crosses zero upwards a second. */
function pitch(samples: Float32Array, rate: number): number {
  let count = 0;
  for (let i = 1; i < samples.length; i++) if (samples[i - 1]! < 0 && samples[i]! >= 0) count++;
  return (count * rate) / samples.length;
}

describe("data/audio", () => {
  const folder = temporaryFolder();

  it("gives mono samples at the rate asked for", async () => {
    const path = await folder.write("a.wav", toneWav(400, 0.5, 8000));
    const samples = await decodeAudio(path, 16_000);
    expect(samples).to.have.length(8000);
    expect(pitch(samples, 16_000)).to.be.closeTo(400, 4);
    expect(await failure(decodeAudio(await folder.write("b.wav", "RIFF"), 16_000))).to.match(
      /b\.wav: expected a WAV file .*, found something else$/,
    );
    expect(await failure(decodeAudio(join(folder.path, "none.wav"), 16_000))).to.match(
      /none\.wav: expected audio that can be decoded, found no such file or directory \(ENOENT\)$/,
    );
    expect(
      await failure(decodeAudio(await folder.write("long.wav", toneWav(1, 400, 1000)), 192_000)),
    ).to.match(/long\.wav: expected audio that can be decoded, found 400 s; cut it into shorter ones$/);
  });

  describe("by ffmpeg", () => {
    before(function () {
      if (!installed) this.skip();
    });

    it("reads what is not WAV, and refuses what it cannot read in one line", async () => {
      const wav = await folder.write("c.wav", toneWav(600, 0.5));
      const flac = join(folder.path, "c.flac");
      expect(spawnSync("ffmpeg", ["-v", "error", "-y", "-i", wav, flac]).status).to.equal(0);
      const samples = await decodeAudio(flac, 8000);
      expect(samples).to.have.length(4000);
      expect(pitch(samples, 8000)).to.be.closeTo(600, 4);
      // So short that Node has its bytes in memory that they share with others.
      const short = await folder.write("short.wav", toneWav(600, 0.05, 8000));
      const aiff = join(folder.path, "short.aiff");
      expect(spawnSync("ffmpeg", ["-v", "error", "-y", "-i", short, aiff]).status).to.equal(0);
      expect(await decodeAudio(aiff, 8000)).to.deep.equal(await decodeAudio(short, 8000));
      const message = await failure(decodeAudio(await folder.write("d.mp3", "no such sound"), 8000));
      expect(message).to.match(/d\.mp3: expected audio that can be decoded, found .+/);
      expect(message).not.to.contain("\n");
    });

    it("reads no other file that a playlist names", async () => {
      await folder.write("own.wav", toneWav(600, 0.5));
      const playlist = `#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://${folder.path}/own.wav\n#EXT-X-ENDLIST\n`;
      expect(await failure(decodeAudio(await folder.write("e.m4a", playlist), 8000))).to.match(
        /e\.m4a: expected audio that can be decoded, found /,
      );
    });
  });

  it("says how to get ffmpeg where it is missing", async () => {
    const path = process.env.PATH;
    process.env.PATH = folder.path;
    try {
      expect(await failure(decodeAudio(await folder.write("f.mp3", "x"), 8000))).to.match(
        /f\.mp3: expected the program ffmpeg to read it with, found none; install FFmpeg \(apt install ffmpeg, brew install ffmpeg, or ffmpeg\.org\), or give images in place of videos, and WAV files$/,
      );
    } finally {
      process.env.PATH = path;
    }
  });

  it("takes the middle, or lays a shorter one into the middle of silence", () => {
    const audio = Float32Array.of(1, 2, 3, 4, 5);
    expect([...middlePart(audio, 3)]).to.deep.equal([2, 3, 4]);
    expect([...middlePart(audio, 9)]).to.deep.equal([0, 0, 1, 2, 3, 4, 5, 0, 0]);
  });

  it("draws parts by seed, epoch and clip alone: within a long clip, a whole short one, as loud as told", () => {
    const long = Float32Array.from({ length: 50 }, (_, i) => 100 + i);
    const short = Float32Array.of(1, 1, 1);
    const drawn = (seed: number, epoch: number, indices: readonly number[]) => {
      const audio = indices.map((index) => (index === 7 ? short : long));
      const rows = drawAudio({ samples: 8, volume: 0.1 }, seed, { indices, epoch, audio });
      return indices.map((_, i) => [...rows.subarray(i * 8, (i + 1) * 8)]);
    };
    const [starts, factors] = [new Set<number>(), new Set<number>()];
    for (let epoch = 0; epoch < 300; epoch++) {
      const [first, own] = drawn(1, epoch, [3, 7]) as [number[], number[]];
      const factor = first[1]! - first[0]!;
      expect(factor).to.be.within(0.9 - 1e-4, 1.1 + 1e-4);
      factors.add(factor);
      const start = Math.round(first[0]! / factor) - 100;
      starts.add(start);
      expect(start).to.be.within(0, 42);
      first.forEach((x, i) => {
        expect(x).to.be.closeTo(factor * (100 + start + i), 0.02);
      });
      expect(own.filter((x) => x !== 0)).to.have.length(3);
      // Neither the rest of the batch nor the place in it matters.
      expect(drawn(1, epoch, [7, 5, 3])[2]).to.deep.equal(first);
    }
    expect(starts.size).to.be.above(38);
    expect(factors.size).to.be.above(280);
    expect(drawn(2, 0, [3])).not.to.deep.equal(drawn(1, 0, [3]));
  });
});
