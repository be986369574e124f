/** Videos to pairs of a picture and a sound, to train on. */
import { existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { extname, join, resolve } from "node:path";
import { videosIn } from "../data/folder.ts";
import { writeClips } from "../data/video-clips.ts";
import { expected, UserError } from "../errors.ts";
import { openProgress } from "../train/progress.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

export interface ClipsOptions {
  /** Folder of videos, searched recursively. */
  readonly videos: string;
  /** Folder for the clips: none, or empty. */
  readonly out: string;
  /** From one picture to the next, and of each sound. @default 2 */
  readonly seconds?: number | undefined;
  /** Of the sounds, samples a second. @default 16000 */
  readonly rate?: number | undefined;
  /** Pictures are scaled down to a shorter side of so many pixels. @default 256 */
  readonly side?: number | undefined;
}

export interface ClipsResult {
  readonly out: string;
  readonly clips: number;
  /** Those that gave clips, and those that did not. */
  readonly videos: number;
  readonly leftOut: number;
}

/**
 * Clips of each video, in a folder of its name. One that cannot be used costs a warning.
 * @throws UserError if there are no videos, none gives a clip, or `out` holds something
 */
export async function clips(
  { videos: root, out, seconds = 2, rate = 16_000, side = 256 }: ClipsOptions,
  { output = QUIET, signal }: Surroundings = {},
): Promise<ClipsResult> {
  if (existsSync(out) && (await readdir(out)).length > 0)
    throw expected(out, "no folder or an empty one", "files in it", "give another --out");
  const { files, notes } = await videosIn(root);
  const progress = openProgress(output);
  for (const note of notes) progress.note(`warning: ${note}`);
  let [written, leftOut] = [0, 0];
  for (const [i, file] of files.entries()) {
    signal?.throwIfAborted();
    const folder = join(out, file.slice(0, file.length - extname(file).length));
    // Of two videos that differ in their extensions alone, each gets a name.
    const own = existsSync(folder) ? join(out, file) : folder;
    try {
      written += await writeClips(join(root, file), own, { seconds, rate, side });
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      await rm(own, { recursive: true, force: true });
      leftOut++;
      progress.note(`warning: ${error.message}; it is left out`);
    }
    progress.show(`clips of ${i + 1}/${files.length} videos`);
  }
  progress.end();
  if (written === 0)
    throw expected(root, "a video with sound", `none among ${files.length}`, "the warnings say why");
  return { out: resolve(out), clips: written, videos: files.length - leftOut, leftOut };
}
