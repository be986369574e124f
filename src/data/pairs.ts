/** Positives that people have: lines of images that show the same. */
import { expected } from "../errors.ts";
import type { Group } from "./items.ts";
import { openListing, withoutHeader } from "./listed.ts";
import { type Row, rowsOf } from "./table.ts";

/**
 * The groups of a list of pairs: CSV or, where its name ends in .jsonl, an array of names on each line. Lines that share an
 * image are one group, so that what it goes with never counts as unrelated; but only images of one line are alike. Neither
 * the order of lines nor that of the names on them matters.
 *
 * @param files relative to `root`, sorted
 * @throws UserError if an image is missing, or a line has fewer than two or one of them twice.
 */
export function pairsIn(text: string, path: string, root: string, files: readonly string[]): Group[] {
  const rows = path.toLowerCase().endsWith(".jsonl")
    ? arraysOf(text, path)
    : withoutHeader(rowsOf(text, path));
  const listing = openListing(root, files, path);
  const lines = rows.map(({ line, fields }) => {
    const found = fields.map((name) => listing.find(name));
    const where = `${path}:${line}`;
    if (found.length < 2) throw expected(where, "two images or more", `${found.length}`);
    const known = found.filter((image) => image !== undefined);
    if (new Set(known).size < known.length) throw expected(where, "different images", "one of them twice");
    return known.sort((a, b) => a - b);
  });
  listing.check();
  if (lines.length === 0) throw expected(path, "lines of two images or more", "none");
  return groupsOf(lines);
}

const groupsOf = (lines: readonly (readonly number[])[]): Group[] => {
  const keyed = new Map(lines.map((images) => [images.join(), images])); // each once
  const sorted = [...keyed.values()].sort((a, b) => compare(a, b));
  const parents = new Map<number, number>();
  const rootOf = (image: number): number => {
    const parent = parents.get(image) ?? image;
    if (parent === image) return image;
    const root = rootOf(parent);
    parents.set(image, root); // shorter next time
    return root;
  };
  for (const [first, ...others] of sorted)
    for (const image of others) parents.set(rootOf(image), rootOf(first!));
  const groups = new Map<number, (readonly number[])[]>();
  for (const images of sorted) {
    const root = rootOf(images[0]!);
    const own = groups.get(root);
    if (own) own.push(images);
    else groups.set(root, [images]);
  }
  return [...groups.values()].map((own) => {
    const pictures = own.flat().map((file) => ({ file }));
    let end = 0;
    const shots = own.map(({ length }) => {
      end += length;
      return end - length;
    });
    return { pictures, at: new Float64Array(pictures.length), shots };
  });
};

/** As numbers, by the first that differs. */
function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((image, i) => image !== b[i]);
  return at < 0 ? a.length - b.length : a[at]! - (b[at] ?? -1);
}

function arraysOf(text: string, path: string): Row[] {
  return text.split("\n").flatMap((line, i) => {
    if (line.trim() === "") return [];
    try {
      const value: unknown = JSON.parse(line);
      if (Array.isArray(value) && value.every((name) => typeof name === "string"))
        return [{ line: i + 1, fields: value }];
    } catch {
      // said below
    }
    throw expected(`${path}:${i + 1}`, 'an array of names such as ["a.png", "b.png"]', line.slice(0, 80));
  });
}
