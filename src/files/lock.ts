/**
 * One process at a time writes to a folder, or to a file of it: `run.lock` in it, or another lock, says which. A process that was killed leaves its lock behind;
 * the next one finds that it is gone, by its id and the time it started at, or, where that cannot be asked about (another
 * machine, another container), by its lock, which a process that runs writes to every few seconds.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  linkSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { expected, UserError } from "../errors.ts";
import { codeOf, makeFolder, writeFailed } from "./atomic.ts";

export const LOCK = "run.lock";

export interface Lock {
  /** @throws UserError if another process has the folder now, which this one must leave alone. */
  check(): void;
  /** Removes the lock, and the folder if it was made for it and is empty. */
  release(): void;
}

export interface LockOptions {
  /** The lock's name in the folder. @default "run.lock" */
  readonly name?: string;
  /** Milliseconds to wait for a process that holds it and runs. @default 0 */
  readonly wait?: number;
  /** What to do where such a process keeps it. */
  readonly advice?: string;
  /** Takes a line that says what is waited for. */
  readonly note?: (line: string) => void;
  /** Milliseconds between two signs of life. @default 10000 */
  readonly beat?: number;
  /** Milliseconds without a sign of life after which the holder counts as gone, if it cannot be asked about. @default 60000 */
  readonly patience?: number;
}

/** What a lock holds. */
const ownerSchema = z.object({
  pid: z.number().int().positive(),
  host: z.string().max(300),
  /** ISO 8601. */
  since: z.string().max(40),
  /** Processes of one place see each other by their ids. */
  place: z.string().max(300),
  /** When the process started, in ticks since the machine did; null where the system does not tell. */
  started: z.string().max(30).nullable(),
  /** Of this lock alone. */
  id: z.string().max(40),
});
type Owner = z.infer<typeof ownerSchema>;

/** A lock as it was found; its owner is undefined where another program wrote it, or it was cut off. */
interface Found {
  readonly owner: Owner | undefined;
  readonly modified: number;
}

/** Milliseconds in which any other process that found the same lock abandoned has written its own over it. */
const SETTLED = 200;
const WATCH = 500;
/** Milliseconds between two looks at a lock that is held for a moment. */
const SHORT = 20;

/**
 * Makes the folder if need be, and takes it.
 * @throws UserError if it cannot be written to, or another process holds it.
 */
export async function lockFolder(dir: string, options: LockOptions = {}): Promise<Lock> {
  const { note, beat = 10_000, patience = 60_000, name = LOCK, wait = 0 } = options;
  const { advice = "let it end, stop it or give another --out" } = options;
  const made = await makeFolder(dir);
  const path = join(dir, name);
  const started = performance.now();
  const owner = self();
  let first: Found | undefined;
  let begun = 0;
  for (;;) {
    const now = create(path, owner);
    if (now === undefined) break; // it is ours
    const found = look(path);
    if (!found) continue; // released meanwhile
    const runs = found.owner && stillRuns(found.owner);
    if (first?.owner?.id !== found.owner?.id || !first) {
      first = found;
      begun = performance.now();
    }
    if (runs === true || found.modified !== first.modified) {
      if (performance.now() - started >= wait) throw heldBy(dir, found.owner, advice);
      first = undefined;
      await sleep(SHORT);
      continue;
    }
    const silent = Math.max(now - found.modified, performance.now() - begun);
    if (runs === false || silent >= patience) {
      if (await takeOver(path, found, owner)) break;
    } else {
      if (found === first) {
        const seconds = Math.ceil((patience - silent) / 1000);
        note?.(`${path}: waiting up to ${seconds} s for a sign of life from ${named(found.owner)}`);
      }
      await sleep(Math.min(WATCH, beat));
    }
  }
  const timer = setInterval(() => touch(path), beat);
  timer.unref();
  return {
    check() {
      // A lock that someone cleared away is put back.
      if (look(path)?.owner?.id === owner.id || create(path, owner) === undefined) return;
      const other = named(look(path)?.owner);
      throw new UserError(`${dir}: ${other} has taken the folder meanwhile; this process leaves it alone`);
    },
    release() {
      clearInterval(timer);
      if (look(path)?.owner?.id === owner.id) rmSync(path, { force: true });
      if (made) {
        try {
          rmdirSync(dir);
        } catch {
          // Something is in it.
        }
      }
    },
  };
}

/**
 * Makes the lock unless there is one; then the file system's time, ms. It appears whole: its content is written before
 * it has its name.
 */
function create(path: string, owner: Owner): number | undefined {
  const text = `${JSON.stringify(owner)}\n`;
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    writeFileSync(temporary, text, { flag: "wx" });
    const now = statSync(temporary).mtimeMs;
    try {
      linkSync(temporary, path);
    } catch (error) {
      if (codeOf(error) === "EEXIST") return now;
      // Not every file system has hard links.
      writeFileSync(path, text, { flag: "wx" });
    }
    return undefined;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return Date.now();
    throw writeFailed(join(path, ".."), error, text.length);
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** Writes over a lock that its owner abandoned; whether it is ours then, should others have done the same. */
async function takeOver(path: string, found: Found, owner: Owner): Promise<boolean> {
  const latest = look(path);
  if (!latest || latest.owner?.id !== found.owner?.id || latest.modified !== found.modified) return false;
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    writeFileSync(temporary, `${JSON.stringify(owner)}\n`, { flag: "wx" });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw writeFailed(join(path, ".."), error);
  }
  await sleep(SETTLED);
  return look(path)?.owner?.id === owner.id;
}

function look(path: string): Found | undefined {
  try {
    const { mtimeMs: modified } = statSync(path);
    return { owner: ownerOf(readFileSync(path, "utf8")), modified };
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined;
    throw expected(path, "a lock that can be read", `none (${codeOf(error)})`, "remove it");
  }
}

function ownerOf(text: string): Owner | undefined {
  try {
    return ownerSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** A sign of life: written, not only dated, for the file system's clock to date it. */
function touch(path: string): void {
  try {
    const file = openSync(path, "r+");
    writeSync(file, "{", 0);
    closeSync(file);
  } catch {
    // Told by the next checkpoint, if it lasts.
  }
}

/** Whether the process still runs; undefined where that cannot be told by its id. */
function stillRuns({ pid, place, started }: Owner): boolean | undefined {
  if (place !== placeOf()) return undefined;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (codeOf(error) === "ESRCH") return false;
  }
  const found = startOf(pid);
  if (found === undefined || started === null) return undefined; // an id may be another process's by now
  return found === started;
}

const self = (): Owner => ({
  pid: process.pid,
  host: hostname(),
  since: new Date().toISOString(),
  place: placeOf(),
  started: startOf(process.pid) ?? null,
  id: randomBytes(12).toString("hex"),
});

/** On Linux the boot of the machine and the namespace of process ids, so that containers are places of their own. */
function placeOf(): string {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    return `${boot} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return hostname();
  }
}

/** Linux alone; "" for one that has ended and whose parent has yet to take note. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // from the third on: names may hold anything
    return /[ZX]/.test(fields[0]!) ? "" : fields[19];
  } catch {
    return undefined;
  }
}

const named = (owner: Owner | undefined): string =>
  owner ? `process ${owner.pid} on ${owner.host} (since ${owner.since})` : "a process that it does not name";

const heldBy = (dir: string, owner: Owner | undefined, advice: string): UserError =>
  expected(dir, "a folder that no other run writes to", named(owner), advice);
