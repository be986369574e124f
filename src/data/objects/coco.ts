/** Boxes of COCO's JSON (Lin et al. 2014): images, annotations and categories. */
import { dirname } from "node:path";
import { expected, messageOf, UserError } from "../../errors.ts";
import { imagesIn } from "../folder.ts";
import { openListing } from "../listed.ts";
import { readText } from "../text.ts";
import { type AnnotatedBox, type AnnotatedImage, type Annotations, statedSize } from "./annotated.ts";

/** JavaScript's strings end there. */
const MAX_BYTES = 2 ** 29 - 2 ** 20;
const ADVICE = "give the folder that its names are relative to with --images";

type Entry = Readonly<Record<string, unknown>>;

/**
 * Classes are the categories, in the order of their ids. Crowds are ignored; masks are not read.
 *
 * @param folder that the images' names are relative to. @default the file's
 * @throws UserError if it is no such file, names an image that is not there, or a box is not four numbers.
 */
export async function inCoco(path: string, folder = dirname(path)): Promise<Annotations> {
  const coco = parsed(await readText(path, "COCO's JSON", MAX_BYTES), path);
  const { root, files, notes } = await imagesIn(folder).catch((error) => {
    throw error instanceof UserError ? new UserError(`${error.message}; ${ADVICE}`) : error;
  });
  const categories = keyed(coco.categories, path, "categories", "name");
  const ids = [...categories.keys()].sort((a, b) => (order(a) < order(b) ? -1 : 1));
  const classOf = new Map(ids.map((id, i) => [id, i]));

  const boxes = new Map<unknown, AnnotatedBox[]>();
  const images = keyed(coco.images, path, "images", "file_name");
  for (const id of images.keys()) boxes.set(id, []);
  for (const [i, annotation] of coco.annotations.entries()) {
    const where = `${path}: annotations[${i}]`;
    const own = boxes.get(annotation?.image_id);
    if (!own) throw expected(where, "an image_id of images", shown(annotation?.image_id));
    const place = classOf.get(annotation.category_id);
    if (place === undefined)
      throw expected(where, "a category_id of categories", shown(annotation.category_id));
    own.push(boxOf(annotation, place, where));
  }
  const listing = openListing(root, files, path, ADVICE);
  const annotated = [...images].map(([id, { entry, name, where }]): AnnotatedImage => {
    const place = listing.find(name);
    const size = statedSize(Number(entry.width), Number(entry.height));
    return { file: files[place ?? 0]!, size, boxes: boxes.get(id)!, where };
  });
  listing.check();
  const classes = ids.map((id) => categories.get(id)!.name.trim());
  return { root, classes, images: annotated, unit: "pixels", notes };
}

function parsed(text: string, path: string) {
  let found: Entry | null;
  try {
    found = JSON.parse(text) as Entry | null;
  } catch (error) {
    throw expected(path, "JSON", messageOf(error));
  }
  const lists = ["images", "annotations", "categories"] as const;
  const lacking = lists.filter((name) => !Array.isArray(found?.[name]));
  if (lacking.length > 0) throw expected(path, `COCO's ${lists.join(", ")}`, `no ${lacking.join(", no ")}`);
  return found as Readonly<Record<(typeof lists)[number], readonly Entry[]>>;
}

interface Keyed {
  readonly entry: Entry;
  readonly name: string;
  readonly where: string;
}

/** By their ids, each of which is there once. */
function keyed(entries: readonly Entry[], path: string, list: string, name: string): Map<unknown, Keyed> {
  const found = new Map<unknown, Keyed>();
  for (const [i, entry] of entries.entries()) {
    const where = `${path}: ${list}[${i}]`;
    const [id, named] = [entry?.id, entry?.[name]];
    if (typeof id !== "number" && typeof id !== "string") throw expected(where, "an id", shown(id));
    if (typeof named !== "string") throw expected(where, `a ${name}`, shown(named));
    if (found.has(id)) throw expected(where, "an id of its own", `${shown(id)} again`);
    found.set(id, { entry, name: named, where });
  }
  return found;
}

/** Numbers before text. */
const order = (id: unknown): string | number => (typeof id === "number" ? id : `${id}`);

function boxOf({ bbox, area, iscrowd }: Entry, place: number, where: string): AnnotatedBox {
  const isBox = Array.isArray(bbox) && bbox.length === 4 && bbox.every((x) => typeof x === "number");
  if (!isBox) throw expected(where, "a bbox of four numbers", shown(bbox));
  const [x, y, width, height] = bbox as [number, number, number, number];
  return {
    class: place,
    box: [x, y, x + width, y + height],
    ignored: Boolean(iscrowd),
    area: typeof area === "number" && area >= 0 ? area : Math.abs(width * height),
    where,
  };
}

const shown = (value: unknown): string => JSON.stringify(value)?.slice(0, 80) ?? "none";
