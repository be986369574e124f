/** The decoded pictures of items: frames of a file are decoded some at a time, for to come to one takes those before it. */
import { join } from "node:path";
import { type Source, stacked } from "./canvas.ts";
import type { Decoder } from "./decoder.ts";
import { type Box, type FramesOf, type Items, openItems, type Picture } from "./items.ts";
import { openKept } from "./kept.ts";
import type { Sources } from "./sources.ts";
import { isVideo } from "./video.ts";

export interface PicturesOptions {
  readonly decoder: Decoder;
  readonly seed: number;
  /** See `decodeSource`; pixels. */
  readonly shorterSide: number;
  /** Decoded pictures are kept up to this many bytes. */
  readonly cacheBytes: number;
  /** Decodes at a time. */
  readonly concurrency: number;
}

/** The two pictures of an item in one, and where each lies. */
export interface Stack {
  readonly source: Source;
  readonly places: readonly Box[];
}

export interface Stacks {
  /** Undefined where a picture cannot be decoded. Decodes are queued before it returns. */
  get(item: number, epoch: number): Promise<Stack | undefined>;
  /** Paths of the files that could not be decoded, wholly or in part. */
  readonly broken: ReadonlySet<string>;
  /** Decodes that wait reject; resolves when none runs any more. */
  close(): Promise<void>;
}

/**
 * Frames that are decoded together. To come to the first of them a video's decoder takes those from the keyframe before it,
 * often a hundred or more; animated images are small and short.
 */
const together = (file: string): number => (isVideo(file) ? 128 : 32);

export function openStacks({ root, files }: Sources, items: Items, options: PicturesOptions): Stacks {
  const { decoder, seed, shorterSide, cacheBytes, concurrency } = options;
  const { pair } = openItems(items, seed);
  const framesOf = new Map<number, FramesOf>();
  for (const { pictures } of items.groups) if ("times" in pictures) framesOf.set(pictures.file, pictures);
  const broken = new Set<string>();
  const bytesOf = (sources: readonly Source[]) =>
    sources.reduce((sum, { pixels }) => sum + pixels.byteLength, 0);
  const kept = openKept<string, readonly Source[]>({ bytesOf, cacheBytes, concurrency });

  async function decode(picture: Picture, from: number): Promise<readonly Source[] | undefined> {
    const file = files[picture.file]!;
    const frames = framesOf.get(picture.file);
    const found =
      picture.frame === undefined || !frames
        ? [await decoder.source(file, shorterSide, picture.box)]
        : await decoder.frames(file, frames.times.subarray(from, from + together(file)), from, shorterSide);
    if (found?.[0]) return found as readonly Source[];
    broken.add(join(root, file));
    return undefined;
  }

  async function get(item: number, epoch: number): Promise<Stack | undefined> {
    const pictures = pair(item, epoch);
    const [one, other] = await Promise.all(
      pictures.map(async (picture) => {
        const { frame = 0 } = picture;
        const from = frame - (frame % together(files[picture.file]!));
        const found = await kept.get(keyOf(picture, from), () => decode(picture, from));
        return found?.[frame - from];
      }),
    );
    if (!one || !other) return undefined;
    if (one !== other) return stacked([one, other]);
    const { places, source } = stacked([one]);
    return { source, places: [places[0]!, places[0]!] };
  }

  return { get, broken, close: kept.close };
}

const keyOf = ({ file, frame, box }: Picture, from: number): string => {
  const of = box ? ` ${box.top} ${box.left} ${box.height} ${box.width}` : "";
  return frame === undefined ? `${file}${of}` : `${file}:${from}`;
};
