/** Audio files to mono samples at the rate that a step takes. */
import { readFile, stat } from "node:fs/promises";
import { extname } from "node:path";
import { expected, UserError } from "../errors.ts";
import { faultOf } from "../fault.ts";
import { inputOf, outputOf } from "./ffmpeg.ts";
import { resample } from "./resample.ts";
import { decodeWav } from "./wav.ts";

/** Of a file: an hour of 16 bits at 32 kHz. */
const MAX_BYTES = 2 ** 28;
const WHAT = "audio that can be decoded";

/**
 * The samples of an audio file, float32, mono, at `rate` a second. A WAV file is read here, others by ffmpeg.
 * @throws UserError with the path if it is none, is broken or cut off, or is larger than 256 MiB.
 */
export async function decodeAudio(path: string, rate: number): Promise<Float32Array> {
  if (extname(path).toLowerCase() !== ".wav") return decodeOther(path, rate);
  const { rate: from, samples } = decodeWav(await read(path), path);
  if ((4 * samples.length * rate) / from > MAX_BYTES)
    throw expected(path, WHAT, `${Math.round(samples.length / from)} s`, "cut it into shorter ones");
  return resample(samples, from, rate);
}

async function decodeOther(path: string, rate: number): Promise<Float32Array> {
  const taken = ["-vn", "-sn", "-dn", "-ac", "1", "-ar", `${rate}`, "-f", "f32le", "pipe:1"];
  const args = ["-nostdin", "-v", "error", "-threads", "1", ...inputOf(path), ...taken];
  const bytes = await outputOf("ffmpeg", path, { what: WHAT, args, most: MAX_BYTES });
  const samples = new Float32Array(new Uint8Array(bytes).buffer, 0, Math.floor(bytes.length / 4)); // a copy is aligned
  if (samples.length === 0) throw expected(path, WHAT, "0 samples");
  return samples;
}

async function read(path: string): Promise<Uint8Array> {
  try {
    const stats = await stat(path); // first, for to open a named pipe would wait for ever
    if (!stats.isFile()) throw expected(path, WHAT, "something that is not a file");
    if (stats.size > MAX_BYTES)
      throw expected(path, `${WHAT}, of at most 256 MiB`, `${Math.ceil(stats.size / 2 ** 20)} MiB`);
    return await readFile(path);
  } catch (error) {
    throw error instanceof UserError ? error : expected(path, WHAT, faultOf(error));
  }
}
