/** Decodes the images and audio of a folder and says what is to be said of it, each thing once. */
import { join } from "node:path";
import { messageOf } from "../errors.ts";
import { decodeAudio } from "./audio.ts";
import type { Source } from "./canvas.ts";
import { decodeBox, decodePadded, decodeSource, decodeSquare } from "./decode.ts";
import { decodeFrames } from "./frames.ts";
import type { Box } from "./items.ts";
import type { Sources } from "./sources.ts";
import { KindError, type Reading } from "./values.ts";

export interface DecoderOptions {
  /** Takes a line for all that was left out when the folder was searched, for each kind of file, for each broken image. */
  readonly warn: (line: string) => void;
  /** What becomes of images that cannot be decoded, in their warnings. @default "it is left out" */
  readonly instead?: string | undefined;
}

/** Of one of the folder's files; undefined, after a warning, if it cannot be decoded. */
export interface Decoder {
  /** The whole image or what a box shows of it, see `decodeSource`; of sources with objects see `decodePadded`. */
  source(file: string, shorterSide: number, box?: Box): Promise<Source | undefined>;
  /** See `decodeFrames`. */
  frames(
    file: string,
    times: Float64Array,
    from: number,
    shorterSide: number,
  ): Promise<readonly Source[] | undefined>;
  /** See `decodeSquare`. */
  square(file: string, side: number): Promise<Source | undefined>;
  /** See `decodeBox`. */
  box(file: string, side: number, box: Box): Promise<Source | undefined>;
  /** See `decodeAudio`. */
  audio(file: string, rate: number): Promise<Float32Array | undefined>;
}

export function openDecoder(
  { root, notes, range, objects }: Sources,
  { warn, instead = "it is left out" }: DecoderOptions,
): Decoder {
  for (const note of notes) warn(note);
  const said = new Set<string>();
  const once = (kind: string, line: string) => {
    if (!said.has(kind)) warn(`${line} (said once for all such files)`);
    said.add(kind);
  };
  const reading: Reading = { range, said, note: once };
  const tell = (error: unknown) => {
    const line = `${messageOf(error)}; ${instead}`;
    if (error instanceof KindError) once(error.kind, line);
    else warn(line);
    return undefined;
  };
  return {
    source: (file, shorterSide, box) => {
      const path = join(root, file);
      const source = objects
        ? decodePadded(path, shorterSide, reading)
        : decodeSource(path, shorterSide, reading, box);
      return source.catch(tell);
    },
    frames: (file, times, from, shorterSide) =>
      decodeFrames(join(root, file), times, from, shorterSide).catch(tell),
    square: (file, side) => decodeSquare(join(root, file), side, reading).catch(tell),
    box: (file, side, box) => decodeBox(join(root, file), side, reading, box).catch(tell),
    audio: (file, rate) => decodeAudio(join(root, file), rate).catch(tell),
  };
}
