/** Shapes on noise with their boxes, in the forms that annotations have: data for tests of detection. */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import sharp from "sharp";
import { type Random, randomFor } from "../../src/random.ts";

/** In the order of their classes. */
export const SHAPES = ["disc", "square", "triangle"] as const;

/** Of the shape alone, whole pixels; `shape` is its place in `SHAPES`. */
export interface Shape {
  readonly shape: number;
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

export interface Scene {
  /** Relative to the folder. */
  readonly file: string;
  readonly width: number;
  readonly height: number;
  readonly shapes: readonly Shape[];
}

export interface ShapesOptions {
  readonly form: "coco" | "voc" | "yolo";
  readonly images: number;
  /** @default 0 */
  readonly seed?: number;
  /** Least and greatest side of an image, pixels. @default [60, 140] */
  readonly sides?: readonly [number, number];
}

/**
 * Writes PNGs of mixed sizes, each with one to four shapes that do not touch, and their annotations: COCO's in
 * annotations.json; Pascal VOC's with a list ImageSets/Main/all.txt; YOLO's with data.yaml. `data` is what to read.
 */
export async function shapes(
  dir: string,
  { form, images, seed = 0, sides = [60, 140] }: ShapesOptions,
): Promise<{ data: string; scenes: readonly Scene[] }> {
  const folder = { coco: "images", voc: "JPEGImages", yolo: "images/train" }[form];
  const scenes = Array.from({ length: images }, (_, i): Scene => {
    const random = randomFor("shapes", seed, i);
    const [width, height] = [side(random, sides), side(random, sides)];
    const file = `${folder}/${String(i).padStart(6, "0")}.png`;
    return { file, width, height, shapes: placed(random, width, height) };
  });
  await mkdir(join(dir, folder), { recursive: true });
  for (const [i, scene] of scenes.entries()) {
    const { width, height } = scene;
    const raw = { width, height, channels: 3 } as const;
    await sharp(painted(scene, randomFor("colors", seed, i)), { raw }).toFile(join(dir, scene.file));
  }
  return { data: await FORMS[form](dir, scenes), scenes };
}

const side = (random: Random, [least, greatest]: readonly [number, number]): number =>
  least + random.integer(greatest - least + 1);

/** One to four, each a fifth to three fifths of the image's shorter side, with a pixel or more between them. */
function placed(random: Random, width: number, height: number): Shape[] {
  const found: Shape[] = [];
  const wanted = 1 + random.integer(4);
  const shorter = Math.min(width, height);
  for (let attempt = 0; attempt < 50 && found.length < wanted; attempt++) {
    const size = () => Math.round(shorter * random.uniform(0.2, 0.6));
    const [w, h] = [size(), size()];
    const [left, top] = [random.integer(width - w + 1), random.integer(height - h + 1)];
    const apart = (o: Shape) =>
      left > o.left + o.width || o.left > left + w || top > o.top + o.height || o.top > top + h;
    if (found.every(apart)) found.push({ shape: random.integer(3), left, top, width: w, height: h });
  }
  return found;
}

/** Gray noise, and shapes in colors that gray is far from; RGB, [height, width, 3]. */
function painted({ width, height, shapes }: Scene, random: Random): Uint8Array {
  const level = random.uniform(60, 150);
  const pixels = new Uint8Array(width * height * 3);
  for (let at = 0; at < pixels.length; at += 3)
    pixels.fill(Math.round(level + random.uniform(-30, 30)), at, at + 3);
  for (const { shape, left, top, width: w, height: h } of shapes) {
    const color = random.shuffled([random.integer(60), 200 + random.integer(56), random.integer(256)]);
    for (let y = 0; y < h; y++)
      for (let x = 0; x < w; x++)
        if (covers(shape, (x + 0.5) / w, (y + 0.5) / h))
          pixels.set(color, ((top + y) * width + left + x) * 3);
  }
  return pixels;
}

/** Whether a shape covers a point of its box, which goes from 0 to 1. */
function covers(shape: number, x: number, y: number): boolean {
  if (shape === 0) return (x - 0.5) ** 2 + (y - 0.5) ** 2 <= 0.25;
  return shape === 1 || Math.abs(x - 0.5) <= y / 2; // a triangle stands on its base
}

/** Each writes annotations and gives the path that is their data. */
const FORMS: Readonly<
  Record<ShapesOptions["form"], (dir: string, scenes: readonly Scene[]) => Promise<string>>
> = { coco, voc, yolo };

async function coco(dir: string, scenes: readonly Scene[]): Promise<string> {
  const annotations = scenes.flatMap(({ shapes }, i) =>
    shapes.map(({ shape, left, top, width, height }) => ({
      image_id: i + 1,
      category_id: shape + 1,
      bbox: [left, top, width, height],
      area: width * height,
      iscrowd: 0,
    })),
  );
  const path = join(dir, "annotations.json");
  const text = JSON.stringify({
    images: scenes.map(({ file, width, height }, i) => ({ id: i + 1, file_name: file, width, height })),
    annotations: annotations.map((annotation, i) => ({ id: i + 1, ...annotation })),
    categories: SHAPES.map((name, i) => ({ id: i + 1, name })),
  });
  await written(path, text);
  return path;
}

async function voc(dir: string, scenes: readonly Scene[]): Promise<string> {
  const names: string[] = [];
  for (const { file, width, height, shapes } of scenes) {
    const name = file.slice(file.lastIndexOf("/") + 1, -".png".length);
    const objects = shapes.map(
      ({ shape, left, top, width: w, height: h }) =>
        `<object><name>${SHAPES[shape]}</name><difficult>0</difficult><bndbox>` +
        `<xmin>${left + 1}</xmin><ymin>${top + 1}</ymin><xmax>${left + w}</xmax><ymax>${top + h}</ymax></bndbox></object>`,
    );
    const size = `<size><width>${width}</width><height>${height}</height><depth>3</depth></size>`;
    const text = `<annotation><filename>${name}.png</filename>${size}${objects.join("")}</annotation>\n`;
    await written(join(dir, "Annotations", `${name}.xml`), text);
    names.push(name);
  }
  await written(join(dir, "ImageSets", "Main", "all.txt"), `${names.join("\n")}\n`);
  return dir;
}

async function yolo(dir: string, scenes: readonly Scene[]): Promise<string> {
  for (const { file, width, height, shapes } of scenes) {
    const lines = shapes.map(({ shape, left, top, width: w, height: h }) =>
      [shape, (left + w / 2) / width, (top + h / 2) / height, w / width, h / height].join(" "),
    );
    const labels = file.replace(/^images/, "labels").replace(/png$/, "txt");
    await written(join(dir, labels), lines.map((line) => `${line}\n`).join(""));
  }
  await written(join(dir, "data.yaml"), `path: .\ntrain: images/train\nnames: [${SHAPES.join(", ")}]\n`);
  return dir;
}

async function written(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
}
