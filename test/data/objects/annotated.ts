/** Small annotated folders for tests of each form. */
import { join } from "node:path";
import { findObjects, type ObjectsOptions } from "../../../src/data/objects/objects.ts";
import type { Sources } from "../../../src/data/sources.ts";
import { failure, plain, temporaryFolder } from "../folder.ts";

interface CocoChanges {
  readonly images?: unknown;
  readonly annotations?: unknown;
  readonly categories?: unknown;
}
/** A name, what is changed, and the end of the message. */
export type CocoCase = readonly [name: string, changes: CocoChanges, wanted: string];

export const IMAGE = { id: 1, file_name: "a.jpg", width: 20, height: 10 };
export const boxOf = (bbox: unknown, more: object = {}) => ({ image_id: 1, category_id: 7, bbox, ...more });

export const SIZE = "<size><width>20</width><height>10</height></size>";
export const object = (name: string, edges: readonly (number | string)[], more = "") => {
  const [xmin, ymin, xmax, ymax] = edges;
  const box = `<xmin>${xmin}</xmin><ymin>${ymin}</ymin><xmax>${xmax}</xmax><ymax>${ymax}</ymax>`;
  return `<object><name>${name}</name>${more}<bndbox>${box}</bndbox></object>`;
};

/** Boxes in pixels, to a thousandth. */
export const pixelsOf = ({ objects }: Sources, place = 0): number[][] => {
  const { boxes, width, height } = objects![place]!;
  return Array.from({ length: boxes.length / 4 }, (_, i) =>
    [...boxes.subarray(4 * i, 4 * i + 4)].map(
      (x, side) => Math.round(1000 * x * (side % 2 ? height : width)) / 1000,
    ),
  );
};

/** A temporary folder, and what writes annotations there: each gives the name of what is to be read. */
export function annotatedFolder() {
  const folder = temporaryFolder();
  const read = (data: string, options?: ObjectsOptions) => findObjects(join(folder.path, data), options);

  /** Writes an image of 20x10 pixels; EXIF's orientation 6 shows it as 10x20. */
  const image = async (name: string, orientation = 1) =>
    folder.write(name, await plain(20, 10, "red").withMetadata({ orientation }).jpeg().toBuffer());

  return {
    folder,
    image,
    read,
    /** The message of what is thrown, its paths within the folder. */
    fault: async (data: string, options?: ObjectsOptions): Promise<string> =>
      (await failure(read(data, options))).replaceAll(`${folder.path}/`, ""),

    /** COCO's JSON beside an image. */
    async coco(dir: string, changes: CocoChanges = {}): Promise<string> {
      await image(`${dir}/a.jpg`);
      const whole = {
        images: [IMAGE],
        annotations: [boxOf([1, 2, 3, 4])],
        categories: [{ id: 7, name: "cat" }],
        ...changes,
      };
      await folder.write(`${dir}/boxes.json`, JSON.stringify(whole));
      return `${dir}/boxes.json`;
    },

    /** XML beside an image. */
    async voc(dir: string, body: string): Promise<string> {
      await image(`${dir}/a.jpg`);
      await folder.write(`${dir}/a.xml`, `<annotation><filename>a.jpg</filename>${body}</annotation>`);
      return dir;
    },

    /** An image, a file of boxes and one of names. */
    async yolo(dir: string, lines: string, names = "names: [cat, dog]\n"): Promise<string> {
      await image(`${dir}/images/a.jpg`);
      await folder.write(`${dir}/labels/a.txt`, lines);
      await folder.write(`${dir}/data.yaml`, names);
      return dir;
    },
  };
}
