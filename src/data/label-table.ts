/** Images that may be of several classes: a CSV with an image on each line, and its labels after it. */
import { dirname } from "node:path";
import { expected } from "../errors.ts";
import { imagesIn } from "./folder.ts";
import { drawCovering } from "./label-sets.ts";
import { openListing, withoutHeader } from "./listed.ts";
import { rangeOf, type SourceOptions, type Sources } from "./sources.ts";
import { type Row, rowsOf, tableText } from "./table.ts";

export interface LabelTableOptions extends Omit<SourceOptions, "modality"> {
  /** The folder that the paths are relative to. @default the one that the table lies in */
  readonly images?: string | undefined;
  /** Classes that it must have. @default 2 */
  readonly least?: number | undefined;
}

/** Whether a path names such a table, rather than a folder of images. */
export const isLabelTable = (path: string): boolean => path.toLowerCase().endsWith(".csv");

/** Characters: such a label is a sentence. */
const MAX_LABEL = 200;

/**
 * Lines are `path,label,label,...` as `rowsOf` reads them, of any number of labels; empty ones count for nothing. A first line
 * that names no image is one of names of columns. Classes are in Unicode's form NFC, sorted; a sample leaves them as they are.
 *
 * @throws UserError if an image is missing or there twice, a label is there twice or written in two forms, or there are too few
 *   classes.
 */
export async function findLabelTable(table: string, options: LabelTableOptions = {}): Promise<Sources> {
  const { images = dirname(table), least = 2, limit, seed = 0 } = options;
  if (limit !== undefined && (!Number.isInteger(limit) || limit < 1))
    throw expected("limit", "a whole number from 1", `${limit}`);
  const rows = withoutHeader(rowsOf(await tableText(table, "a CSV of images and labels"), table));
  if (rows.length === 0) throw expected(table, "lines of an image and its labels", "none");
  const { root, files } = await imagesIn(images);
  const named = imagesOf(rows, root, files, table);
  const labels = labelsOf(rows, table);
  const classes = [...new Set(labels.flat())].sort();
  if (classes.length < least) {
    const found = classes.length === 0 ? "no label" : `one class "${classes[0]}"`;
    throw expected(table, `labels of ${least === 1 ? "a class" : "two classes"} or more`, found);
  }
  const places = new Map(classes.map((name, place) => [name, place]));
  const all = Array.from(rows.keys(), (i) => ({
    file: files[named[i]!]!,
    set: labels[i]!.map((name) => places.get(name)!).sort((a, b) => a - b),
  })).sort((a, b) => (a.file < b.file ? -1 : 1));
  const sets = all.map(({ set }) => set);
  const taken = limit === undefined ? [...sets.keys()] : drawCovering(sets, limit, seed, "limit");
  return {
    root,
    files: taken.map((row) => all[row]!.file),
    classes,
    labels: new Int32Array(0),
    labelSets: taken.map((row) => sets[row]!),
    notes: [],
    ...rangeOf(options),
  };
}

/** The place of each row's image in `files`. */
function imagesOf(
  rows: readonly Row[],
  root: string,
  files: readonly string[],
  table: string,
): readonly number[] {
  const listing = openListing(root, files, table);
  const places = rows.map(({ fields }) => listing.find(fields[0]!));
  listing.check();
  const lines = new Map<number, number>();
  rows.forEach(({ line, fields }, i) => {
    const before = lines.get(places[i]!);
    if (before !== undefined) {
      const found = `${JSON.stringify(fields[0])}, as on line ${before}`;
      throw expected(`${table}:${line}`, "an image of its own", found, "give all of its labels on one line");
    }
    lines.set(places[i]!, line);
  });
  return places.map((place) => place!);
}

/** Of each row, in form NFC. */
function labelsOf(rows: readonly Row[], table: string): readonly (readonly string[])[] {
  const spelt = new Map<string, { readonly text: string; readonly line: number }>();
  return rows.map(({ line, fields: [, ...fields] }) => {
    const own = new Set<string>();
    for (const text of fields) {
      if (text === "") continue;
      const where = `${table}:${line}`;
      const label = text.normalize("NFC");
      if (label.length > MAX_LABEL || /\p{Cc}/u.test(label))
        throw expected(where, `labels of at most ${MAX_LABEL} printable characters`, shown(text));
      if (own.has(label)) throw expected(where, "different labels", `${shown(text)} twice`);
      own.add(label);
      const before = spelt.get(label);
      if (before && before.text !== text) {
        const found = `${shown(text)} in another form of Unicode than on line ${before.line}`;
        throw expected(where, "one form of each label", found, "write it in one form");
      }
      spelt.set(label, { text, line });
    }
    return [...own];
  });
}

const shown = (text: string): string => JSON.stringify(text.slice(0, 80));
