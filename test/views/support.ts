/** Images, recipes and parameter rows for the tests of views, and the graph run on them. */
import { expect } from "chai";
import { input, type Tensor } from "../../src/graph/tensor.ts";
import { type Random, randomFor } from "../../src/random.ts";
import { VIEW_COLUMNS, type ViewColumn, type ViewRecipe } from "../../src/spec.ts";
import { augment } from "../../src/views/augment.ts";
import { centreView, wholeView } from "../../src/views/centre.ts";
import { compile, floats, type Value } from "../support/run.ts";
import type { Amounts, Box, Image, Part, Planes } from "./reference.ts";

/** Mean and standard deviation of ImageNet's channels, as everyone rounds them. */
export const MEAN = [0.485, 0.456, 0.406] as const;
export const STD = [0.229, 0.224, 0.225] as const;

/** The whole image of a square one, with no other change. */
export const plain = (size: number, parts: Partial<ViewRecipe> = {}): ViewRecipe => ({
  size,
  crop: { scale: [1, 1], ratio: [1, 1] },
  flip: 0,
  jitter: { p: 0, brightness: 0, contrast: 0, saturation: 0, hue: 0 },
  grayscale: 0,
  blur: { p: 0, sigma: [0.1, 2] },
  solarize: 0,
  ...parts,
});

/** SimCLR's jitter at a strength. */
export const jitterOf = (strength: number): ViewRecipe["jitter"] => ({
  p: 1,
  brightness: 0.8 * strength,
  contrast: 0.8 * strength,
  saturation: 0.8 * strength,
  hue: 0.2 * strength,
});

export type Row = Readonly<Record<ViewColumn, number>>;
const unchanged = { flip: 0, hue: 0, sigma: 0, solarize: 0, channel: 0, turn: 0, choice: 0 };
const identity = { gainBefore: 1, grayBefore: 0, meanBefore: 0, gainAfter: 1, grayAfter: 0, meanAfter: 0 };

/** The parameters that take the box and change nothing but what is named. */
export const rowOf = ({ top, left, height, width }: Box, changes: Partial<Row> = {}): Row => ({
  ...{ top, left, height, width },
  ...unchanged,
  ...identity,
  ...changes,
});
export const whole = ({ height, width }: { height: number; width: number }): Box => ({
  top: 0,
  left: 0,
  height,
  width,
});

export function image(
  height: number,
  width: number,
  pixel: (y: number, x: number, channel: number) => number,
): Image {
  const pixels = Uint8Array.from({ length: height * width * 3 }, (_, i) =>
    pixel(Math.floor(i / 3 / width), Math.floor(i / 3) % width, i % 3),
  );
  return { height, width, pixels };
}

/** Independent values: nothing hides a pixel taken from the wrong place. */
export function noise(height: number, width: number, ...key: (string | number)[]): Image {
  const random = randomFor("noise", height, width, ...key);
  return image(height, width, () => random.integer(256));
}

/** The pixels of a square image as values in [0, 1]. */
export const planesOf = ({ pixels }: Image): Planes =>
  [0, 1, 2].map((channel) =>
    Float64Array.from({ length: pixels.length / 3 }, (_, i) => pixels[3 * i + channel]! / 255),
  );

/** Each image in its top left corner, white elsewhere: what leaks from there shows. */
function canvasOf(images: readonly Image[]): Value {
  const height = Math.max(...images.map((x) => x.height)) + 2;
  const width = Math.max(...images.map((x) => x.width)) + 3;
  const data = new Uint8Array(images.length * height * width * 3).fill(255);
  images.forEach((x, i) => {
    for (let y = 0; y < x.height; y++) {
      data.set(x.pixels.subarray(y * x.width * 3, (y + 1) * x.width * 3), (i * height + y) * width * 3);
    }
  });
  return { shape: [images.length, height, width, 3], data };
}

const imagesInput = () => input("images", "uint8", ["n", "h", "w", 3]);

/** Views as the graph makes them, normalised: one of each image for each recipe, by a row each. */
export async function viewsOfEach(
  recipes: readonly ViewRecipe[],
  images: readonly Image[],
  rows: readonly (readonly Row[])[],
): Promise<Planes[][]> {
  const params = recipes.map((_, v) => input(`view${v}`, "float32", ["n", VIEW_COLUMNS.length]));
  const views = augment(imagesInput(), params, recipes);
  const run = await compile(Object.fromEntries(views.map((view, v) => [`out${v}`, view])));
  const feeds = rows.map((own, v) => {
    const flat = own.flatMap((row) => VIEW_COLUMNS.map((column) => row[column]));
    return [`view${v}`, floats(flat, [own.length, VIEW_COLUMNS.length])];
  });
  const found = await run({ images: canvasOf(images), ...Object.fromEntries(feeds) });
  return recipes.map(({ size }, v) => {
    const view = found[`out${v}`]!;
    expect(view.shape).to.deep.equal([images.length, 3, size, size]);
    return picturesOf(view.data as Float32Array, size);
  });
}

