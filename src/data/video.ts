/** Videos, by the programs of FFmpeg, which run without a shell and see one file alone. */
import { spawn } from "node:child_process";
import { extname, resolve } from "node:path";
import PQueue from "p-queue";
import { expected, messageOf } from "../errors.ts";
import { cores } from "../machine.ts";
import type { Source } from "./canvas.ts";

/** How FFmpeg reads each kind: told, so that a playlist under another name is not followed. */
const FORMATS: Readonly<Record<string, string>> = {
  ".mp4": "mov",
  ".m4v": "mov",
  ".mov": "mov",
  ".webm": "matroska",
  ".mkv": "matroska",
  ".avi": "avi",
};

export const VIDEO_EXTENSIONS = Object.keys(FORMATS).map((extension) => extension.slice(1));

export const isVideo = (file: string): boolean => formatOf(file) !== undefined;

const formatOf = (file: string) => FORMATS[extname(file).toLowerCase()];

/** Larger frames are refused: 8K has 33 million pixels. */
const MAX_PIXELS = 2 ** 25;
/** A program that says nothing for so long is ended, and one that takes longer in all; seconds. */
const SILENT = 60;
const LONGEST = 3600;
/** Of what it writes for us at once. */
const MAX_BYTES = 2 ** 30;
/** FFmpeg's measure of a change of scene, from 0 to 1: above this a frame begins a shot. */
const CUT = 0.3;

/** Programs that run at a time, however many frames are asked for. */
const programs = new PQueue({ concurrency: cores() });

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
export const checkFfmpeg = (path: string): Promise<void> => run("ffmpeg", path, ["-version"], () => {});

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
  await ffmpeg(path, [], ["-vf", measure, "-f", "null", "-"], read);
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
  const parts: Buffer[] = [];
  let bytes = 0;
  const factor = `min(1,min(${shorterSide}/min(iw,ih),${2 * shorterSide}/max(iw,ih)))`;
  const side = (of: string) => `'max(1,round(${of}*${factor}))'`;
  // Times that are regular have each frame written once.
  const filters = `scale=w=${side("iw")}:h=${side("ih")}:flags=bilinear+accurate_rnd+bitexact,setpts=N/(25*TB)`;
  const written = ["-frames:v", `${times.length}`, "-vf", filters, "-r", "25"];
  const form = ["-pix_fmt", "rgb24", "-c:v", "ppm", "-f", "image2pipe", "-"];
  // Half a millisecond before the first, for times are rounded.
  const from = times[0]! / 1e6 - 0.0005;
  const sought = from > 0 ? ["-ss", from.toFixed(6)] : []; // from its start frames before time 0 count too
  await ffmpeg(path, ["-threads", "1", ...sought], [...written, ...form], (part) => {
    parts.push(part);
    bytes += part.length;
    if (bytes > MAX_BYTES) throw expected(path, `at most ${MAX_BYTES} bytes of frames`, "more");
  });
  return pictures(Buffer.concat(parts));
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
  let text = "";
  const wanted = ["-select_streams", "v:0", "-show_entries", "stream=width,height", "-of", "json"];
  await run("ffprobe", path, ["-v", "error", ...input(path), ...wanted], (part) => {
    text += part;
  });
  const [stream] = (JSON.parse(text) as { streams?: { width?: number; height?: number }[] }).streams ?? [];
  const { width = 0, height = 0 } = stream ?? {};
  if (!(width > 0 && height > 0)) throw expected(path, "a video", "a file without a picture");
  if (width * height > MAX_PIXELS)
    throw expected(path, `frames of at most ${MAX_PIXELS} pixels`, `${width}x${height}`);
  return { width, height };
}

/** Of the first video stream; sound, subtitles and data are left alone. */
const ffmpeg = (path: string, before: string[], after: string[], read: (part: Buffer) => void) =>
  run(
    "ffmpeg",
    path,
    [
      ...["-nostdin", "-hide_banner", "-v", "error", "-xerror"],
      ...before,
      ...input(path),
      ...["-map", "0:v:0", "-an", "-sn", "-dn"],
      ...after,
    ],
    read,
  );

const input = (path: string) => [
  ...["-protocol_whitelist", "file,pipe", "-max_pixels", `${MAX_PIXELS}`],
  ...["-f", formatOf(path)!, "-i", `file:${resolve(path)}`],
];

/** Ends when the program has; `read` takes what it writes, and may throw. */
const run = (
  program: string,
  path: string,
  args: readonly string[],
  read: (part: Buffer) => void,
): Promise<void> => programs.add(() => runNow(program, path, args, read));

function runNow(
  program: string,
  path: string,
  args: readonly string[],
  read: (part: Buffer) => void,
): Promise<void> {
  return new Promise((done, fail) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    let fault: unknown;
    const stop = (error: unknown) => {
      fault ??= error;
      child.kill("SIGKILL");
    };
    const late = (seconds: number) => () =>
      stop(expected(path, `a video that ${program} reads`, `no end after ${seconds} s`));
    const longest = setTimeout(late(LONGEST), LONGEST * 1000);
    let silent = setTimeout(late(SILENT), SILENT * 1000);
    child.stdout.on("data", (part: Buffer) => {
      clearTimeout(silent);
      silent = setTimeout(late(SILENT), SILENT * 1000);
      try {
        if (!fault) read(part);
      } catch (error) {
        stop(error);
      }
    });
    child.stderr.on("data", (part: Buffer) => {
      if (said.length < 4096) said += part;
    });
    child.on("error", (error: NodeJS.ErrnoException) => {
      const advice =
        "install FFmpeg (apt install ffmpeg, brew install ffmpeg, or ffmpeg.org), or give frames as images";
      fault ??=
        error.code === "ENOENT"
          ? expected(path, `the program ${program} to read videos with`, "none", advice)
          : error;
    });
    child.on("close", (code) => {
      clearTimeout(longest);
      clearTimeout(silent);
      if (fault) fail(fault);
      else if (code === 0) done();
      else fail(expected(path, "a video that can be decoded", lastLine(said)));
    });
  });
}

/** FFmpeg says first where it was, and then what it was. */
function lastLine(said: string): string {
  const text = said.trim().split("\n").at(-1) ?? "";
  return messageOf(text.replace(/file:\S+: /, "")) || "what FFmpeg does not read";
}

/** Cuts what comes into lines. */
function lines(take: (line: string) => void): (part: Buffer) => void {
  let rest = "";
  return (part) => {
    const all = (rest + part.toString("latin1")).split("\n");
    rest = all.pop()!;
    for (const line of all) take(line);
  };
}
