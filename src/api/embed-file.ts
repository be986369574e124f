/**
 * The features of a folder, written as they are made: however many images there are, memory holds a block of them. Rows
 * go to a folder beside the file, with how many of them are whole, so that work which was cut off goes on from there.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { type FileHandle, open, rename, rm, rmdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as z from "zod";
import { fingerprint, type Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { readWhole, syncFolder, writeFailed, writeFileAtomic } from "../files/atomic.ts";
import { lockFolder } from "../files/lock.ts";
import { npyHeader } from "../files/npy.ts";
import { type FeatureRows, writeParquet } from "../files/parquet.ts";
import { parseJson } from "../files/safetensors.ts";
import { openProgress } from "../train/progress.ts";
import type { Embedder } from "./audio-encoder.ts";
import { noneDecoded, readModelFile, writeIndex } from "./encoder.ts";
import type { FeatureBlock } from "./features.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

export interface EmbedFileOptions {
  /** What else the features depend on, such as the number of threads: with other values it starts anew. */
  readonly settings?: string | undefined;
  /** Milliseconds between two records of how far it is. @default 2000 */
  readonly recordEvery?: number | undefined;
}

export interface EmbeddedFile {
  /** The list of paths beside a .npy file. */
  readonly index?: string;
  /** Rows. */
  readonly images: number;
  /** Of a row. */
  readonly length: number;
}

const AGAIN = "run the same command again to go on";
const MAX_RECORD = 2 ** 28;
const place = z.number().int().min(0);
const recordSchema = z.object({ of: z.string(), done: place, left: z.array(place) });

/** How many images are behind it, and which of them could not be decoded. */
type Progress = Pick<z.infer<typeof recordSchema>, "done" | "left">;

/**
 * Writes the features of all images that can be decoded as `file`: .npy with the paths of its rows beside it, or .parquet
 * with both. Where the same work was cut off, by a kill or an aborted signal, it goes on, and ends with the same bytes.
 * @throws UserError if nothing can be decoded or written, or another process writes it now; the signal's reason once it is aborted.
 */
export async function embedToFile(
  encoder: Embedder,
  sources: Sources,
  file: string,
  { settings = "", recordEvery = 2000 }: EmbedFileOptions = {},
  surroundings: Surroundings = {},
): Promise<EmbeddedFile> {
  const { output = QUIET } = surroundings;
  const { features: d } = encoder.metadata;
  const count = sources.files.length;
  const folder = `${file}.part`;
  const [partial, record] = [join(folder, "rows"), join(folder, "done.json")];
  const of = await identityOf(encoder, sources, settings);
  const header = npyHeader(count, d);
  const lock = await lockFolder(folder, { note: (line) => openProgress(output).note(line) });
  const sizeOf = ({ done, left }: Progress) => header.length + 4 * d * (done - left.length);
  try {
    const before = await progressOf(partial, record, of, sizeOf);
    if (before.done === 0) await rm(record, { force: true });
    else openProgress(output).end(`going on after ${before.done} of ${count} images`);
    const left = await writeRows(partial, encoder.embedBlocks(sources, before.done, surroundings), {
      ...{ before, count, at: sizeOf(before), recordEvery },
      record: (progress) => writeFileAtomic(record, JSON.stringify({ of, ...progress }), AGAIN),
    });
    const files = sources.files.filter((_, i) => !left.has(i));
    if (files.length === 0) {
      await rm(partial);
      throw noneDecoded(sources);
    }
    const written = { images: files.length, length: d };
    if (file.endsWith(".parquet")) {
      const about = { "ort-pretrain.encoder": JSON.stringify(encoder.metadata) };
      await writeParquet(file, rowsIn(partial, header.length, files, d), d, about);
      await rm(partial);
      return written;
    }
    await writeHeader(partial, npyHeader(files.length, d));
    const index = await writeIndex(file, files, d, encoder.metadata);
    await rename(partial, file);
    await syncFolder(dirname(file));
    return { index, ...written };
  } catch (error) {
    throw writeFailed(dirname(file), error, undefined, AGAIN);
  } finally {
    if (!existsSync(partial)) await rm(record, { force: true });
    lock.release();
    await rmdir(folder).catch(() => {}); // where rows are left for the next time
  }
}