/** Those of one recipe. */
export const normalisedViews = async (
  recipe: ViewRecipe,
  images: readonly Image[],
  rows: readonly Row[],
): Promise<Planes[]> => (await viewsOfEach([recipe], images, [rows]))[0]!;

/** The same with values in [0, 1]. */
export const views = async (
  recipe: ViewRecipe,
  images: readonly Image[],
  rows: readonly Row[],
): Promise<Planes[]> => (await normalisedViews(recipe, images, rows)).map(denormalised);

/** Centre views, normalised; images of one size. */
export const centreViews = (images: readonly Image[], size: number, share: number): Promise<Planes[]> =>
  evaluated(images, size, centreView(imagesInput(), size, share));

/** Views of the whole, normalised; images of one size. */
export const wholeViews = (images: readonly Image[], size: number): Promise<Planes[]> =>
  evaluated(images, size, wholeView(imagesInput(), size));

async function evaluated(images: readonly Image[], size: number, made: Tensor): Promise<Planes[]> {
  const run = await compile({ views: made });
  const { height, width } = images[0]!;
  const data = Uint8Array.from(images.flatMap((x) => [...x.pixels]));
  const { views } = await run({ images: { shape: [images.length, height, width, 3], data } });
  expect(views!.shape).to.deep.equal([images.length, 3, size, size]);
  return picturesOf(views!.data as Float32Array, size);
}

function picturesOf(data: Float32Array, size: number): Planes[] {
  const plane = (i: number) => Float64Array.from(data.subarray(i * size * size, (i + 1) * size * size));
  return Array.from({ length: data.length / (3 * size * size) }, (_, i) => [
    plane(3 * i),
    plane(3 * i + 1),
    plane(3 * i + 2),
  ]);
}

export const normalised = (x: Planes): Planes =>
  x.map((plane, c) => plane.map((v) => (v - MEAN[c]!) / STD[c]!));
export const denormalised = (x: Planes): Planes =>
  x.map((plane, c) => plane.map((v) => v * STD[c]! + MEAN[c]!));

/** The greatest difference between two pictures. */
export function difference(a: Planes, b: Planes): number {
  expect(a.map((plane) => plane.length)).to.deep.equal(b.map((plane) => plane.length));
  return Math.max(
    ...a.map((plane, c) => plane.reduce((most, v, i) => Math.max(most, Math.abs(v - b[c]![i]!)), 0)),
  );
}

/** Fails, naming the picture, where found and expected differ by more than the tolerance. */
export function expectEqual(
  found: readonly Planes[],
  expected: readonly Planes[],
  tolerance: number,
  names?: readonly string[],
) {
  expect(found.length).to.equal(expected.length);
  expected.forEach((picture, i) => {
    expect(difference(found[i]!, picture), names?.[i] ?? `picture ${i}`).to.be.below(tolerance);
  });
}

/** A generator that keeps the jitter it was asked for; with an order given, that is what it shuffles to. */
export function observed(random: Random, forced?: readonly Part[]) {
  const drawn: number[] = [];
  let order: readonly Part[] = [];
  const observing: Random = {
    integer: (count) => random.integer(count),
    normal: () => random.normal(),
    chance: (p) => random.chance(p),
    uniform: (low, high) => {
      const value = random.uniform(low, high);
      drawn.push(value);
      return value;
    },
    shuffled: <T>(items: readonly T[]) => {
      const shuffled = forced ? ([...forced] as unknown as T[]) : random.shuffled(items);
      order = shuffled as unknown as Part[];
      return shuffled;
    },
  };
  return {
    random: observing,
    /** After a view of a plain crop was drawn: the area and the ratio come first, then these four. */
    jitter: (): { order: readonly Part[]; amounts: Amounts } => {
      const [brightness, contrast, saturation, hue] = drawn.slice(2) as [number, number, number, number];
      return { order, amounts: { brightness, contrast, saturation, hue } };
    },
  };
}

/** A row of float32 by its columns' names. */
export const named = (row: Float32Array): Row =>
  Object.fromEntries(VIEW_COLUMNS.map((column, i) => [column, row[i]])) as unknown as Row;

export const average = (values: readonly number[]): number =>
  values.reduce((a, b) => a + b, 0) / values.length;
