/** Small folders of images and a small artifact, for tests of whole runs. */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import sharp from "sharp";
import type { ArtifactSpec } from "../../src/artifact/artifact-spec.ts";
import { compile, targetNamed } from "../../src/artifact/compile.ts";
import { writeArtifact } from "../../src/artifact/files.ts";
import { randomFor } from "../../src/random.ts";

/** Writes an image of noise about a hue of its own, the same for the same path name. */
export async function picture(file: string, hue = 0, width = 24, height = 20): Promise<void> {
  const random = randomFor("picture", file.slice(-12));
  const pixels = Uint8Array.from({ length: width * height * 3 }, (_, i) =>
    Math.min(255, random.uniform(0, 60) + (i % 3 === hue % 3 ? 190 : 10)),
  );
  await mkdir(dirname(file), { recursive: true });
  await sharp(pixels, { raw: { width, height, channels: 3 } }).toFile(file);
}

/** 00.png, 01.png, ... in `dir`; its path. */
export async function pictures(dir: string, count: number, hue?: number): Promise<string> {
  for (let i = 0; i < count; i++) await picture(join(dir, `${String(i).padStart(2, "0")}.png`), hue ?? i);
  return dir;
}

/** A folder for each class, whose images share a hue; its path. */
export async function labelled(dir: string, classes: readonly string[], each: number): Promise<string> {
  for (const [hue, name] of classes.entries()) await pictures(join(dir, name), each, hue);
  return dir;
}

/** Five folders of 16 frames and an animated image of as many, 24x20; its path. */
export async function clips(dir: string): Promise<string> {
  for (let i = 0; i < 5; i++) await pictures(join(dir, `clip${i}`), 16, i);
  const pixels = Uint8Array.from(
    { length: 16 * 20 * 24 * 3 },
    (_, i) => 15 * Math.floor(i / (20 * 24 * 3)) + (i % 7),
  );
  const raw = { width: 24, height: 16 * 20, channels: 3, pageHeight: 20 } as const;
  await sharp(pixels, { raw }).gif().toFile(join(dir, "moving.gif"));
  return dir;
}

/** Files beside `clips`: boxes of nine tracks, and pairs of which some share an image; their paths. */
export async function listsOf(dir: string): Promise<{ tracks: string; pairs: string }> {
  const files = { tracks: `${dir}-tracks.csv`, pairs: `${dir}-pairs.csv` };
  const name = (clip: number, frame: number) => `clip${clip}/${String(frame).padStart(2, "0")}.png`;
  const boxes = Array.from({ length: 9 }, (_, track) =>
    Array.from({ length: 12 }, (_, i) => `${name(track % 5, i)},${track},${i},${track},11.5,10`),
  );
  await writeFile(files.tracks, `image,track,x,y,width,height\n${boxes.flat().join("\n")}\n`);
  const pairs = Array.from({ length: 30 }, (_, i) => `${name(i % 5, i % 16)},${name(i % 5, (i + 5) % 16)}`);
  await writeFile(files.pairs, `${pairs.join("\n")}\n`);
  return files;
}

/**
 * A method (SimCLR) on resnet20 at 16 px, a step of which takes some milliseconds, in the CPU's form: a run on the CPU takes
 * it as it is. Its path.
 */
export async function tinyArtifact(
  dir: string,
  spec: Pick<ArtifactSpec, "method" | "config" | "precision"> & { imageSize?: number } = { method: "simclr" },
): Promise<string> {
  const { manifest, graphs } = compile(
    { encoder: "resnet20", imageSize: 16, ...spec },
    targetNamed("cpu", 1),
  );
  await writeArtifact(dir, manifest, graphs);
  return dir;
}
