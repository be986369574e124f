/** The folders of classes that a classifier is trained for. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { expected } from "../errors.ts";

/**
 * @param data as `findLabelledImages` took it; of a list nothing is checked
 * @param classes that it found
 * @throws UserError if a folder holds no image, or two have one name in two forms of Unicode
 */
export async function checkClassFolders(data: string, classes: readonly string[]): Promise<void> {
  if (!(await stat(data)).isDirectory()) return;
  const names = new Map<string, string>();
  for (const entry of await readdir(data)) {
    if (entry.startsWith(".") || !(await isFolder(join(data, entry)))) continue;
    const name = entry.normalize("NFC");
    if (!classes.includes(name))
      throw expected(join(data, entry), "images of the class", "none", "add some or remove the folder");
    const before = names.get(name);
    if (before !== undefined) {
      const found = `two folders "${name}", whose names are in different forms of Unicode`;
      throw expected(data, "one folder per class", found, "put their images into one");
    }
    names.set(name, entry);
  }
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (what) => what.isDirectory(),
    () => false,
  );
