/** Boxes of Pascal VOC (Everingham et al. 2010): an XML file for each image. */
import { stat } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { expected } from "../../errors.ts";
import { anyIn, imagesIn } from "../folder.ts";
import { noneOf } from "../listed.ts";
import { mapInOrder } from "../parallel.ts";
import { readText } from "../text.ts";
import { type AnnotatedImage, type Annotations, checkOneSet } from "./annotated.ts";
import { openVocReader } from "./voc-xml.ts";

const MAX_BYTES = 2 ** 26;
/** Where annotations lie, and the images that they are of; in any other folder they lie beside each other. */
const FOLDERS = [
  ["Annotations", "JPEGImages"],
  ["annotations", "images"],
] as const;

/** Whether a folder, or one below it, has XML where annotations lie. @throws UserError if it cannot be read */
export const hasVoc = async (root: string): Promise<boolean> => (await filesIn(root)).files.length > 0;

/**
 * Classes are sorted by name: those of all annotations, so that each list of them has the same. Difficult objects are
 * ignored.
 *
 * @param data a folder, or a list of its images such as ImageSets/Main/train.txt
 * @throws UserError if an annotation is broken, or has no image.
 */
export async function inVoc(data: string): Promise<Annotations> {
  const list = (await stat(data)).isFile() ? data : undefined;
  const root = list === undefined ? data : await rootOf(list);
  const { folder, files, notes } = await filesIn(root);
  const known = list === undefined ? undefined : await listed(list, files, folder);
  const images = await openImagesOf(root, folder);

  const read = await openVocReader();
  const found = await mapInOrder(files, async (file) => {
    const path = join(folder, file);
    return { stem: stemOf(file), ...read(await readText(path, "an annotation", MAX_BYTES), path) };
  });
  const classes = [...new Set(found.flatMap(({ boxes }) => boxes.map(({ name }) => name)))].sort();
  const places = new Map(classes.map((name, i) => [name, i]));
  const missing: string[] = [];
  const annotated = found.flatMap(({ stem, filename, boxes, ...image }): AnnotatedImage[] => {
    if (known && !known.has(stem)) return [];
    const file = images.find(stem, filename);
    if (file === undefined) missing.push(filename || stem);
    const own = boxes.map(({ name, ...box }) => ({ class: places.get(name)!, ...box }));
    return file === undefined ? [] : [{ file, boxes: own, ...image }];
  });
  if (missing.length > 0)
    throw expected(folder, `annotations of images in ${images.folder}`, noneOf(missing));
  if (!known && folder === root)
    checkOneSet(
      root,
      annotated.map(({ file }) => file),
    );
  const without = known ? 0 : images.count - annotated.length;
  const lacking = `${images.folder}: left out images without an annotation: ${without}`;
  return {
    root,
    classes,
    images: annotated,
    unit: "pixels",
    notes: [...notes, ...images.notes, ...(without > 0 ? [lacking] : [])],
  };
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );

async function annotationsOf(root: string): Promise<string> {
  for (const [name] of FOLDERS) if (await isFolder(join(root, name))) return join(root, name);
  return root;
}

async function filesIn(root: string) {
  const folder = await annotationsOf(root);
  return { folder, ...(await anyIn(folder, "annotations", ["xml"])) };
}

/** The folder above a list that has annotations. */
async function rootOf(list: string): Promise<string> {
  for (let folder = dirname(resolve(list)); ; folder = dirname(folder)) {
    if ((await annotationsOf(folder)) !== folder) return folder;
    if (folder !== dirname(folder)) continue;
    const wanted = "a list of Pascal VOC's, such as ImageSets/Main/train.txt";
    throw expected(list, wanted, "no folder Annotations above it");
  }
}

/** What a list names, each at the start of a line; those of one class have a number after it. */
async function listed(list: string, files: readonly string[], folder: string): Promise<ReadonlySet<string>> {
  const lines = (await readText(list, "a list of images", MAX_BYTES)).split("\n");
  const names = lines
    .map((line) => /\S*/.exec(line.trim())![0].normalize("NFC"))
    .filter((name) => name !== "");
  if (names.length === 0) throw expected(list, "a name on each line", "none");
  const known = new Set(files.map(stemOf));
  const missing = names.filter((name) => !known.has(name));
  if (missing.length > 0) throw expected(list, `names of annotations in ${folder}`, noneOf(missing));
  return new Set(names);
}

/** Finds images by the names of their annotations, or by those that annotations have for them. */
async function openImagesOf(root: string, annotations: string) {
  const [, named = ""] = FOLDERS.find(([name]) => join(root, name) === annotations) ?? [];
  const own = named !== "" && (await isFolder(join(root, named))) ? `${named}/` : "";
  const folder = own === "" ? root : join(root, named);
  const { files, notes } = await imagesIn(folder);
  const names = new Set(files);
  const byStem = new Map<string, string[]>();
  for (const file of files) {
    const same = byStem.get(stemOf(file));
    if (same) same.push(file);
    else byStem.set(stemOf(file), [file]);
  }
  return {
    folder,
    notes,
    count: files.length,
    find(stem: string, filename: string): string | undefined {
      const same = byStem.get(stem) ?? [];
      const file = same.find((one) => basename(one) === filename) ?? same[0];
      if (file !== undefined) return own + file;
      return names.has(filename) ? own + filename : undefined;
    },
  };
}

/** In form NFC: systems write the same name in different forms. */
const stemOf = (file: string): string => file.slice(0, file.length - extname(file).length).normalize("NFC");
