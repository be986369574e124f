/** Whole files: written all or nothing, read up to a bound. */
import { randomBytes } from "node:crypto";
import { statfsSync } from "node:fs";
import { mkdir, open, rename, rm, stat, statfs } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { expected, UserError } from "../errors.ts";

/** How the names of temporary files end; one is left behind only where the process was killed. */
export const TEMPORARY = /\.[0-9a-f]{12}\.tmp$/;

/**
 * Writes the file so that `path` holds either all of `data` or what it held before, also after a power cut.
 * Its folder must exist. `retry` says how to go on once the fault is mended ("try again" by default).
 * @throws UserError on a full disk, a missing permission and the like; no temporary file stays.
 */
export async function writeFileAtomic(
  path: string,
  data: Uint8Array | string,
  retry?: string,
): Promise<void> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  let blamed = dirname(path);
  try {
    await writeSynced(temporary, bytes);
    blamed = path;
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw writeFailed(blamed, error, bytes.length, retry);
  }
}

/**
 * Makes the folder, and those that it lies in; whether it was not there. For `bytes` that are to be written to it.
 * @throws UserError if there is a file in its place, or it cannot be made.
 */
export async function makeFolder(
  dir: string,
  bytes?: number,
  make: (path: string) => Promise<unknown> = (path) => mkdir(path),
): Promise<boolean> {
  try {
    return await madeWithParents(dir, make);
  } catch (error) {
    if (["EEXIST", "ENOTDIR"].includes(codeOf(error) ?? ""))
      throw expected(dir, "a folder", "a file", "choose another folder");
    throw writeFailed(dir, error, bytes);
  }
}

/** One folder at a time: mkdir's own `recursive` says that there is no such folder, where the disk is read-only. */
async function madeWithParents(dir: string, make: (path: string) => Promise<unknown>): Promise<boolean> {
  const once = () =>
    make(dir).then(
      () => true,
      async (error) => {
        if (await isFolder(dir)) return false;
        throw error;
      },
    );
  return once().catch(async (error) => {
    const parent = dirname(resolve(dir));
    if (codeOf(error) !== "ENOENT" || parent === resolve(dir)) throw error;
    await madeWithParents(parent, make);
    return once();
  });
}

/**
 * Finds out before long work what would be told after it: that `path` names a file in a folder that can be written to, on
 * a disk with room for `bytes`.
 * @throws UserError as `writeFileAtomic` would.
 */
export async function checkWritable(path: string, bytes?: number): Promise<void> {
  const what = await stat(path).catch(() => undefined);
  if (what && !what.isFile()) throw expected(path, "a file or none", "something else", "choose another name");
  const trial = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await writeSynced(trial, Uint8Array.of(0));
  } catch (error) {
    throw writeFailed(dirname(path), error, bytes);
  } finally {
    await rm(trial, { force: true }).catch(() => {});
  }
  const { bfree, bsize } = await statfs(dirname(path)).catch(() => ({
    bfree: Number.POSITIVE_INFINITY,
    bsize: 1,
  }));
  const free = bfree * bsize;
  if (bytes === undefined || free >= bytes) return;
  throw new UserError(
    `${dirname(path)}: disk full, ${sizeText(bytes)} could not be written into the ${sizeText(free)} that are free; ` +
      "free some space and try again",
  );
}

async function writeSynced(path: string, bytes: Uint8Array): Promise<void> {
  const file = await open(path, "wx");
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes renames in the folder last through a power cut, where the file system can. */
export async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await open(path, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (error) {
    // Windows and some network file systems have no such thing.
    if (!["EINVAL", "ENOTSUP", "EPERM", "EISDIR"].includes(codeOf(error) ?? "")) throw error;
  }
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (what) => what.isDirectory(),
    () => false,
  );

/**
 * The error to throw after a failed write of `bytes` bytes: a UserError for a fault of the system (a full disk, a
 * missing permission), anything else as it came.
 */
export function writeFailed(path: string, error: unknown, bytes?: number, retry = "try again"): unknown {
  const code = codeOf(error);
  if (code === undefined) return error;
  const lost = bytes === undefined ? "" : `, ${sizeText(bytes)} could not be written`;
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
      if (hasNoInodes(path))
        return new UserError(`${path}: no inodes left${lost}; remove some files of that disk and ${retry}`);
      return new UserError(`${path}: disk full${lost}; free some space and ${retry}`);
    case "EACCES":
    case "EPERM":
      return new UserError(`${path}: no permission to write${lost}; allow it or choose another folder`);
    case "EROFS":
      return new UserError(`${path}: read-only file system${lost}; choose another folder`);
    case "ENOENT":
      return expected(path, "a folder to write to", "none", "make it first");
    case "ENOTDIR":
      return expected(path, "a folder", "a file on the way", "choose another folder");
    case "EISDIR":
    case "EEXIST":
    case "ENOTEMPTY":
      return expected(path, "nothing or what an earlier run wrote", "something else", "move it away");
    default:
      return new UserError(`${path}: could not be written (${code})${lost}`);
  }
}

/** Whether the disk takes no more files, however much space it has; `path` itself may not be there. */
function hasNoInodes(path: string): boolean {
  try {
    const { files, ffree } = statfsSync(path);
    return files > 0 && ffree === 0; // some file systems do not count them
  } catch (error) {
    const parent = dirname(path);
    return codeOf(error) === "ENOENT" && parent !== path && hasNoInodes(parent);
  }
}

/**
 * The bytes of a file of at most `max` bytes. `what` names it in errors, such as "a manifest".
 * @throws UserError if it is missing, unreadable, not a plain file or too large.
 */
export async function readWhole(
  path: string,
  max: number,
  what: string,
  advice?: string,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    // Asked before it is opened: to open a named pipe would wait for ever.
    if (!(await stat(path)).isFile()) throw expected(path, what, "something that is not a file", advice);
    const file = await open(path, "r");
    try {
      const { size } = await file.stat();
      if (size > max) {
        throw expected(path, `${what} of at most ${sizeText(max)}`, sizeText(size), advice);
      }
      const bytes = new Uint8Array(size);
      for (let at = 0; at < size; ) {
        const { bytesRead } = await file.read(bytes, at, Math.min(size - at, 2 ** 30), at);
        if (bytesRead === 0) throw expected(path, `${size} bytes`, `${at}`, "it changes while it is read");
        at += bytesRead;
      }
      return bytes;
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof RangeError) throw expected(path, `${what} that fits into memory`, "a larger one");
    const code = codeOf(error);
    if (code === undefined) throw error;
    const missing = code === "ENOENT" || code === "ENOTDIR";
    throw expected(path, what, missing ? "no such file" : `one that cannot be read (${code})`, advice);
  }
}

/** The system's code of an error, such as "ENOENT"; Node's own codes (ERR_...) are faults of ours. */
export function codeOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === "string" && /^E[A-Z0-9]+$/.test(code) ? code : undefined;
}

function sizeText(bytes: number): string {
  if (bytes < 1e3) return `${bytes} bytes`;
  const [unit, name] = bytes < 1e6 ? [1e3, "kB"] : bytes < 1e9 ? [1e6, "MB"] : [1e9, "GB"];
  const value = bytes / unit;
  return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)} ${name}`;
}
