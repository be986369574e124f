/** A temporary folder of images for the tests of a file. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { constants, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import sharp, { type Create, type Sharp } from "sharp";

export interface Folder {
  readonly path: string;
  /** Writes a file, with the folders it lies in; its path. */
  write(name: string, content: string | Uint8Array): Promise<string>;
}

/** Registers hooks that make the folder and remove it. */
export function temporaryFolder(): Folder {
  let path = "";
  before(async () => {
    path = await mkdtemp(join(tmpdir(), "ort-pretrain-data-"));
  });
  after(() => rm(path, { recursive: true, force: true }));
  return {
    get path() {
      return path;
    },
    async write(name, content) {
      const file = join(path, name);
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, content);
      return file;
    },
  };
}

/** One color all over. */
export function plain(width: number, height: number, background: Create["background"]): Sharp {
  return sharp({ create: { width, height, channels: 3, background } });
}

/** Gray with noise: what JPEG cannot make small. */
export function noise(width: number, height: number): Sharp {
  const background = "black";
  return sharp({
    create: { width, height, channels: 3, background, noise: { type: "gaussian", mean: 128, sigma: 40 } },
  });
}

/** What node:fs throws for a fault of the system. */
export function systemError(code: "EACCES" | "EIO"): Error {
  return Object.assign(new Error(`${code}: of a test`), { code, errno: -constants.errno[code] });
}

/** The message of what a promise rejects with. */
export async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("expected a rejection");
}
