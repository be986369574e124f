/** Frames of a file that has several: of an animated GIF or WebP by sharp, of a video by FFmpeg. */
import { extname } from "node:path";
import { expected, messageOf, UserError } from "../errors.ts";
import { BEHIND, type Source } from "./canvas.ts";
import { loadSharp, look, MAX_PIXELS } from "./decode.ts";
import { decodeVideo, isVideo } from "./video.ts";

/** Extensions of files that may hold more than one frame, besides those of videos. */
const ANIMATED = ["gif", "webp"];

/** More frames of a file are refused: 11 hours of 25 a second. */
export const MAX_FRAMES = 2 ** 20;

export const mayMove = (file: string): boolean =>
  ANIMATED.includes(extname(file).slice(1).toLowerCase()) || isVideo(file);

/**
 * The frames of a file that are shown at `times`, microseconds, of which the first is its frame `from`; each as
 * `decodeSource` has an image.
 *
 * @throws UserError with the path if they cannot be decoded.
 */
export async function decodeFrames(
  path: string,
  times: Float64Array,
  from: number,
  shorterSide: number,
): Promise<readonly Source[]> {
  const frames = isVideo(path)
    ? await decodeVideo(path, times, shorterSide)
    : await decodePages(path, times.length, from, shorterSide);
  if (frames.length === times.length) return frames;
  throw expected(path, `${times.length} frames from frame ${from} on`, `${frames.length}`);
}

/** When the frames of an animated image are shown, microseconds from its start; one of a still. @throws UserError */
export async function timesOfPages(path: string): Promise<Float64Array> {
  look(path); // refuses what is no image
  const sharp = await loadSharp();
  try {
    const { pages = 1, delay = [] } = await sharp(path, { limitInputPixels: MAX_PIXELS }).metadata();
    if (pages > MAX_FRAMES) throw expected(path, `at most ${MAX_FRAMES} frames`, `${pages}`);
    const times = new Float64Array(pages);
    // Browsers show a frame of no time, or nearly, for a tenth of a second.
    for (let i = 1; i < pages; i++)
      times[i] = times[i - 1]! + 1000 * ((delay[i - 1] ?? 0) > 10 ? delay[i - 1]! : 100);
    return times;
  } catch (error) {
    throw error instanceof UserError
      ? error
      : expected(path, "an image that can be decoded", messageOf(error));
  }
}

async function decodePages(
  path: string,
  pages: number,
  page: number,
  shorterSide: number,
): Promise<Source[]> {
  const sharp = await loadSharp();
  try {
    const image = sharp(path, { pages, page, limitInputPixels: MAX_PIXELS, failOn: "error" });
    const metadata = await image.metadata();
    const { width, pageHeight: height = metadata.height } = metadata;
    const factor = Math.min(
      1,
      shorterSide / Math.min(width, height),
      (2 * shorterSide) / Math.max(width, height),
    );
    const size = (side: number) => Math.max(1, Math.round(side * factor));
    const { data, info } = await image
      .resize(size(width), size(height), { fit: "fill", kernel: "linear" })
      .flatten({ background: BEHIND })
      .toColourspace("srgb")
      .raw()
      .toBuffer({ resolveWithObject: true });
    const tall = info.height / pages;
    const bytes = info.width * tall * 3;
    return Array.from({ length: pages }, (_, i) => ({
      width: info.width,
      height: tall,
      pixels: Uint8Array.from(data.subarray(i * bytes, (i + 1) * bytes)),
    }));
  } catch (error) {
    throw expected(path, `frames ${page} to ${page + pages - 1}, whole`, messageOf(error));
  }
}
