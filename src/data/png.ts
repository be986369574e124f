/**
 * The values of a PNG as they are stored, one a pixel: of a palette the places in it, which libvips would turn into colours
 * (PNG specification, third edition, sections 9 and 11).
 */
import { readFile, stat } from "node:fs/promises";
import { promisify } from "node:util";
import { inflate } from "node:zlib";
import { expected } from "../errors.ts";
import { faultOf } from "../fault.ts";

export interface Plane {
  readonly width: number;
  readonly height: number;
  /** [height, width]. */
  readonly values: Uint8Array;
}

/** What is read. */
const WANTED = "a PNG with one value of 8 bits a pixel, of a palette or gray";
/** Larger files are refused, bytes; values of as many pixels are. */
const MAX_BYTES = 2 ** 28;
const SIGNATURE = "\x89PNG\r\n\x1a\n";
/** Of IHDR. */
const PALETTE = 3;
const COLOR_TYPES: Readonly<Record<number, string>> = {
  2: "RGB",
  4: "gray with transparency",
  6: "RGB with transparency",
};

/** @throws UserError with the path if it is another file, holds colours or more than 8 bits, or is broken or cut off. */
export async function decodePlane(path: string): Promise<Plane> {
  const bytes = await read(path);
  const broken = (found: string) => expected(path, WANTED, found);
  if (bytes.toString("latin1", 0, 8) !== SIGNATURE) throw broken("another file");
  const chunks = chunksOf(bytes);
  const header = chunks.find(({ type }) => type === "IHDR")?.data;
  if (header?.length !== 13) throw broken("a broken header");
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const [bits, type, interlace] = [header[8]!, header[9]!, header[12]!];
  if (type !== 0 && type !== PALETTE) throw broken(COLOR_TYPES[type] ?? `color type ${type}`);
  if (![1, 2, 4, 8].includes(bits)) throw broken(`${bits} bits`);
  if (interlace !== 0) throw expected(path, WANTED, "an interlaced one", "save it without interlacing");
  if (width * height === 0 || width * height > MAX_BYTES) throw broken(`${width}x${height} pixels`);
  const line = Math.ceil((width * bits) / 8);
  const packed = Buffer.concat(chunks.flatMap(({ type, data }) => (type === "IDAT" ? [data] : [])));
  const lines = await promisify(inflate)(packed, { maxOutputLength: height * (line + 1) }).catch(() => {});
  if (lines?.length !== height * (line + 1)) throw broken("one that is broken or cut off");
  const stored = unfiltered(lines, height, line);
  if (!stored) throw broken("one that is broken");
  return { width, height, values: bits === 8 ? stored : unpacked(stored, { width, height, bits, line }) };
}

async function read(path: string): Promise<Buffer> {
  const stats = await stat(path).catch((error: unknown) => {
    throw expected(path, WANTED, faultOf(error));
  });
  // Asked before it is opened: to open a named pipe would wait for ever.
  if (!stats.isFile()) throw expected(path, WANTED, "something that is not a file");
  if (stats.size > MAX_BYTES) throw expected(path, WANTED, `${stats.size} bytes`);
  return readFile(path).catch((error: unknown) => {
    throw expected(path, WANTED, faultOf(error));
  });
}

/** The chunks up to where the file ends. */
function chunksOf(bytes: Buffer): readonly { readonly type: string; readonly data: Buffer }[] {
  const chunks = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = bytes.readUInt32BE(at);
    const [from, to] = [at + 8, at + 8 + length];
    chunks.push({ type: bytes.toString("latin1", at + 4, from), data: bytes.subarray(from, to) });
    at = to + 4; // behind the checksum: zlib has its own
  }
  return chunks;
}

/** Lines of `line` bytes, each after a byte that says how it was filtered, as they were before; undefined if none can be. */
function unfiltered(lines: Buffer, height: number, line: number): Uint8Array | undefined {
  const out = new Uint8Array(height * line);
  for (let y = 0; y < height; y++) {
    const filter = lines[y * (line + 1)]!;
    if (filter > 4) return undefined;
    const from = y * (line + 1) + 1;
    const to = y * line;
    for (let x = 0; x < line; x++) {
      const left = x > 0 ? out[to + x - 1]! : 0;
      const above = y > 0 ? out[to + x - line]! : 0;
      const corner = x > 0 && y > 0 ? out[to + x - line - 1]! : 0;
      out[to + x] = lines[from + x]! + predicted(filter, left, above, corner);
    }
  }
  return out;
}

/** By filter: none, sub, up, average, Paeth. */
function predicted(filter: number, left: number, above: number, corner: number): number {
  if (filter === 0) return 0;
  if (filter === 1) return left;
  if (filter === 2) return above;
  if (filter === 3) return (left + above) >> 1;
  const [a, b, c] = [Math.abs(above - corner), Math.abs(left - corner), Math.abs(left + above - 2 * corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? above : corner;
}

interface Packed extends Pick<Plane, "width" | "height"> {
  /** Of a value. */
  readonly bits: number;
  /** Bytes. */
  readonly line: number;
}

/** Values of fewer than 8 bits, the first in a byte's highest. */
function unpacked(stored: Uint8Array, { width, height, bits, line }: Packed): Uint8Array {
  const values = new Uint8Array(width * height);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const at = x * bits;
      const byte = stored[y * line + (at >> 3)]!;
      values[y * width + x] = (byte >> (8 - bits - (at & 7))) & (2 ** bits - 1);
    }
  return values;
}
