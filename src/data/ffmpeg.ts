/** The programs of FFmpeg, for audio and video that we do not read ourselves: started by themselves, without a shell, and bounded. */
import { spawn } from "node:child_process";
import { resolve } from "node:path";
import PQueue from "p-queue";
import { expected, messageOf } from "../errors.ts";
import { cores } from "../machine.ts";

/** Containers that a file may be taken for: none that names other files, such as playlists. */
const FORMATS = "aac,aiff,asf,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav,webm";
/** Larger pictures are refused: 8K has 33 million pixels. */
export const MAX_PIXELS = 2 ** 25;

/** Programs that run at a time, however much is asked for. */
const programs = new PQueue({ concurrency: cores() });

export interface ProgramOptions {
  /** What is expected of the file, for messages. */
  readonly what: string;
  readonly args: readonly string[];
  /** A program that takes longer is ended. @default 120 */
  readonly seconds?: number | undefined;
  /** So is one that writes nothing for so many seconds. @default as `seconds` */
  readonly silent?: number | undefined;
}

/** The arguments that name a file to be read, and nothing besides it. */
export const inputOf = (path: string, formats = FORMATS): readonly string[] => [
  ...["-protocol_whitelist", "file", "-format_whitelist", formats, "-max_pixels", `${MAX_PIXELS}`],
  ...["-i", `file:${resolve(path)}`],
];

/**
 * Ends when the program has. `read` takes what it writes as it comes; what it throws ends the program.
 * @throws UserError with the path if the program is not installed, cannot read the file, or exceeds a bound.
 */
export const run = (
  program: "ffmpeg" | "ffprobe",
  path: string,
  options: ProgramOptions,
  read: (part: Buffer) => void,
): Promise<void> => programs.add(() => runNow(program, path, options, read));

/** All that it writes. @throws UserError as `run`, and if that is more than `most` bytes */
export async function outputOf(
  program: "ffmpeg" | "ffprobe",
  path: string,
  { most, ...options }: ProgramOptions & { readonly most: number },
): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  await run(program, path, options, (part) => {
    length += part.length;
    if (length > most)
      throw expected(
        path,
        options.what,
        `more than ${Math.round(most / 2 ** 20)} MiB of it, decoded`,
        SHORTER,
      );
    parts.push(part);
  });
  return Buffer.concat(parts);
}

const SHORTER = "cut it into shorter ones";
const INSTALL =
  "install FFmpeg (apt install ffmpeg, brew install ffmpeg, or ffmpeg.org), or give images in place of videos, and WAV files";

function runNow(
  program: string,
  path: string,
  { what, args, seconds = 120, silent = seconds }: ProgramOptions,
  read: (part: Buffer) => void,
): Promise<void> {
  return new Promise((done, fail) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], windowsHide: true });
    let said = "";
    let fault: unknown;
    const stop = (error: unknown) => {
      fault ??= error;
      child.kill("SIGKILL");
    };
    const stopAfter = (limit: number, found: string) =>
      setTimeout(() => stop(expected(path, what, found, SHORTER)), 1000 * limit);
    const whole = stopAfter(seconds, `one that takes more than ${seconds} s to decode`);
    const quiet = stopAfter(silent, `one that nothing comes of for ${silent} s`);
    const ended = () => {
      clearTimeout(whole);
      clearTimeout(quiet);
    };
    child.stdout.on("data", (part: Buffer) => {
      quiet.refresh();
      try {
        if (fault === undefined) read(part);
      } catch (error) {
        stop(error);
      }
    });
    child.stderr.on("data", (part: Buffer) => {
      if (said.length < 4096) said += part;
    });
    child.on("error", (error: NodeJS.ErrnoException) => {
      ended();
      const missing = error.code === "ENOENT";
      const found = missing ? "none" : messageOf(error);
      fail(expected(path, `the program ${program} to read it with`, found, missing ? INSTALL : undefined));
    });
    child.on("close", (code) => {
      ended();
      // It repeats the path, and says more on further lines.
      const line = (said.trim().split("\n").at(-1) ?? "").replace(`file:${resolve(path)}: `, "");
      if (fault !== undefined) fail(fault);
      else if (code !== 0) fail(expected(path, what, messageOf(line) || `${program}'s exit code ${code}`));
      else done();
    });
  });
}
