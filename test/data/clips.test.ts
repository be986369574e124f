import { spawnSync } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import sharp from "sharp";
import { clipsIn } from "../../src/data/clips.ts";
import { decodeSource } from "../../src/data/decode.ts";
import { decodeFrames } from "../../src/data/frames.ts";
import { lookAtVideo } from "../../src/data/video.ts";
import { UserError } from "../../src/errors.ts";
import { failure, plain, temporaryFolder } from "./folder.ts";

const ffmpegIsThere = spawnSync("ffmpeg", ["-version"]).status === 0;

describe("data/clips", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  /** Frames of 24x16, frame i gray by 20 * i, in one tall image. */
  const animated = async (name: string, count: number, delay: number[]) => {
    const pixels = Uint8Array.from(
      { length: count * 24 * 16 * 3 },
      (_, i) => 20 * Math.floor(i / (24 * 16 * 3)),
    );
    const raw = { width: 24, height: 16 * count, channels: 3, pageHeight: 16 } as const;
    await mkdir(folder.path, { recursive: true });
    const image = sharp(pixels, { raw });
    await (name.endsWith(".gif") ? image.gif({ delay }) : image.webp({ delay, lossless: true })).toFile(
      at(name),
    );
  };
  const ffmpeg = (...args: readonly string[]) => {
    const { status, stderr } = spawnSync("ffmpeg", ["-v", "error", "-y", ...args]);
    expect(status, `${stderr}`).to.equal(0);
  };

  describe("without videos", () => {
    before(async () => {
      await animated("move.gif", 40, Array(40).fill(50));
      await animated("slow.webp", 3, [100, 700, 0]);
      await animated("still.webp", 1, [0]);
      for (const i of [1, 2, 10])
        await folder.write(`frames/f${i}.png`, await plain(8, 8, { r: i, g: 0, b: 0 }).png().toBuffer());
      await folder.write("lone/a.png", await plain(8, 8, "red").png().toBuffer());
    });
    const files = ["frames/f1.png", "frames/f10.png", "frames/f2.png", "lone/a.png", "move.gif", "slow.webp"];

    it("takes folders in the order of their numbers, and animated images with their times", async () => {
      const { groups, notes, side } = await clipsIn(folder.path, files);
      expect(
        groups.map(({ pictures, timed, at }) => [pictures, timed, [...Array.from(at)].length]),
      ).to.deep.equal([
        [[{ file: 0 }, { file: 2 }, { file: 1 }], false, 3],
        [{ file: 4, count: 40, times: Float64Array.from({ length: 40 }, (_, i) => 50_000 * i) }, true, 40],
        [{ file: 5, count: 3, times: Float64Array.of(0, 100_000, 800_000) }, true, 3],
      ]);
      expect(notes).to.deep.equal([`${folder.path}: left out clips of one frame: 1`]);
      expect(side).to.equal(undefined);
    });

    it("refuses a folder without a clip", async () => {
      expect(await failure(clipsIn(folder.path, ["lone/a.png", "still.webp"]))).to.match(
        /expected clips: folders of frames, animated GIF or WebP, videos, found none; .*left out clips of one frame: 2$/,
      );
    });

    it("decodes any frames of an animated image as it decodes an image", async () => {
      const times = Float64Array.from({ length: 40 }, (_, i) => i);
      const frames = await decodeFrames(at("move.gif"), times.subarray(32), 32, 8);
      expect(frames.map(({ width, height }) => [width, height])).to.deep.equal(Array(8).fill([12, 8]));
      const [first] = await decodeFrames(at("slow.webp"), times.subarray(0, 1), 0, 8);
      expect(first).to.deep.equal(await decodeSource(at("slow.webp"), 8));
      const last = await decodeFrames(at("slow.webp"), times.subarray(0, 1), 2, 64);
      expect(last).to.deep.equal([{ width: 24, height: 16, pixels: new Uint8Array(24 * 16 * 3).fill(40) }]);
    });

    it("says of a file that is cut off that it is", async () => {
      const bytes = await readFile(at("move.gif"));
      await writeFile(at("cut.gif"), bytes.subarray(0, bytes.length / 2));
      expect(await failure(decodeFrames(at("cut.gif"), new Float64Array(8), 32, 8))).to.match(
        /cut\.gif: expected frames 32 to 39, whole, found /,
      );
    });

    it("says how to get FFmpeg where it is missing", async () => {
      const path = process.env.PATH;
      process.env.PATH = folder.path;
      try {
        const error = await clipsIn(folder.path, ["a.mp4"]).catch((error) => error);
        expect(error).to.be.instanceOf(UserError);
        expect(error.message).to.match(
          /a\.mp4: expected the program ffmpeg to read it with, found none; install FFmpeg \(apt/,
        );
      } finally {
        process.env.PATH = path;
      }
    });
  });

  describe("videos, by FFmpeg", () => {
    before(async function () {
      if (!ffmpegIsThere) this.skip();
      await mkdir(folder.path, { recursive: true });
      // Two scenes of a second each, gray that grows by 4 from frame to frame, keyframes far apart.
      const scene = (value: string) => `color=black:s=64x36:r=10:d=1,geq=lum='${value}':cb=128:cr=128`;
      const scenes = ["-f", "lavfi", "-i", scene("40+4*N"), "-f", "lavfi", "-i", scene("190+4*N")];
      const joined = ["-filter_complex", "[0][1]concat=n=2", "-g", "15", "-pix_fmt", "yuv420p"];
      ffmpeg(...scenes, ...joined, "-crf", "4", at("scenes.mp4"));
      ffmpeg("-i", at("scenes.mp4"), "-c:v", "vp8", "-crf", "4", "-b:v", "1M", at("scenes.webm"));
      // Frames 3 to 8 are dropped: a rate that varies.
      ffmpeg(
        "-i",
        at("scenes.mp4"),
        "-vf",
        "select='not(between(n\\,3\\,8))'",
        "-vsync",
        "vfr",
        "-crf",
        "4",
        at("uneven.mkv"),
      );
      ffmpeg("-f", "lavfi", "-i", "sine=d=1", at("sound.mp4"));
      ffmpeg("-i", at("scenes.mp4"), "-frames:v", "1", at("one.mp4"));
      const bytes = await readFile(at("scenes.mp4"));
      await writeFile(at("cut.mp4"), bytes.subarray(0, bytes.length / 2));
      await writeFile(at("list.mp4"), "#EXTM3U\n#EXTINF:1,\nscenes.mp4\n");
    });

    it("finds the times of frames and the changes of scene", async () => {
      for (const name of ["scenes.mp4", "scenes.webm"]) {
        const { times, shots, side } = await lookAtVideo(at(name), 100);
        expect([...times]).to.deep.equal(Array.from({ length: 20 }, (_, i) => 100_000 * i));
        expect([shots, side]).to.deep.equal([[0, 10], 36]);
      }
      const { times, shots } = await lookAtVideo(at("uneven.mkv"), 100);
      const kept = Array.from({ length: 20 }, (_, i) => i).filter((i) => i < 3 || i > 8);
      expect([...times]).to.deep.equal(kept.map((i) => 100_000 * i));
      expect(shots).to.deep.equal([0, 4]);
    });

    it("decodes the same frames wherever it begins", async () => {
      for (const name of ["scenes.mp4", "scenes.webm", "uneven.mkv"]) {
        const { times } = await lookAtVideo(at(name), 100);
        const all = await decodeFrames(at(name), times, 0, 18);
        expect(all.map(({ width, height }) => [width, height])).to.deep.equal(
          Array(times.length).fill([32, 18]),
        );
        for (const from of [1, 9, times.length - 2])
          expect(await decodeFrames(at(name), times.subarray(from), from, 18)).to.deep.equal(all.slice(from));
        if (name === "scenes.mp4")
          all.slice(0, 10).forEach(({ pixels }, i) => {
            expect(pixels[0]).to.be.closeTo(((40 + 4 * i - 16) * 255) / 219, 5);
          });
      }
    });

    it("leaves out what it cannot read, with a line each, and keeps the rest", async () => {
      ffmpeg("-i", at("scenes.mp4"), "-f", "mpegts", at("stream.mp4")); // in which frames cannot be sought
      const files = ["cut.mp4", "list.mp4", "one.mp4", "scenes.mp4", "sound.mp4", "stream.mp4"];
      const { groups, notes } = await clipsIn(folder.path, files);
      expect(groups.map(({ pictures }) => "times" in pictures && pictures.file)).to.deep.equal([3]);
      for (const [i, says] of [
        /cut\.mp4: expected a video that can be decoded, found .+; it is left out$/,
        /list\.mp4: expected a video that can be decoded, found .+; it is left out$/,
        /sound\.mp4: expected a video, found a file without a picture; it is left out$/,
        /stream\.mp4: expected a video that can be decoded, found .+; it is left out$/,
        /: left out clips of one frame: 1$/,
      ].entries()) {
        expect(notes[i]).to.match(says);
        expect(notes[i]).not.to.include("\n");
      }
      expect(await failure(lookAtVideo(at("scenes.mp4"), 19))).to.match(
        /expected at most 19 frames, found more/,
      );
    });
  });
});
