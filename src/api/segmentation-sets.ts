/** Images with masks for a segmentation probe: their classes, and the feature maps of their squares. */
import { openDecoder } from "../data/decoder.ts";
import { openImages } from "../data/images.ts";
import {
  findMasked,
  IGNORED,
  type Masked,
  maskOf,
  type Placed,
  squaresOf,
  takeMasked,
} from "../data/masks.ts";
import { decodePlane, type Plane } from "../data/png.ts";
import { expected } from "../errors.ts";
import { cores } from "../machine.ts";
import { randomFor } from "../random.ts";
import { openProgress } from "../train/progress.ts";
import { BLOCK, type FeatureBlock, featureBlocks } from "./features.ts";
import type { Layer, LayeredEncoder } from "./layers.ts";
import type { Named } from "./segmentation-pictures.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

/** Share of the images that are tested on where no folder is given for that. */
const HELD_OUT = 0.2;

export type Sets = Readonly<Record<"train" | "test", Masked>>;

interface SetsOptions {
  readonly data: string;
  readonly test?: string | undefined;
  readonly limit?: number | undefined;
  readonly range?: readonly [black: number, white: number] | undefined;
}

/** @throws UserError on images without masks (see `findMasked`), or too few of them. */
export async function findSets({ data, test, limit, range }: SetsOptions, seed: number): Promise<Sets> {
  const found = await findMasked(data, { limit, seed, range });
  if (test !== undefined)
    return { train: found, test: await findMasked(test, { limit, seed, range }, found.names) };
  const n = found.masks.length;
  if (n < 2) throw expected(data, "two images or more, to train and to test on", "one");
  const everyRow = Array.from({ length: n }, (_, row) => row);
  const drawn = randomFor(seed, "segmentation probe, held out").shuffled(everyRow);
  const held = Math.max(1, Math.round(HELD_OUT * n));
  const take = (rows: readonly number[]) =>
    takeMasked(
      found,
      [...rows].sort((a, b) => a - b),
    );
  const rest = take(drawn.slice(0, held));
  return { train: take(drawn.slice(held)), test: { ...rest, sources: { ...rest.sources, notes: [] } } };
}

/**
 * All classes in the order of their indices, and the place of each index among them, 255 for others.
 * @throws UserError if the training masks hold one class alone, or the two sets name theirs differently.
 */
export function classesOf({ train, test }: Sets): { names: readonly Named[]; placeOf: Uint8Array } {
  const indicesOf = ({ masks }: Masked) => new Set(masks.flatMap(({ indices }) => indices));
  const known = indicesOf(train);
  const nameOf = (index: number) => train.names?.[index] ?? test.names?.[index] ?? `${index}`;
  if (known.size < 2)
    throw expected(
      "segmentation probe, training set",
      "masks of two classes or more",
      `one class, ${[...known].map((index) => JSON.stringify(nameOf(index))).join()}`,
    );
  const differing = test.names?.findIndex((name, i) => train.names && train.names[i] !== name) ?? -1;
  if (differing >= 0) {
    const found = `class ${differing} named ${JSON.stringify(test.names![differing])}`;
    throw expected("segmentation probe, test set", "the classes.txt of the training set", found);
  }
  const indices = [...new Set([...known, ...indicesOf(test)])].sort((a, b) => a - b);
  const placeOf = new Uint8Array(256).fill(IGNORED);
  indices.forEach((index, place) => {
    placeOf[index] = place;
  });
  return { names: indices.map((index) => ({ index, name: nameOf(index) })), placeOf };
}

/** The squares of a set's images, and what they are given as. */
export interface OpenedSet {
  readonly masked: Masked;
  readonly squares: readonly Placed[];
  readonly layer: Layer;
  /** Height and width that the encoder sees. */
  readonly size: number;
  /** Feature maps block by block, in rows of `layer`'s length. */
  blocks(): AsyncGenerator<FeatureBlock, void, undefined>;
  /** Places of classes, [size, size], of a square; one image's squares are best asked for in a row. */
  maskOf(square: Placed, size: number): Promise<Uint8Array>;
}

export function openSet(
  masked: Masked,
  encoder: LayeredEncoder,
  placeOf: Uint8Array,
  surroundings: Surroundings,
): OpenedSet {
  const { masks } = masked;
  const layer = encoder.layers[0]!;
  const squares = masks.flatMap((mask, image) => squaresOf(mask).map((square) => ({ ...square, image })));
  let last: { readonly image: number; readonly plane: Plane } | undefined;
  return {
    ...{ masked, squares, layer, size: encoder.metadata.imageSize },
    blocks: () => mapBlocks(masked, squares, encoder, surroundings),
    async maskOf(square, size) {
      const { image } = square;
      if (last?.image !== image) last = { image, plane: await decodePlane(masks[image]!.path) };
      return maskOf(last.plane, square, size).map((index) => placeOf[index]!);
    },
  };
}

export const lengthOf = ({ channels, places }: Layer): number => channels * places;

export const gridOf = ({ places }: Layer): number => Math.sqrt(places);

/** Bytes of the feature maps that are computed at a time. */
const BLOCK_BYTES = 2 ** 26;

async function* mapBlocks(
  { sources, masks }: Masked,
  squares: readonly Placed[],
  encoder: LayeredEncoder,
  { output = QUIET, signal }: Surroundings,
): AsyncGenerator<FeatureBlock, void, undefined> {
  const { imageSize: size, side, features, range } = encoder.metadata;
  const d = lengthOf(encoder.layers[0]!);
  const progress = openProgress(output);
  const said = new Set<string>(); // once for an image with several squares
  const warn = (line: string) => {
    if (!said.has(line)) progress.note(`warning: ${line}`);
    said.add(line);
  };
  const decoder = openDecoder({ ...sources, range: sources.range ?? range }, { warn });
  const decode = async (file: string, i: number) => {
    const image = await decoder.box(file, size, squares[i]!.box);
    return image && { width: side, height: side, pixels: framed(image.pixels, size, side) };
  };
  const files = squares.map(({ image }) => sources.files[image]!);
  const images = openImages({ ...sources, files }, { decode, cacheBytes: 0, concurrency: 2 * cores() });
  const encode = async (pixels: Uint8Array, n: number) => {
    const rows = await encoder.encode(pixels, [n, side, side, 3]); // the map, and then the features
    const maps = new Float32Array(n * d);
    for (let i = 0; i < n; i++) maps.set(rows.subarray(i * features, i * features + d), i * d);
    return maps;
  };
  const what = files.length === masks.length ? "images" : "squares of images";
  const block = Math.max(1, Math.min(BLOCK, Math.floor(BLOCK_BYTES / (4 * features))));
  const how = { decoded: images.get, encode, d, what, block, title: "features of", progress, signal };
  try {
    yield* featureBlocks({ files }, how);
  } finally {
    progress.end();
    await images.close();
  }
}

/** A square in the middle of a larger one, whose centre the encoder sees. */
function framed(pixels: Uint8Array, size: number, side: number): Uint8Array {
  if (size === side) return pixels;
  const margin = (side - size) >> 1;
  const out = new Uint8Array(side * side * 3);
  for (let y = 0; y < size; y++)
    out.set(pixels.subarray(3 * y * size, 3 * (y + 1) * size), 3 * ((y + margin) * side + margin));
  return out;
}
