/** What files say of the objects in images: what each form of annotations is read into. */
import { join } from "node:path";
import { expected } from "../../errors.ts";
import { SETS } from "../sources.ts";

/** A box, as a file has it. */
export interface AnnotatedBox {
  /** Index into the classes. */
  readonly class: number;
  /** Left, top, right, bottom. */
  readonly box: readonly [number, number, number, number];
  readonly ignored: boolean;
  /** Of the object, pixels; where it is stated. */
  readonly area?: number;
  /** Where the file says so. */
  readonly where: string;
}

export interface AnnotatedImage {
  /** Relative to the root, with "/" between its parts. */
  readonly file: string;
  /** Width and height in pixels, where they are stated. */
  readonly size?: readonly [width: number, height: number] | undefined;
  readonly boxes: readonly AnnotatedBox[];
  /** Where the file names the image. */
  readonly where: string;
}

export interface Annotations {
  readonly root: string;
  readonly classes: readonly string[];
  readonly images: readonly AnnotatedImage[];
  /** Of the boxes: shares of the image's width and height. */
  readonly unit: "pixels" | "share";
  readonly notes: readonly string[];
}

const MAX_CLASSES = 10_000;
/** Characters of a class's name. */
const MAX_NAME = 200;

/** @throws UserError if there is no class, or one has no name, a long one, or that of another. */
export function checkClasses(classes: readonly string[], where: string): void {
  if (classes.length === 0) throw expected(where, "classes of objects", "none");
  if (classes.length > MAX_CLASSES)
    throw expected(where, `${MAX_CLASSES} classes at most`, `${classes.length}`);
  const known = new Set<string>();
  for (const [i, name] of classes.entries()) {
    if (name === "") throw expected(where, "a name for each class", `none for class ${i}`);
    if (name.length > MAX_NAME || /\p{Cc}/u.test(name)) {
      const found = JSON.stringify(name.slice(0, 40));
      throw expected(where, `names of classes on one line of ${MAX_NAME} characters at most`, found);
    }
    if (known.has(name)) throw expected(where, "each class once", `${JSON.stringify(name)} twice`);
    known.add(name);
  }
}

/** Undefined where a file states none: sizes are above zero. */
export const statedSize = (width: number, height: number): readonly [number, number] | undefined =>
  width > 0 && height > 0 ? [width, height] : undefined;

/** @throws UserError if images lie in folders of two sets or more, such as train and test: they are not one to learn from. */
export function checkOneSet(root: string, files: readonly string[]): void {
  const sets = new Map<string, string>();
  for (const file of files) {
    const folders = file.split("/").slice(0, -1);
    const at = folders.findIndex((name) => SETS.has(name.toLowerCase()));
    if (at >= 0) sets.set(folders[at]!, join(root, ...folders.slice(0, at + 1)));
  }
  if (sets.size < 2) return;
  const found = `several (${[...sets.keys()].join(", ")})`;
  throw expected(root, "one set of images", found, `did you mean ${[...sets.values()].join(" or ")}?`);
}
