/** Boxes in YOLO's text files: a line for each, beside a list of the classes' names. */
import { stat } from "node:fs/promises";
import { dirname, extname, join, relative, resolve, sep } from "node:path";
import { expected } from "../../errors.ts";
import { imagesIn } from "../folder.ts";
import { mapInOrder } from "../parallel.ts";
import { readText } from "../text.ts";
import { type AnnotatedBox, type AnnotatedImage, type Annotations, checkOneSet } from "./annotated.ts";
import { yoloNames } from "./yolo-names.ts";

const MAX_BYTES = 2 ** 26;
const MAX_NAMES_BYTES = 2 ** 24;
/** Files of names, where they lie and in which form. */
const NAMES = ["data.yaml", "data.yml", "classes.txt", "labels/classes.txt"] as const;
/** A set of images such as images/train lies as deep as this at most below the names. */
const DEPTH = 3;

/** The file of classes' names that is for a folder: in it, or above it; undefined where there is none. */
export async function yoloNamesOf(folder: string): Promise<{ base: string; names: string } | undefined> {
  let base = resolve(folder);
  for (let depth = 0; depth <= DEPTH; depth++, base = dirname(base))
    for (const name of NAMES) {
      const names = join(base, name);
      const found = await stat(names).catch(() => undefined);
      if (found?.isFile()) return { base, names };
    }
  return undefined;
}

/**
 * The boxes of images/a/b.jpg are those of labels/a/b.txt, and of an image that lies in no folder "images" those beside
 * it. An image without such a file has no boxes.
 *
 * @param data a folder, or the YAML file in it
 * @throws UserError if a line is not a class and four numbers.
 */
export async function inYolo(data: string): Promise<Annotations> {
  const isFile = (await stat(data)).isFile();
  const root = isFile ? dirname(data) : data;
  const { base, names } = isFile ? { base: resolve(root), names: data } : (await yoloNamesOf(root))!;
  const text = await readText(names, "names of classes", MAX_NAMES_BYTES);
  const classes = names.endsWith(".txt") ? linesOf(text) : yoloNames(text, names);
  const { files, notes } = await imagesIn(root);
  checkOneSet(root, files);
  const images = await mapInOrder(files, async (file): Promise<AnnotatedImage & { lacking: boolean }> => {
    const path = join(base, labelsOf(relative(base, resolve(root, file)).split(sep)));
    const there = await stat(path).catch(() => undefined);
    const lines = there ? linesOf(await readText(path, "boxes", MAX_BYTES)) : [];
    const boxes = lines.flatMap((line, i) => {
      const where = `${path}:${i + 1}`;
      return line === "" ? [] : [boxOf(line, classes.length, where)];
    });
    return { file, boxes, where: there ? path : join(root, file), lacking: !there };
  });
  const lacking = images.filter((image) => image.lacking).length;
  const note = `${root}: images without a file of labels, taken to show no object: ${lacking}`;
  return { root, classes, images, unit: "share", notes: [...notes, ...(lacking > 0 ? [note] : [])] };
}

/** Without the empty ones at the end. */
const linesOf = (text: string): string[] => {
  const trimmed = text.trimEnd();
  return trimmed === "" ? [] : trimmed.split("\n").map((line) => line.trim());
};

function labelsOf(parts: readonly string[]): string {
  const path = parts.with(-1, `${parts.at(-1)!.slice(0, -extname(parts.at(-1)!).length)}.txt`);
  const images = path.lastIndexOf("images");
  return (images < 0 ? path : path.with(images, "labels")).join("/");
}

/** Class, middle along x and y, width and height; in shares of the image. */
function boxOf(line: string, classes: number, where: string): AnnotatedBox {
  const values = line.split(/\s+/);
  const [place, x, y, width, height] = values.map(Number) as [number, number, number, number, number];
  if (values.length !== 5)
    throw expected(where, "a class, x, y, width and height", `${values.length} values`);
  if (!(Number.isInteger(place) && place >= 0 && place < classes))
    throw expected(where, `a class from 0 to ${classes - 1}`, values[0]!.slice(0, 40));
  return {
    class: place,
    box: [x - width / 2, y - height / 2, x + width / 2, y + height / 2],
    ignored: false,
    where,
  };
}
