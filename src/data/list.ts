/** Lists of images: a text file with a path on each line. */
import { readFile, stat } from "node:fs/promises";
import { dirname, relative, resolve, sep } from "node:path";
import { expected } from "../errors.ts";
import { faultOf } from "../fault.ts";
import { mapInOrder } from "./parallel.ts";

/** How the name of a list ends. */
export const LIST_EXTENSION = ".txt";
/** Millions of paths. */
const MAX_BYTES = 2 ** 28;
/** Files that are asked for at a time. */
const BLOCK = 4096;

export interface Listed {
  /** The folder that holds all of the images. */
  readonly root: string;
  /** Paths relative to it, with "/" between their parts, sorted by code unit, each once. */
  readonly files: string[];
  readonly notes: readonly string[];
}

/**
 * Paths are relative to the list's folder, or absolute. Empty lines, and those that start with #, are skipped.
 * @throws UserError if it cannot be read, names no image, or names one that is not there.
 */
export async function imagesListed(list: string): Promise<Listed> {
  const lines = (await textOf(list)).replace(/^\uFEFF/, "").split(/\r?\n/);
  const folder = dirname(resolve(list));
  const named = lines.flatMap((line, i) =>
    line === "" || line.startsWith("#") ? [] : [{ path: resolve(folder, line), line: i + 1 }],
  );
  if (named.length === 0) throw expected(list, "a path on each line", "none");
  await checkThere(list, named);
  const paths = [...new Set(named.map(({ path }) => path))];
  const root = folderOfAll(paths);
  const files = paths.map((path) => relative(root, path).split(sep).join("/")).sort();
  const twice = named.length - paths.length;
  const notes = twice > 0 ? [`${list}: ${twice} paths are there more than once, and taken once`] : [];
  return { root, files, notes };
}

/** A list of the paths, with "/" between their parts; `leftOut` are those that would not be one line. */
export function listText(paths: readonly string[]): { text: string; leftOut: readonly string[] } {
  const isLine = (path: string) => !/[\r\n]/.test(path);
  const lines = paths.filter(isLine).map((path) => {
    const line = path.split(sep).join("/");
    return line.startsWith("#") ? `./${line}` : line;
  });
  return { text: lines.map((line) => `${line}\n`).join(""), leftOut: paths.filter((path) => !isLine(path)) };
}

async function textOf(list: string): Promise<string> {
  try {
    const { size } = await stat(list);
    if (size > MAX_BYTES) throw expected(list, "a list of images of at most 256 MiB", `${size} bytes`);
    return await readFile(list, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    throw expected(list, "a list of images that can be read", faultOf(error));
  }
}

interface Named {
  readonly path: string;
  readonly line: number;
}

async function checkThere(list: string, named: readonly Named[]): Promise<void> {
  const missing: Named[] = [];
  for (let at = 0; at < named.length; at += BLOCK) {
    const found = await mapInOrder(named.slice(at, at + BLOCK), async (one) => {
      const isFile = await stat(one.path).then(
        (what) => what.isFile(),
        () => false,
      );
      return isFile ? [] : [one];
    });
    missing.push(...found.flat());
  }
  const [first] = missing;
  if (!first) return;
  const found = `no file at ${missing.length} of ${named.length}, the first ${first.path} (line ${first.line})`;
  throw expected(list, "paths of images, absolute or from the list's folder", found);
}

/** The lowest folder that all of the paths, which are absolute, lie in. */
function folderOfAll(paths: readonly string[]): string {
  let folder = dirname(paths[0]!);
  const holds = (path: string) => path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
  for (const path of paths) while (!holds(path) && folder !== dirname(folder)) folder = dirname(folder);
  return folder;
}
