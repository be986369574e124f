/** A look at each image of a folder: whether it can be decoded, and what it holds. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { expected, messageOf, UserError } from "../../errors.ts";
import { faultOf } from "../../fault.ts";
import { memoryBytes } from "../../machine.ts";
import type { Source } from "../canvas.ts";
import { decodeSource } from "../decode.ts";
import { mapInOrder } from "../parallel.ts";
import { sizeOf } from "../sizes.ts";
import type { Sources } from "../sources.ts";
import type { Reading } from "../values.ts";
import { isFlat, isGrey, measuresOf } from "./measures.ts";
import { THUMBNAIL_BYTES, thumbnailOf } from "./thumbnail.ts";

/** Images are looked at as training views of 224 px are made of them, see `decodeSource`. */
const SHORTER_SIDE = 256;
/** Images between two calls of `tick`. */
const BLOCK = 256;

export interface Looked {
  /** As it is shown, pixels. */
  readonly width: number;
  readonly height: number;
  /** Of the file's bytes, and of size and pixels; 128 bits of SHA-256. */
  readonly bytes: string;
  readonly pixels: string;
  readonly grey: boolean;
  readonly flat: boolean;
}

export interface Inspection {
  /** Of each file: what was seen, or why it cannot be decoded. */
  readonly images: readonly (Looked | string)[];
  /** [n, 16, 16, 3], zeros of those that cannot be decoded. */
  readonly thumbnails: Uint8Array;
}

export interface InspectOptions {
  /** Called now and then with how many are done. @throws to stop */
  readonly tick: (done: number) => void;
  /** Takes a line on a kind of file, once. */
  readonly warn: (line: string) => void;
}

/** @throws UserError if there are too many images for the memory. */
export async function inspect(sources: Sources, { tick, warn }: InspectOptions): Promise<Inspection> {
  const { root, files, range } = sources;
  checkRoom(files.length);
  const thumbnails = new Uint8Array(files.length * THUMBNAIL_BYTES);
  const said = new Set<string>();
  const note = (kind: string, line: string) => {
    if (!said.has(kind)) warn(`${line} (said once for all such files)`);
    said.add(kind);
  };
  const images: (Looked | string)[] = [];
  for (let at = 0; at < files.length; at += BLOCK) {
    const block = await mapInOrder(files.slice(at, at + BLOCK), async (file, i) => {
      const path = join(root, file);
      try {
        const { looked, thumbnail } = await lookAt(path, { range, said, note });
        thumbnails.set(thumbnail, (at + i) * THUMBNAIL_BYTES);
        return looked;
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        return messageOf(error).replace(`${path}: `, "");
      }
    });
    images.push(...block);
    tick(images.length);
  }
  return { images, thumbnails };
}

async function lookAt(path: string, reading: Reading): Promise<{ looked: Looked; thumbnail: Uint8Array }> {
  const source = await decodeSource(path, SHORTER_SIDE, reading);
  const [width, height] = isWhole(source) ? [source.width, source.height] : await sizeOf(path);
  const measures = measuresOf(source);
  const looked = {
    width,
    height,
    bytes: await digestOf(path),
    pixels: createHash("sha256")
      .update(`${width} ${height} `)
      .update(source.pixels)
      .digest()
      .toString("base64", 0, 16),
    grey: isGrey(measures),
    flat: isFlat(measures),
  };
  return { looked, thumbnail: thumbnailOf(source) };
}

/** Whether it cannot have been scaled down. */
const isWhole = ({ width, height }: Source) =>
  Math.min(width, height) < SHORTER_SIDE && Math.max(width, height) < 2 * SHORTER_SIDE;

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  try {
    await pipeline(createReadStream(path), hash);
  } catch (error) {
    throw expected(path, "a file that can be read", faultOf(error));
  }
  return hash.digest().toString("base64", 0, 16);
}

/** Bytes for each image: its thumbnail, the index of its hashes, and the rest. */
const BYTES_EACH = THUMBNAIL_BYTES + 1000;

function checkRoom(images: number): void {
  const room = memoryBytes() / 2;
  if (images * BYTES_EACH <= room) return;
  const most = Math.floor(room / BYTES_EACH);
  throw expected(
    "data check",
    `at most ${most} images, for the memory here`,
    `${images}`,
    "take fewer with --limit",
  );
}
