/** Clips of a video, by ffmpeg: pictures at equal distances, each with the sound about its moment. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expected, UserError } from "../errors.ts";
import { inputOf, outputOf } from "./ffmpeg.ts";
import { encodeWav } from "./wav.ts";

export interface ClipOptions {
  /** From one picture to the next, and of each sound. */
  readonly seconds: number;
  /** Of the sounds, samples a second. */
  readonly rate: number;
  /** Pictures are scaled down to a shorter side of so many pixels. */
  readonly side: number;
}

/** Of a video's pictures, and of its samples. */
const MAX_BYTES = 2 ** 28;
const MAX_PICTURES = 20_000;
/** To decode one video. */
const MAX_SECONDS = 900;
const WHAT = "a video with sound";

/**
 * Writes 00000.jpg, 00000.wav, 00001.jpg, ... into `folder`: picture i as it is shown after i * seconds, and the sound from
 * half of `seconds` before to half after, as far as there is any. Frames may follow each other at any rate.
 * @returns the number of clips
 * @throws UserError if the video cannot be decoded, has no picture or no sound, or exceeds a bound
 */
export async function writeClips(video: string, folder: string, options: ClipOptions): Promise<number> {
  const { seconds, rate, side } = options;
  const take = ["-vn", "-sn", "-dn", "-ac", "1", "-ar", `${rate}`, "-f", "s16le"];
  const bytes = await decoded(video, "sound", take);
  const samples = new Int16Array(new Uint8Array(bytes).buffer, 0, Math.floor(bytes.length / 2)); // a copy is aligned
  const scale = `scale=w='if(lt(iw,ih),min(${side},iw),-2)':h='if(lt(iw,ih),-2,min(${side},ih))'`;
  // Rounded up, the picture at a moment is the last one that began before it.
  const shown = ["-an", "-sn", "-dn", "-vf", `fps=1/${seconds}:round=up:start_time=0,${scale}`];
  const coded = ["-frames:v", `${MAX_PICTURES}`, "-c:v", "mjpeg", "-q:v", "2", "-f", "image2pipe"];
  const pictures = jpegsIn(await decoded(video, "picture", [...shown, ...coded]));

  await mkdir(folder, { recursive: true });
  let written = 0;
  for (const [i, picture] of pictures.entries()) {
    const from = Math.round((i - 0.5) * seconds * rate);
    const sound = samples.subarray(Math.max(0, from), Math.round((i + 0.5) * seconds * rate));
    if (sound.length === 0) break; // the picture goes on without it
    const name = join(folder, `${i}`.padStart(5, "0"));
    await writeFile(`${name}.jpg`, picture);
    await writeFile(`${name}.wav`, encodeWav(sound, rate));
    written++;
  }
  if (written === 0) throw expected(video, WHAT, "one of 0 s");
  return written;
}

async function decoded(video: string, of: string, take: readonly string[]): Promise<Uint8Array> {
  try {
    const args = ["-nostdin", "-v", "error", "-threads", "1", ...inputOf(video), ...take, "pipe:1"];
    return await outputOf("ffmpeg", video, { what: WHAT, args, most: MAX_BYTES, seconds: MAX_SECONDS });
  } catch (error) {
    if (error instanceof UserError && /does not contain any stream/.test(error.message))
      throw expected(video, WHAT, `one without ${of}`);
    throw error;
  }
}

/** JPEG files that follow each other: one ends, and the next begins, with marks that never stand in between. */
function jpegsIn(bytes: Uint8Array): readonly Uint8Array[] {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const between = Buffer.of(0xff, 0xd9, 0xff, 0xd8);
  const files: Uint8Array[] = [];
  for (let from = 0; from < all.length; ) {
    const end = all.indexOf(between, from);
    const to = end < 0 ? all.length : end + 2;
    files.push(all.subarray(from, to));
    from = to;
  }
  return files;
}
