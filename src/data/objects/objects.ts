/** Images with boxes about the objects in them: COCO's JSON, Pascal VOC's XML or YOLO's text files. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { expected } from "../../errors.ts";
import { faultOf } from "../../fault.ts";
import { anyIn } from "../folder.ts";
import { type LeftOut, leavingOut } from "../left-out.ts";
import { sizesOf } from "../sizes.ts";
import { rangeOf, type SourceOptions, type Sources, sample } from "../sources.ts";
import { type AnnotatedBox, type AnnotatedImage, type Annotations, checkClasses } from "./annotated.ts";
import { inCoco } from "./coco.ts";
import { hasVoc, inVoc } from "./voc.ts";
import { inYolo, yoloNamesOf } from "./yolo.ts";

/** The objects in an image. */
export interface Objects {
  /** [k, 4]: left, top, right, bottom as shares of the image's width and height, within it. */
  readonly boxes: Float32Array;
  /** [k]: index into `Sources.classes`. */
  readonly classes: Int32Array;
  /** [k]: 1 for crowds and difficult ones, which are not trained on and neither found nor missed. */
  readonly ignored: Uint8Array;
  /** Of the image as it is shown, pixels. */
  readonly width: number;
  readonly height: number;
  /** [k], pixels; where annotations state them. */
  readonly areas?: Float32Array;
}

export interface ObjectsOptions extends Omit<SourceOptions, "modality"> {
  /** The folder that the names in COCO's JSON are relative to. @default the file's */
  readonly images?: string | undefined;
}

/** Of an image. */
const MAX_BOXES = 100_000;

/**
 * The images that annotations are of, sorted by path, each with its `objects`: of a JSON file of COCO's or a folder with one;
 * of a folder or a list of Pascal VOC's; of a folder of YOLO's or its YAML file. An image may have no box. Boxes end at the
 * edges of their image; what lies outside of it, or has no width or height, is left out with a note, and so are images of
 * another size than is stated. A sample leaves `classes` as they are.
 *
 * @throws UserError if there are no annotations or no box, or they are broken or name images that are missing.
 */
export async function findObjects(data: string, options: ObjectsOptions = {}): Promise<Sources> {
  const { root, classes, images, unit, notes } = await annotationsIn(data, options.images);
  const byFile = new Map<string, AnnotatedImage>();
  for (const image of images) {
    const { file, where } = image;
    if (byFile.has(file)) throw expected(where, "one annotation for each image", `a second for ${file}`);
    byFile.set(file, image);
  }
  const files = sample([...byFile.keys()].sort(), options);
  const sizes = await sizesOf(root, files);
  const left = leavingOut();
  const found = files.flatMap((file, i) => {
    const image = byFile.get(file)!;
    const size = sizeIn(image, sizes[i], left);
    return size ? [{ file, objects: objectsIn(image, unit, size, left) }] : [];
  });
  const all = [...notes, ...left.notes];
  if (found.every(({ objects }) => objects.classes.length === 0))
    throw expected(data, "boxes of objects", "none", all.join("; ") || undefined);
  checkClasses(classes, data);
  return {
    root,
    files: found.map(({ file }) => file),
    classes,
    labels: new Int32Array(0),
    objects: found.map(({ objects }) => objects),
    notes: all,
    ...rangeOf(options),
  };
}

async function annotationsIn(data: string, images: string | undefined): Promise<Annotations> {
  const { form, path } = await formOf(data);
  if (form === "COCO") return inCoco(path, images);
  if (images !== undefined) throw expected("--images", "it with COCO's JSON", `${form}'s annotations`);
  return form === "YOLO" ? inYolo(path) : inVoc(path);
}

const FORMS = "COCO's .json, a folder or a list of Pascal VOC's, or a folder or data.yaml of YOLO's";
const FORM_OF = { ".json": "COCO", ".txt": "Pascal VOC", ".yaml": "YOLO", ".yml": "YOLO" } as const;

/** Which form annotations have, and where they are. */
async function formOf(
  data: string,
): Promise<{ readonly form: (typeof FORM_OF)[keyof typeof FORM_OF]; readonly path: string }> {
  const stats = await stat(data).catch((error) => {
    throw expected(data, FORMS, faultOf(error));
  });
  if (!stats.isDirectory()) {
    const end = Object.keys(FORM_OF).find((name) => data.toLowerCase().endsWith(name));
    if (end === undefined) throw expected(data, FORMS, "another file");
    return { form: FORM_OF[end as keyof typeof FORM_OF], path: data };
  }
  if (await hasVoc(data)) return { form: "Pascal VOC", path: data };
  if (await yoloNamesOf(data)) return { form: "YOLO", path: data };
  const { files } = await anyIn(data, "annotations", ["json"]);
  if (files.length === 1) return { form: "COCO", path: join(data, files[0]!) };
  const several = files.length > 1;
  const found = several ? `${files.length} .json files` : "none of them in it";
  throw expected(data, FORMS, found, several ? "give one of them" : undefined);
}

/** Width and height, pixels; undefined, with a note, where an image is left out. */
function sizeIn(
  { size: stated, where }: AnnotatedImage,
  found: readonly [number, number] | undefined,
  left: LeftOut,
): readonly [number, number] | undefined {
  const size = found ?? stated;
  if (!size) left.add("images that cannot be read", where);
  else if (!stated || size.join() === stated.join()) return size;
  else
    left.add(
      "images of another size than is stated",
      `${where} (${size.join("x")}, not ${stated.join("x")})`,
    );
  return undefined;
}

function objectsIn(
  { boxes, where }: AnnotatedImage,
  unit: Annotations["unit"],
  [width, height]: readonly [number, number],
  left: LeftOut,
): Objects {
  if (boxes.length > MAX_BOXES)
    throw expected(where, `${MAX_BOXES} boxes of an image at most`, `${boxes.length}`);
  const [across, down] = unit === "pixels" ? [width, height] : [1, 1];
  const kept = boxes.flatMap((one): AnnotatedBox[] => {
    const box = sharesOf(one, across, down, left);
    return box ? [{ ...one, box }] : [];
  });
  const stated = kept.length > 0 && kept.every(({ area }) => area !== undefined);
  return {
    boxes: Float32Array.from(kept.flatMap(({ box }) => box)),
    classes: Int32Array.from(kept, (one) => one.class),
    ignored: Uint8Array.from(kept, ({ ignored }) => (ignored ? 1 : 0)),
    width,
    height,
    ...(stated && { areas: Float32Array.from(kept, ({ area }) => area!) }),
  };
}

/** A box in shares of its image, as far as that goes; undefined, with a note, where nothing is left. */
function sharesOf(
  { box, where }: AnnotatedBox,
  width: number,
  height: number,
  notes: LeftOut,
): AnnotatedBox["box"] | undefined {
  if (!box.every(Number.isFinite)) throw expected(where, "a box of finite numbers", box.join(", "));
  const within = (x: number): number => Math.fround(Math.min(1, Math.max(0, x)));
  const [left, top, right, bottom] = [box[0] / width, box[1] / height, box[2] / width, box[3] / height];
  const inside = [within(left), within(top), within(right), within(bottom)] as const;
  if (inside[2] > inside[0] && inside[3] > inside[1]) return inside;
  const outside = right > left && bottom > top && (left >= 1 || top >= 1 || right <= 0 || bottom <= 0);
  notes.add(outside ? "boxes outside of their images" : "boxes without a size", where);
  return undefined;
}
