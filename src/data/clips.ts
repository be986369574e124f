/** Clips of a folder: folders of frames, animated images, videos. */
import { join } from "node:path";
import { expected, messageOf } from "../errors.ts";
import { MAX_FRAMES, mayMove, timesOfPages } from "./frames.ts";
import type { Group } from "./items.ts";
import { inFolders } from "./listed.ts";
import { mapInOrder } from "./parallel.ts";
import { checkFfmpeg, isVideo, lookAtVideo, type Video } from "./video.ts";

/** Frames of all clips: their times take 32 MB. */
const MAX_ALL = 2 ** 22;

export interface Looking {
  /** Takes what is shown while it takes time. */
  readonly show?: ((line: string) => void) | undefined;
  /** At a video. @default `lookAtVideo` */
  readonly look?: ((path: string, maxFrames: number) => Promise<Video>) | undefined;
}

export interface Clips {
  readonly groups: readonly (Group & { readonly timed: boolean })[];
  readonly notes: readonly string[];
  /** Median of the shorter sides of videos, pixels; undefined without one. */
  readonly side: number | undefined;
}

/**
 * Each folder's images are the frames of a clip, in the order of the numbers in their names; each animated image and each
 * video is one. A place in time is a frame's number. What cannot be read, and what has one frame alone, is left out with a
 * note.
 *
 * @param files relative to `root`, sorted
 * @throws UserError if no clip is left, or a video needs FFmpeg and it is not there.
 */
export async function clipsIn(
  root: string,
  files: readonly string[],
  { show = () => {}, look = lookAtVideo }: Looking = {},
): Promise<Clips> {
  const notes: string[] = [];
  const leave = (error: unknown) => {
    notes.push(`${messageOf(error)}; it is left out`);
  };
  const films = files.filter(isVideo);
  if (films.length > 0) await checkFfmpeg(join(root, films[0]!));
  const animated = files.filter((file) => mayMove(file) && !isVideo(file));
  const times = new Map<string, Float64Array>();
  const shots = new Map<string, readonly number[]>();
  const sides: number[] = [];
  await mapInOrder(animated, async (file) => {
    // What no frame can be read of is told when it is decoded.
    const found = await timesOfPages(join(root, file)).catch(() => new Float64Array(1));
    if (found.length > 1) times.set(file, found);
  });
  for (const [i, file] of films.entries()) {
    show(`looking for scenes in videos: ${i + 1}/${films.length} ${file}`);
    try {
      const video = await look(join(root, file), MAX_FRAMES);
      times.set(file, video.times);
      shots.set(file, video.shots);
      sides.push(video.side);
    } catch (error) {
      leave(error);
    }
  }

  const stills = files.filter((file) => !isVideo(file) && !times.has(file));
  const place = new Map(files.map((file, i) => [file, i]));
  const folders = [...inFolders(stills).values()].map((own) => own.map((i) => place.get(stills[i]!)!));
  const counting = (count: number) => Float64Array.from({ length: count }, (_, i) => i);
  const groups = [
    ...folders.map((own) => ({
      pictures: own.map((file) => ({ file })),
      at: counting(own.length),
      shots: [0],
      timed: false,
    })),
    ...[...times].map(([file, own]) => ({
      pictures: { file: place.get(file)!, count: own.length, times: own },
      at: counting(own.length),
      shots: shots.get(file) ?? [0],
      timed: true,
    })),
  ].sort((a, b) => firstFile(a) - firstFile(b));
  const moving = groups.filter(({ at }) => at.length > 1);
  const single = groups.length - moving.length;
  if (single > 0) notes.push(`${root}: left out clips of one frame: ${single}`);
  const wanted = "clips: folders of frames, animated GIF or WebP, videos";
  if (moving.length === 0) throw expected(root, wanted, "none", notes.join("; ") || undefined);
  const all = moving.reduce((sum, { at }) => sum + at.length, 0);
  if (all > MAX_ALL) throw expected(root, `at most ${MAX_ALL} frames`, `${all}`);
  sides.sort((a, b) => a - b);
  return { groups: moving, notes, side: sides[Math.floor(sides.length / 2)] };
}

const firstFile = ({ pictures }: Pick<Group, "pictures">): number =>
  "times" in pictures ? pictures.file : pictures[0]!.file;
