/** The decoded images of a folder: kept in memory as far as it goes, decoded again beyond that. */
import { join } from "node:path";
import PQueue from "p-queue";
import { CLOSED } from "./ahead.ts";
import type { Source } from "./canvas.ts";
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

export function openImages(sources: Sources, options: ImagesOptions): Images {
  const queue = new PQueue({ concurrency: options.concurrency });
  const kept = new Map<number, Source>();
  const decoding = new Map<number, Promise<Source | undefined>>();
  const broken = new Map<number, string>();
  let room = options.cacheBytes;
  let closed = false;

  function get(index: number) {
    if (broken.has(index)) return undefined;
    const known = kept.get(index) ?? decoding.get(index);
    if (known) return known;
    const job = queue.add(() => decode(index)).finally(() => decoding.delete(index));
    decoding.set(index, job);
    return job;
  }

  async function decode(index: number): Promise<Source | undefined> {
    if (closed) throw new Error(CLOSED);
    const file = sources.files[index]!;
    const image = await options.decode(file, index);
    if (!image) broken.set(index, join(sources.root, file));
    // First come, first kept: each is used once an epoch, so none deserves another's place.
    else if (bytesOf(image) <= room) {
      room -= bytesOf(image);
      kept.set(index, image);
    }
    return image;
  }

  async function close() {
    closed = true; // rather than clear the queue, which would leave promises open for ever
    await queue.onIdle();
    kept.clear();
  }

  return { get, broken, close };
}

const bytesOf = ({ pixels, audio }: Source): number => pixels.byteLength + (audio?.byteLength ?? 0);