interface RowsOptions {
  readonly before: Progress;
  /** All images. */
  readonly count: number;
  /** The byte that the next row goes to. */
  readonly at: number;
  readonly recordEvery: number;
  readonly record: (progress: Progress) => Promise<void>;
}

/** Writes rows after those that are there; the places of all images that could not be decoded. */
async function writeRows(
  partial: string,
  blocks: AsyncIterable<FeatureBlock>,
  { before, count, at: start, recordEvery, record }: RowsOptions,
): Promise<ReadonlySet<number>> {
  const left = new Set(before.left);
  const handle = await open(partial, before.done > 0 ? "r+" : "w");
  try {
    let at = start;
    let last = performance.now();
    for await (const { from, done, data, kept } of blocks) {
      await writeAt(handle, Buffer.from(data.buffer, data.byteOffset, data.byteLength), at);
      at += data.byteLength;
      const decoded = new Set(kept);
      for (let i = from; i < done; i++) if (!decoded.has(i)) left.add(i);
      if (performance.now() - last < recordEvery) continue;
      await handle.datasync(); // rows first: what is recorded is there
      await record({ done, left: [...left] });
      last = performance.now();
    }
    await handle.truncate(at); // rows that were written after the last record
    await handle.sync();
    await record({ done: count, left: [...left] });
  } finally {
    await handle.close();
  }
  return left;
}

/** Bytes of a group of rows. */
const GROUP_BYTES = 2 ** 22;

/** The rows of a partial file from a byte on, a few megabytes at a time. */
async function* rowsIn(
  partial: string,
  start: number,
  files: readonly string[],
  d: number,
): AsyncGenerator<FeatureRows> {
  const size = Math.max(1, Math.floor(GROUP_BYTES / (4 * d)));
  const handle = await open(partial, "r");
  try {
    for (let from = 0; from < files.length; from += size) {
      const own = files.slice(from, from + size);
      const data = new Float32Array(own.length * d);
      const bytes = Buffer.from(data.buffer);
      for (let done = 0; done < bytes.length; ) {
        const at = start + 4 * d * from + done;
        const { bytesRead } = await handle.read(bytes, done, bytes.length - done, at);
        if (bytesRead === 0)
          throw expected(partial, `${files.length} rows`, "fewer", "it changes while it is read");
        done += bytesRead;
      }
      yield { files: own, data };
    }
  } finally {
    await handle.close();
  }
}

async function writeHeader(path: string, header: Buffer): Promise<void> {
  const handle = await open(path, "r+");
  try {
    await writeAt(handle, header, 0);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeAt(handle: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await handle.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }
}

/** What features depend on, as a hash: the encoder, the images' names in their order, how they are read. */
async function identityOf({ path, metadata }: Embedder, sources: Sources, settings: string): Promise<string> {
  const { bytes } = await readModelFile(path);
  const how = JSON.stringify(metadata); // of a third-party model, how it was taken
  const parts = [fingerprint(sources), JSON.stringify(sources.range ?? null), settings, how];
  return createHash("sha256").update(bytes).update(parts.join("\0")).digest("hex");
}

/** How far the same work came before it was cut off: nowhere if there is none, or it was other work. */
async function progressOf(
  partial: string,
  record: string,
  of: string,
  sizeOf: (progress: Progress) => number,
): Promise<Progress> {
  const none = { done: 0, left: [] };
  if (!existsSync(partial) || !existsSync(record)) return none;
  const bytes = await readWhole(record, MAX_RECORD, "a record of work that was cut off");
  const parsed = recordSchema.safeParse(parseJson(bytes, record, "remove it to start anew"));
  if (!parsed.success || parsed.data.of !== of) return none;
  return (await stat(partial)).size >= sizeOf(parsed.data) ? parsed.data : none;
}
