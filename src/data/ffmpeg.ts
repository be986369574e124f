/** The program ffmpeg, for audio and video that we do not read ourselves: started by itself, without a shell, and bounded. */
import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { expected, messageOf } from "../errors.ts";

/** Containers that it may take a file for: none that names other files, such as playlists. */
const FORMATS = "aac,aiff,asf,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,w64,wav,webm";

export interface FfmpegOptions {
  /** What is expected of the file, for messages. */
  readonly what: string;
  /** After the input, such as ["-f", "f32le"]; the result goes to standard output. */
  readonly take: readonly string[];
  /** More output is refused, bytes. */
  readonly most: number;
  /** @default 120 */
  readonly seconds?: number | undefined;
}

/** What ffmpeg makes of a file. @throws UserError if it is not installed, cannot read the file, or exceeds a bound. */
export function ffmpeg(
  path: string,
  { what, take, most, seconds = 120 }: FfmpegOptions,
): Promise<Uint8Array> {
  const input = ["-protocol_whitelist", "file", "-format_whitelist", FORMATS, "-i", `file:${resolve(path)}`];
  const args = ["-nostdin", "-v", "error", "-threads", "1", ...input, ...take, "pipe:1"];
  return new Promise((done, fail) => {
    const child = spawn("ffmpeg", args, { stdio: ["ignore", "pipe", "pipe"], windowsHide: true });
    const parts: Buffer[] = [];
    let length = 0;
    let said = "";
    let fault: Error | undefined;
    const stop = (found: string) => {
      fault ??= expected(path, what, found, "cut it into shorter ones");
      child.kill("SIGKILL");
    };
    const timer = setTimeout(() => stop(`one that takes more than ${seconds} s to decode`), 1000 * seconds);
    child.stdout.on("data", (part: Buffer) => {
      length += part.length;
      if (length > most) stop(`more than ${Math.round(most / 2 ** 20)} MiB of it, decoded`);
      else parts.push(part);
    });
    child.stderr.on("data", (part: Buffer) => {
      if (said.length < 2000) said += part;
    });
    child.on("error", (error) => {
      clearTimeout(timer);
      const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
      const found = missing ? "no program ffmpeg" : messageOf(error);
      const advice = missing ? "install it (apt install ffmpeg, brew install ffmpeg)" : undefined;
      fail(expected(path, `${what}, which ffmpeg decodes`, found, advice));
    });
    child.on("close", (code) => {
      clearTimeout(timer);
      // It repeats the path, and says more on further lines.
      const line = (said.trim().split("\n").at(-1) ?? "").replace(`file:${resolve(path)}: `, "");
      if (fault) fail(fault);
      else if (code !== 0) fail(expected(path, what, messageOf(line) || `ffmpeg's exit code ${code}`));
      else done(Buffer.concat(parts));
    });
  });
}
