/** Images that a file names: those of the folder that it speaks of. */
import { dirname, isAbsolute, relative, sep } from "node:path";
import { expected } from "../errors.ts";
import { IMAGE_EXTENSIONS } from "./folder.ts";
import type { Row } from "./table.ts";

/** Names that are shown where many are missing. */
const SHOWN = 3;

/**
 * Finds images by the names that a file has for them: relative to the folder, or whole paths.
 * @param advice where some are missing
 */
export function openListing(
  root: string,
  files: readonly string[],
  list: string,
  advice = "name them relative to that folder",
) {
  const places = new Map(files.map((file, i) => [file.normalize("NFC"), i]));
  const missing = new Set<string>();
  return {
    /** Its place in `files`; undefined, and remembered, where the folder has no such image. */
    find(name: string): number | undefined {
      const own = isAbsolute(name) ? relative(root, name) : name;
      const place = places.get(
        own
          .split(sep)
          .join("/")
          .replace(/^(\.\/)+/, "")
          .normalize("NFC"),
      );
      if (place === undefined) missing.add(name);
      return place;
    },
    /** @throws UserError if an image was missing. */
    check(): void {
      if (missing.size > 0) throw expected(list, `images of ${root}`, noneOf([...missing]), advice);
    },
  };
}

/** What is found where names are of nothing. */
export function noneOf(missing: readonly string[]): string {
  const names = missing.slice(0, SHOWN).map((name) => JSON.stringify(name.slice(0, 200)));
  return `no ${names.join(", ")}${missing.length > SHOWN ? ` and ${missing.length - SHOWN} more` : ""}`;
}

/** A first line that names no image is one of names of columns. */
export function withoutHeader(rows: readonly Row[]): readonly Row[] {
  const named = (field: string) => IMAGE_EXTENSIONS.some((end) => field.toLowerCase().endsWith(`.${end}`));
  return rows[0] && !rows[0].fields.some(named) ? rows.slice(1) : rows;
}

/** A name by which others sort in the order of the numbers in them. */
export const byNumber = (name: string): string => name.replace(/\d+/g, (digits) => digits.padStart(20, "0"));

/** The indices of files, those of each folder in the order of the numbers in their names. */
export function inFolders(files: readonly string[]): ReadonlyMap<string, readonly number[]> {
  const folders = new Map<string, number[]>();
  files.forEach((file, i) => {
    const folder = dirname(file);
    const own = folders.get(folder);
    if (own) own.push(i);
    else folders.set(folder, [i]);
  });
  const names = files.map(byNumber);
  for (const own of folders.values()) own.sort((a, b) => (names[a]! < names[b]! ? -1 : 1));
  return folders;
}
