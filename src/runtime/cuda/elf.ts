import { closeSync, openSync, readSync } from "node:fs";

const [LOAD, DYNAMIC] = [1, 2]; // p_type of a program header
const [NEEDED, STRTAB] = [1n, 5n]; // d_tag of an entry of the dynamic section
const LONGEST_NAME = 256;

/**
 * The libraries that a shared library asks the dynamic linker for, by their names such as "libcudart.so.13". Empty for
 * what is no library of 64 bits. Reads headers alone: these files have hundreds of megabytes.
 */
export function neededBy(path: string): readonly string[] {
  const file = openSync(path, "r");
  const read = (at: number, size: number) => {
    const bytes = Buffer.alloc(size);
    return bytes.subarray(0, readSync(file, bytes, 0, size, at));
  };
  try {
    const header = read(0, 64);
    if (header.length < 64 || header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1)
      return [];
    const [size, count] = [header.readUInt16LE(54), header.readUInt16LE(56)];
    const table = read(Number(header.readBigUInt64LE(32)), size * count);
    const segments = Array.from({ length: count }, (_, i) => {
      const at = (place: number) => Number(table.readBigUInt64LE(i * size + place));
      return { type: table.readUInt32LE(i * size), offset: at(8), address: at(16), bytes: at(32) };
    });
    const dynamic = segments.find(({ type }) => type === DYNAMIC);
    if (!dynamic) return [];
    const section = read(dynamic.offset, dynamic.bytes);
    const entries = Array.from({ length: Math.floor(section.length / 16) }, (_, i) => ({
      tag: section.readBigInt64LE(16 * i),
      value: Number(section.readBigUInt64LE(16 * i + 8)),
    }));
    const names = entries.find(({ tag }) => tag === STRTAB)?.value ?? 0;
    const holder = segments.find(
      ({ type, address, bytes }) => type === LOAD && names >= address && names < address + bytes,
    );
    if (!holder) return [];
    const start = names - holder.address + holder.offset;
    return entries
      .filter(({ tag }) => tag === NEEDED)
      .map(({ value }) => {
        const name = read(start + value, LONGEST_NAME);
        return name.toString("latin1", 0, name.indexOf(0));
      });
  } finally {
    closeSync(file);
  }
}
