import { spawnSync } from "node:child_process";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import sharp from "sharp";
import { clips } from "../../src/api/clips.ts";
import { findAudioPairs } from "../../src/data/audio-pairs.ts";
import { decodeWav } from "../../src/data/wav.ts";
import { failure, temporaryFolder } from "../data/folder.ts";

const installed = spawnSync("ffmpeg", ["-version"]).status === 0;

describe("api/clips", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const make = (...args: string[]) => {
    const { status, stderr } = spawnSync("ffmpeg", ["-v", "error", "-y", ...args]);
    expect(status, `${stderr}`).to.equal(0);
  };

  before(function () {
    if (!installed) this.skip();
  });

  it("gives each moment's picture and the sound about it, of frames at any rate, and leaves out what it cannot use", async () => {
    await mkdir(at("videos/more"), { recursive: true });
    const picture = (color: string, rate: number, seconds: number) =>
      ["-f", "lavfi", "-i", `color=${color}:s=96x64:r=${rate}:d=${seconds}`] as const;
    const tone = (hertz: number, seconds: number) =>
      ["-f", "lavfi", "-i", `sine=f=${hertz}:d=${seconds}:r=16000`] as const;
    // Red with a low tone for 2.5 s at 25 frames a second, then blue with a high one for 2 s at 7.
    const join2 = "[0:v][1:a][2:v][3:a]concat=n=2:v=1:a=1[v][a]";
    const parts = [...picture("red", 25, 2.5), ...tone(300, 2.5), ...picture("blue", 7, 2), ...tone(2000, 2)];
    make(
      ...parts,
      "-filter_complex",
      join2,
      "-map",
      "[v]",
      "-map",
      "[a]",
      "-fps_mode",
      "vfr",
      at("videos/two.mkv"),
    );
    make(...picture("red", 5, 1), at("videos/more/silent.mkv"));
    make(...tone(300, 1), at("videos/more/unseen.mp4"));
    await folder.write("videos/more/broken.mp4", "no such video");
    const lines: string[] = [];
    const output = { stream: { write: (line: string) => lines.push(line) }, quiet: true } as never;

    const result = await clips({ videos: at("videos"), out: at("out"), seconds: 1, side: 32 }, { output });
    expect(result).to.deep.include({ videos: 1, leftOut: 3 });
    const { files, audio } = await findAudioPairs(at("out"));
    expect(files).to.have.length(result.clips);
    expect(result.clips).to.be.within(4, 5); // at 0, 1, 2 and 3 s; whether at 4 s depends on how the last frame lasts
    for (let i = 0; i < 4; i++) {
      expect(files[i]).to.equal(`two/0000${i}.jpg`);
      const { data, info } = await sharp(at(`out/${files[i]}`))
        .raw()
        .toBuffer({ resolveWithObject: true });
      expect([info.width, info.height]).to.deep.equal([48, 32]);
      const [red, , blue] = data;
      expect(red! > 200 && blue! < 60, `red at ${i} s`).to.equal(i < 3);
      expect(blue! > 200 && red! < 60, `blue at ${i} s`).to.equal(i === 3);
      const { rate, samples } = decodeWav(await readFile(at(`out/${audio![i]}`)), "a clip");
      expect(rate).to.equal(16_000);
      expect(samples.length / rate).to.be.closeTo(i === 0 ? 0.5 : 1, 0.01);
      const ups = samples.reduce((n, x, k) => n + (k > 0 && samples[k - 1]! < 0 && x >= 0 ? 1 : 0), 0);
      expect((ups * rate) / samples.length, `${i} s`).to.be.closeTo(i < 3 ? 300 : 2000, 60);
    }

    const warnings = lines.join("").split("\n").filter(Boolean);
    expect(warnings).to.have.length(3);
    expect(warnings[0]).to.match(
      /^warning: .*broken\.mp4: expected a video with sound, found .*; it is left out$/,
    );
    expect(warnings[1]).to.match(
      /silent\.mkv: expected a video with sound, found one without sound; it is left out$/,
    );
    expect(warnings[2]).to.match(
      /unseen\.mp4: expected a video with sound, found one without picture; it is left out$/,
    );
    expect(await readdir(at("out"))).to.deep.equal(["two"]);
    expect(await failure(clips({ videos: at("videos"), out: at("out") }))).to.match(
      /out: expected no folder or an empty one, found files in it; give another --out$/,
    );
    expect(await failure(clips({ videos: at("videos/more"), out: at("none") }, { output }))).to.match(
      /more: expected a video with sound, found none among 3; the warnings say why$/,
    );
  });
});
