/** Compiled kernels, kept from one run to the next. */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import type { Host } from "./host.ts";

export interface KernelCache {
  /** What was kept for the key; undefined where that is not there, or not as it was written. */
  read(key: string): Promise<Uint8Array | undefined>;
  /** Keeps them by their keys, where the folder can be written to; then the oldest go, as far as there are too many. */
  keep(kernels: ReadonlyMap<string, Uint8Array>): Promise<void>;
}

/** All files together, bytes. */
const ROOM = 256 * 2 ** 20;
const NAME = /^[0-9a-f]{64}\.cubin$/;
/** Bytes of SHA-256, of the kernel, before it. */
const DIGEST = 32;

/** ORT_PRETRAIN_CACHE's, or that of the user's caches. */
export function kernelFolder({ env, home }: Pick<Host, "env" | "home">): string {
  const { ORT_PRETRAIN_CACHE: own, XDG_CACHE_HOME: users } = env;
  const caches = users && isAbsolute(users) ? users : join(home, ".cache"); // as XDG has it
  return join(own || join(caches, "ort-pretrain"), "kernels");
}

/** A key for all that a kernel depends on. */
export const keyOf = (...parts: readonly string[]): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("hex");

/** Never throws: a kernel that is not kept is compiled again. */
export function openKernelCache(folder: string, room = ROOM): KernelCache {
  const pathOf = (key: string) => join(folder, `${key}.cubin`);
  return {
    async read(key) {
      const bytes = await readFile(pathOf(key)).catch(() => undefined);
      const kernel = bytes?.subarray(DIGEST);
      return kernel && digestOf(kernel).equals(bytes!.subarray(0, DIGEST)) ? kernel : undefined;
    },
    async keep(kernels) {
      if (kernels.size === 0) return;
      try {
        await mkdir(folder, { recursive: true });
        await Promise.all(Array.from(kernels, ([key, kernel]) => write(pathOf(key), kernel)));
        await trim(folder, room);
      } catch {} // a disk that is full or read-only
    },
  };
}

const digestOf = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();

/** Others may read and write the same file: it is there as a whole or not. What a power cut leaves has another digest. */
async function write(path: string, kernel: Uint8Array): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await writeFile(temporary, Buffer.concat([digestOf(kernel), kernel]), { flag: "wx" });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Removes the oldest of our files while there are more than `room` bytes of them. */
async function trim(folder: string, room: number): Promise<void> {
  const names = (await readdir(folder)).filter((name) => NAME.test(name));
  const files = await Promise.all(
    names.map(async (name) => {
      const path = join(folder, name);
      const { size, mtimeMs } = await stat(path);
      return { path, size, mtimeMs };
    }),
  );
  let left = files.reduce((sum, { size }) => sum + size, 0);
  for (const { path, size } of files.sort((a, b) => a.mtimeMs - b.mtimeMs)) {
    if (left <= room) return;
    await rm(path, { force: true });
    left -= size;
  }
}
