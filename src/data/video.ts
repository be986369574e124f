/** The frames of videos, by the programs of FFmpeg. */
import { extname } from "node:path";
import { expected } from "../errors.ts";
import type { Source } from "./canvas.ts";
import { inputOf, MAX_PIXELS, outputOf, run } from "./ffmpeg.ts";
import { SEEKABLE_EXTENSIONS } from "./folder.ts";

export const isVideo = (file: string): boolean =>
  SEEKABLE_EXTENSIONS.includes(extname(file).slice(1).toLowerCase());

/** In others a frame is not found by its time. */
const FORMATS = "avi,matroska,mov,webm";
/** Of each program: it is ended when it takes longer, or when nothing comes of it for so long; seconds. */
const BOUNDS = { seconds: 3600, silent: 60 };
/** Of what it writes for us at once. */
const MAX_BYTES = 2 ** 30;
const WHAT = "a video that can be decoded";
/** FFmpeg's measure of a change of scene, from 0 to 1: above this a frame begins a shot. */
const CUT = 0.3;

/** What is known of a video before its frames are decoded. */
export interface Video {
  /** When each frame is shown, microseconds from the start of the file, one after the other. */
  readonly times: Float64Array;
  /** The first frame of each shot, 0 before all. */
  readonly shots: readonly number[];
  /** Of its shorter side, pixels. */
  readonly side: number;
}

/** @throws UserError if FFmpeg, which the video at `path` needs, is not there. */
export const checkFfmpeg = (path: string): Promise<void> =>
  run("ffmpeg", path, { what: WHAT, args: ["-version"] }, () => {});

/**
 * Decodes a video once, small, for the times of its frames and its changes of scene.
 * @throws UserError with the path if it cannot be decoded, or holds no video, or more than `maxFrames` frames.
 */
export async function lookAtVideo(path: string, maxFrames: number): Promise<Video> {
  const { width, height } = await sizeOf(path);
  const times: number[] = [];
  const shots = [0];
  const read = lines((line) => {
    const time = /^frame:\d+ .*pts_time:(-?[\d.]+)/.exec(line)?.[1];
    const score = /^lavfi\.scene_score=([\d.]+)/.exec(line)?.[1];
    if (time !== undefined) times.push(Math.round(Number(time) * 1e6));
    if (score !== undefined && Number(score) > CUT && times.length > 1) shots.push(times.length - 1);
    if (times.length > maxFrames)
      throw expected(path, `at most ${maxFrames} frames`, "more", "cut it into parts");
  });
  // Of small frames, by areas: what counts is the scene, and not its noise.
  const measure = "scale=32:32:flags=area,select='gte(scene\\,0)',metadata=mode=print:file=-";
  const args = decoding(path, [], ["-vf", measure, "-f", "null", "-"]);
  await run("ffmpeg", path, { what: WHAT, args, ...BOUNDS }, read);
  if (times.length === 0) throw expected(path, "a video with frames", "none");
  const fault = times.findIndex((time, i) => i > 0 && time < times[i - 1]!);
  if (fault > 0)
    throw expected(path, "frames in the order of time", `frame ${fault} before the one before it`);
  return { times: Float64Array.from(times), shots, side: Math.min(width, height) };
}

/**
 * The frames that are shown at `times`, which follow each other: scaled down like `decodeSource`.
 * @throws UserError with the path if they cannot be decoded.
 */
export async function decodeVideo(
  path: string,
  times: Float64Array,
  shorterSide: number,
): Promise<readonly Source[]> {
  const factor = `min(1,min(${shorterSide}/min(iw,ih),${2 * shorterSide}/max(iw,ih)))`;
  const side = (of: string) => `'max(1,round(${of}*${factor}))'`;
  // Times that are regular have each frame written once.
  const filters = `scale=w=${side("iw")}:h=${side("ih")}:flags=bilinear+accurate_rnd+bitexact,setpts=N/(25*TB)`;
  const written = ["-frames:v", `${times.length}`, "-vf", filters, "-r", "25"];
  const form = ["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "-"];
  // Half a millisecond before the first, for times are rounded.
  const from = times[0]! / 1e6 - 0.0005;
  const sought = from > 0 ? ["-ss", from.toFixed(6)] : []; // from its start frames before time 0 count too
  const args = decoding(path, ["-threads", "1", ...sought], [...written, ...form]);
  return pictures(await outputOf("ffmpeg", path, { what: WHAT, args, most: MAX_BYTES, ...BOUNDS }));
}

/** PPM files one after the other. */
function pictures(bytes: Buffer): Source[] {
  const found: Source[] = [];
  for (let at = 0; at < bytes.length; ) {
    const header = /^P6\n(\d+) (\d+)\n255\n/.exec(bytes.toString("latin1", at, at + 40));
    if (!header) throw new Error("FFmpeg wrote no PPM");
    const [width, height] = [Number(header[1]), Number(header[2])];
    const start = at + header[0].length;
    at = start + width * height * 3;
    // A copy: a view would keep all of them in memory.
    found.push({ width, height, pixels: Uint8Array.from(bytes.subarray(start, at)) });
  }
  return found;
}

async function sizeOf(path: string): Promise<{ width: number; height: number }> {
  const wanted = ["-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "json"];
  const args = ["-v", "error", ...inputOf(path, FORMATS), ...wanted];
  const text = await outputOf("ffprobe", path, { what: WHAT, args, most: 2 ** 20, ...BOUNDS });
  const [stream] =
    (JSON.parse(`${text}`) as { streams?: { width?: number; height?: number }[] }).streams ?? [];
  const { width = 0, height = 0 } = stream ?? {};
  if (!(width > 0 && height > 0)) throw expected(path, "a video", "a file without a picture");
  if (width * height > MAX_PIXELS)
    throw expected(path, `frames of at most ${MAX_PIXELS} pixels`, `${width}x${height}`);
  return { width, height };
}

/** The arguments to decode the first video stream; sound, subtitles and data are left alone. */
const decoding = (path: string, before: readonly string[], after: readonly string[]): readonly string[] => [
  ...["-nostdin", "-v", "error", "-xerror", ...before, ...inputOf(path, FORMATS)],
  ...["-map", "0:v:0", "-an", "-sn", "-dn", ...after],
];

/** Cuts what comes into lines. */
function lines(take: (line: string) => void): (part: Buffer) => void {
  let rest = "";
  return (part) => {
    const all = (rest + part.toString("latin1")).split("\n");
    rest = all.pop()!;
    for (const line of all) take(line);
  };
}
