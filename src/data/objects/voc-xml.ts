/** An annotation of Pascal VOC: what its XML says. */
import { expected, messageOf } from "../../errors.ts";
import { type AnnotatedBox, statedSize } from "./annotated.ts";

export interface VocAnnotation {
  /** Of its image; empty where there is none. */
  readonly filename: string;
  readonly size: readonly [width: number, height: number] | undefined;
  /** Each with the name of its class. */
  readonly boxes: readonly (Omit<AnnotatedBox, "class"> & { readonly name: string })[];
  readonly where: string;
}

type Node = Readonly<Record<string, unknown>>;

/**
 * Reads annotations. Nothing is defined in them: a document type, by which a short file can become a long text, is refused.
 * Boxes are of whole pixels counted from 1, the last ones within: theirs are the edges left - 1 and right.
 *
 * @throws UserError if it is no XML, no annotation, or an object has no name or no box.
 */
export async function openVocReader(): Promise<(text: string, path: string) => VocAnnotation> {
  const { XMLParser, XMLValidator } = await import("fast-xml-parser"); // when it is needed: programs start sooner
  const parser = new XMLParser({
    isArray: (name) => name === "object",
    parseTagValue: false, // a class may be called 007
    jPath: false,
    processEntities: { maxTotalExpansions: Infinity, maxExpandedLength: Infinity }, // &amp; and its like alone
  });
  const parsed = (text: string, path: string): Node => {
    if (/<!DOCTYPE/i.test(text)) throw expected(path, "XML without a document type", "one");
    const valid = XMLValidator.validate(text);
    if (valid !== true) throw expected(`${path}:${valid.err.line}`, "XML", messageOf(valid.err.msg));
    try {
      return parser.parse(text) as Node;
    } catch (error) {
      throw expected(path, "XML", messageOf(error));
    }
  };
  return (text, path) => annotationOf(parsed(text, path), path);
}

function annotationOf(document: Node, path: string): VocAnnotation {
  const { annotation } = document;
  if (annotation === undefined) throw expected(path, "an annotation of Pascal VOC", "other XML");
  const size = inside(annotation, "size");
  const objects = (inside(annotation, "object") ?? []) as readonly unknown[];
  return {
    filename: textOf(annotation, "filename"),
    size: statedSize(numberOf(size, "width"), numberOf(size, "height")),
    boxes: objects.map((object, i) => {
      const where = `${path}: object ${i + 1}`;
      const box = inside(object, "bndbox");
      const name = textOf(object, "name");
      if (name === "") throw expected(where, "a name", "none");
      const edge = (key: string): number => {
        const found = numberOf(box, key);
        if (!Number.isFinite(found)) throw expected(where, `a number for ${key}`, textOf(box, key) || "none");
        return found;
      };
      return {
        name,
        box: [edge("xmin") - 1, edge("ymin") - 1, edge("xmax"), edge("ymax")],
        ignored: numberOf(object, "difficult") === 1,
        where,
      };
    }),
    where: path,
  };
}

/** What an element has of that name; undefined of one that is text, or nothing. */
function inside(node: unknown, key: string): unknown {
  return typeof node === "object" && node !== null && Object.hasOwn(node, key)
    ? (node as Node)[key]
    : undefined;
}

/** Empty where there is none. */
function textOf(node: unknown, key: string): string {
  const found = inside(node, key);
  return typeof found === "string" ? found.trim() : "";
}

const numberOf = (node: unknown, key: string): number => {
  const text = textOf(node, key);
  return text === "" ? Number.NaN : Number(text);
};
