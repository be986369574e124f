/** Finds objects in images, and draws them. */
import { existsSync, statSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { basename, dirname, extname, join, resolve } from "node:path";
import { decodePadded, decodeSource } from "../data/decode.ts";
import { type Decoder, openDecoder } from "../data/decoder.ts";
import { mapInOrder } from "../data/parallel.ts";
import { findImages, rangeOf, type SourceOptions, type Sources } from "../data/sources.ts";
import { expected, messageOf, UserError } from "../errors.ts";
import { checkWritable, makeFolder, writeFileAtomic } from "../files/atomic.ts";
import { drawBoxes } from "../report/boxes.ts";
import { openProgress } from "../train/progress.ts";
import { type DetectedFile, type DetectorOptions, detectIn, openDetector, TOGETHER } from "./detector.ts";
import { noneDecoded } from "./encoder.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

export interface DetectOptions extends DetectorOptions, Pick<SourceOptions, "limit" | "range"> {
  /** An image, or a folder of images, searched as `findImages` does it. */
  readonly images: string;
  /** Where they are drawn: a .png, .jpg or .webp file for an image, a folder for a folder. @default nowhere */
  readonly out?: string | undefined;
  /** Objects that score less are left out. @default 0.3 */
  readonly score?: number | undefined;
}

export interface DetectedImage {
  /** The path given, or relative to the folder given. */
  readonly file: string;
  /** Of the image as it is shown, pixels. */
  readonly width: number;
  readonly height: number;
  /** Best first, pixels of the image. */
  readonly boxes: readonly (readonly [left: number, top: number, right: number, bottom: number])[];
  readonly scores: readonly number[];
  readonly classes: readonly string[];
}

export interface DetectResult {
  readonly images: readonly DetectedImage[];
  /** The file or the folder that was written; null without. */
  readonly out: string | null;
}

const SCORE = 0.3;
/** For a decode of all pixels: as large as any side that can be drawn on. */
const WHOLE = 2 ** 15;

/**
 * What a detector.onnx finds in an image, or in those of a folder, where one that cannot be decoded is left out with a warning.
 * @throws UserError if the detector or the image is none, nothing decodes, or `out` cannot be written.
 */
export async function detect(
  path: string,
  { images, out, score = SCORE, limit, range, ...options }: DetectOptions,
  { output = QUIET }: Pick<Surroundings, "output"> = {},
): Promise<DetectResult> {
  const one = isFile(images);
  const found = one
    ? { ...alone(images), ...rangeOf({ range }) }
    : await findImages(images, { limit, range });
  if (out !== undefined) await (one ? checkFile(out, images) : checkFolder(out, found.root));
  const detector = await openDetector(path, options, { output });
  const progress = openProgress(output);
  const sources = { ...found, range: found.range ?? detector.metadata.range };
  const decoder: Pick<Decoder, "source"> = one
    ? { source: (file, side) => decodePadded(join(sources.root, file), side, { range: sources.range }) }
    : openDecoder({ ...sources, objects: [] }, { warn: (line) => progress.note(`warning: ${line}`) });
  const names = detector.metadata.classes;
  let done = 0;
  try {
    const all = await mapInOrder(
      sources.files,
      async (file) => {
        const detected = await detectIn(detector, sources.root, file, decoder);
        if (!detected) return undefined;
        progress.show(`detected ${++done}/${sources.files.length} images`);
        const shown = shownOf(one ? images : file, detected, score, names);
        if (out === undefined) return shown;
        const to = one ? out : inFolder(out, file);
        const drawn = await drawnAs(to, sources, file, shown, names).catch((error: unknown) => {
          if (one || !(error instanceof UserError)) throw error;
          progress.note(`warning: ${error.message}; it is not drawn`);
        });
        if (drawn) await write(to, drawn);
        return shown;
      },
      TOGETHER,
    );
    const decoded = all.filter((image) => image !== undefined);
    if (decoded.length === 0) throw noneDecoded(sources);
    return { images: decoded, out: out === undefined ? null : resolve(out) };
  } finally {
    progress.end();
    await detector.close();
  }
}

const isFile = (path: string): boolean => {
  const what = statSync(path, { throwIfNoEntry: false });
  if (!what) throw expected(path, "an image or a folder of images", "nothing at this path");
  return !what.isDirectory() && !path.endsWith(".txt"); // a list is searched like a folder
};

const alone = (image: string): Sources => ({
  root: dirname(image),
  files: [basename(image)],
  classes: [],
  labels: new Int32Array(0),
  notes: [],
});

function shownOf(
  file: string,
  { width, height, boxes, scores, classes }: DetectedFile,
  least: number,
  names: readonly string[],
): DetectedImage {
  const kept = [...scores.keys()].filter((i) => scores[i]! >= least);
  return {
    file,
    width,
    height,
    boxes: kept.map(
      (i) => [...boxes.subarray(4 * i, 4 * i + 4)] as unknown as DetectedImage["boxes"][number],
    ),
    scores: kept.map((i) => scores[i]!),
    classes: kept.map((i) => names[classes[i]!]!),
  };
}

/** By the ending of a file's name. */
const FORMATS: Readonly<Record<string, "png" | "jpeg" | "webp">> = {
  ".png": "png",
  ".jpg": "jpeg",
  ".jpeg": "jpeg",
  ".webp": "webp",
};
const formatOf = (path: string) => FORMATS[extname(path).toLowerCase()];

/** An image of a format that is not written becomes a PNG. */
const inFolder = (out: string, file: string): string => join(out, formatOf(file) ? file : `${file}.png`);

/** The image with its boxes in the format of a file. @throws UserError if it is too large for that */
async function drawnAs(
  out: string,
  { root, range }: Sources,
  file: string,
  { boxes, scores, classes }: DetectedImage,
  names: readonly string[],
): Promise<Uint8Array> {
  const path = join(root, file);
  const image = await decodeSource(path, WHOLE, { range });
  const labelled = boxes.map((box, i) => ({
    box,
    label: `${classes[i]} ${Math.round(100 * scores[i]!)}%`,
    kind: names.indexOf(classes[i]!),
  }));
  const format = formatOf(out)!;
  const drawn = (await drawBoxes(image, labelled, path)).toFormat(format);
  return drawn.toBuffer().catch((error: unknown) => {
    throw expected(path, `an image that can be drawn as ${format}`, messageOf(error), "draw it as PNG");
  });
}

async function write(out: string, bytes: Uint8Array): Promise<void> {
  await makeFolder(dirname(out));
  await writeFileAtomic(out, bytes);
}

/** @throws UserError before the work if the file cannot be written, or is the image itself. */
async function checkFile(out: string, image: string): Promise<void> {
  if (!formatOf(out))
    throw expected(
      "--out",
      "a file that ends in .png, .jpg or .webp",
      out,
      "give a folder for a folder of images",
    );
  await checkWritable(out);
  if (existsSync(out) && (await realpath(out)) === (await realpath(image)))
    throw expected("--out", "another file than the image", out);
}

/** The same of a folder; it is made. */
async function checkFolder(out: string, root: string): Promise<void> {
  await makeFolder(out);
  if ((await realpath(out)) === (await realpath(root)))
    throw expected("--out", "another folder than that of the images", out);
}
