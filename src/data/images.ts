/** The decoded images of a folder, each of a file. */
import { join } from "node:path";
import type { Source } from "./canvas.ts";
import { openKept } from "./kept.ts";
import type { Sources } from "./sources.ts";

export interface ImagesOptions {
  /** Of a file of the folder, `sources.files[index]`, such as `Decoder.source`. */
  readonly decode: (file: string, index: number) => Promise<Source | undefined>;
  /** Decoded images are kept up to this many bytes. */
  readonly cacheBytes: number;
  /** Images handed to sharp at a time. */
  readonly concurrency: number;
}

export interface Images {
  /** The image of `sources.files[index]`, undefined if it cannot be decoded. A decode is queued before it returns. */
  get(index: number): Source | undefined | Promise<Source | undefined>;
  /** Paths of the images that could not be decoded, by index. */
  readonly broken: ReadonlyMap<number, string>;
  /** Decodes that wait reject; resolves when none runs any more. */
  close(): Promise<void>;
}

export function openImages(
  { root, files }: Sources,
  { decode, cacheBytes, concurrency }: ImagesOptions,
): Images {
  const broken = new Map<number, string>();
  const kept = openKept<number, Source>({ bytesOf, cacheBytes, concurrency });
  const decodeAt = async (index: number) => {
    const image = await decode(files[index]!, index);
    if (!image) broken.set(index, join(root, files[index]!));
    return image;
  };
  return { get: (index) => kept.get(index, () => decodeAt(index)), broken, close: kept.close };
}

const bytesOf = ({ pixels, audio }: Source): number => pixels.byteLength + (audio?.byteLength ?? 0);
