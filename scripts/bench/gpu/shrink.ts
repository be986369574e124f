/** A CUDA library without what other GPUs run: of the same size, with zeros in the place of that, which compress to nothing. */
import { spawnSync } from "node:child_process";

/** Machine code for one architecture, an entry of a "fatbin". */
interface Code {
  /** Offset in the library, and length, bytes. */
  readonly at: number;
  readonly bytes: number;
  /** 90 for sm_90. */
  readonly architecture: number;
  /** Length of the data proper, bytes: the rest fills up. 0 if it is not compressed. */
  readonly compressed: number;
}

const SECTION = ".nv_fatbin";
const CONTAINER = 0xba55ed50;

/**
 * Zeroes, in place, the code for other architectures and the kernels whose mangled names match `without`. The rest runs
 * as before; a kernel that is gone fails where it is launched. Needs the program `zstd` to see names.
 *
 * @returns bytes of code before and after.
 * @throws Error if the file is no library with CUDA code, or has none for that architecture.
 */
export function keepArchitecture(
  library: Buffer,
  architecture: number,
  without?: RegExp,
): { before: number; after: number } {
  const codes = codesOf(library);
  const own = codes.filter((code) => code.architecture === architecture);
  if (own.length === 0) throw new Error(`expected code for sm_${architecture}, found none`);
  const kept = new Set(
    own.filter((code) => !without || !kernelsIn(library, code).some((k) => without.test(k))),
  );
  for (const code of codes) if (!kept.has(code)) library.fill(0, code.at, code.at + code.bytes);
  return { before: bytesOf(codes), after: bytesOf([...kept]) };
}

const bytesOf = (codes: readonly Code[]) => codes.reduce((sum, { bytes }) => sum + bytes, 0);

function codesOf(library: Buffer): readonly Code[] {
  const { start, end } = sectionOf(library);
  const found: Code[] = [];
  let at = start;
  while (at + 16 <= end) {
    if (library.readUInt32LE(at) !== CONTAINER) {
      at += 8; // zeros between containers
      continue;
    }
    const first = at + library.readUInt16LE(at + 6);
    at = first + Number(library.readBigUInt64LE(at + 8));
    for (let header = first; header < at; ) {
      const code = header + library.readUInt32LE(header + 4);
      const bytes = Number(library.readBigUInt64LE(header + 8));
      const [compressed, architecture] = [16, 28].map((place) => library.readUInt32LE(header + place));
      found.push({ at: code, bytes, architecture: architecture!, compressed: compressed! });
      header = code + bytes;
    }
  }
  return found;
}

/** Where the CUDA code lies in a library of 64 bits. */
function sectionOf(library: Buffer): { start: number; end: number } {
  const long = (at: number) => Number(library.readBigUInt64LE(at));
  if (library.length < 64 || library.readUInt32BE(0) !== 0x7f454c46)
    throw new Error("expected an ELF library");
  const [size, count, names] = [58, 60, 62].map((at) => library.readUInt16LE(at));
  const headers = Array.from({ length: count! }, (_, i) => long(40) + i * size!);
  const strings = long(headers[names!]! + 24);
  const found = headers.find((at) => {
    const name = strings + library.readUInt32LE(at);
    return library.toString("latin1", name, name + SECTION.length + 1) === `${SECTION}\0`;
  });
  if (found === undefined) throw new Error(`expected a library with a section ${SECTION}`);
  return { start: long(found + 24), end: long(found + 24) + long(found + 32) };
}

/** Mangled names of its kernels: each has a section of its own. */
function kernelsIn(library: Buffer, { at, bytes, compressed }: Code): readonly string[] {
  const data = library.subarray(at, at + (compressed || bytes));
  const code = compressed ? decompressed(data) : data;
  return [...code.toString("latin1").matchAll(/\.text\.(\w+)/g)].map(([, name]) => name!);
}

function decompressed(data: Buffer): Buffer {
  const { error, stdout, status } = spawnSync("zstd", ["-dc"], { input: data, maxBuffer: 2 ** 30 });
  if (error ?? status !== 0) throw new Error(`zstd -dc: ${error?.message ?? `ended with ${status}`}`);
  return stdout;
}
