/** Draws the parameters of views on the host: small rows of numbers that `augment` turns into pixels. */
import type { Random } from "../random.ts";
import { type Patch, type RandAugment, VIEW_COLUMNS, type ViewColumn, type ViewRecipe } from "../spec.ts";

export interface Size {
  readonly height: number;
  readonly width: number;
}

/** Where an image lies on the canvas, pixels; in its top left corner by default. */
export interface Place extends Size {
  readonly top?: number;
  readonly left?: number;
}

/** Where each parameter stands in a row. */
const COLUMN = Object.fromEntries(VIEW_COLUMNS.map((name, i) => [name, i])) as Readonly<
  Record<ViewColumn, number>
>;

/** The box of another view of the image, and the least share of the smaller of the two boxes that both have. */
export interface Overlap {
  readonly box: Box;
  readonly least: number;
}

/**
 * Writes the parameters of one view of the image at a place of the canvas into a row of `VIEW_COLUMNS`. What the recipe's
 * group shares is drawn from `shared`, alike for all views of the group. Returns the crop, within the image.
 */
export function sampleView(
  recipe: ViewRecipe,
  image: Place,
  random: Random,
  row: Float32Array,
  shared: Random = random,
  overlap?: Overlap,
): Box {
  const { patch, group } = recipe;
  const crop = cropOf(image, recipe.crop, shared, overlap);
  const flip = shared.chance(recipe.flip) ? 1 : 0;
  const choice = patch ? Math.floor(shared.uniform() * patch.cells.length) : 0;
  const box = patch ? patchOf(crop, patch, patch.cells[choice]!, flip === 1, random) : crop;
  const colors = group?.color ? shared : random;
  const jitter = sampleJitter(recipe, colors);
  if (recipe.randAugment) jitter.after = sampleRandAugment(recipe.randAugment, jitter.after, colors);
  if (colors.chance(recipe.grayscale)) jitter.after = afterSaturation(jitter.after, 0);
  const sigma = random.chance(recipe.blur.p) ? random.uniform(...recipe.blur.sigma) : 0;
  const solarize = random.chance(recipe.solarize) ? 1 : 0;
  const channel = recipe.dropChannels && random.chance(recipe.dropChannels) ? 1 + random.integer(3) : 0;
  const turn = recipe.turn ? random.integer(4) : 0;
  const { before, hue, after } = jitter;
  // One by one: creating an object with these keys for each view would take most of the time.
  row[COLUMN.top] = (image.top ?? 0) + box.top;
  row[COLUMN.left] = (image.left ?? 0) + box.left;
  row[COLUMN.height] = box.height;
  row[COLUMN.width] = box.width;
  row[COLUMN.flip] = flip;
  row[COLUMN.gainBefore] = before.gain;
  row[COLUMN.grayBefore] = before.gray;
  row[COLUMN.meanBefore] = before.mean;
  row[COLUMN.hue] = hue;
  row[COLUMN.gainAfter] = after.gain;
  row[COLUMN.grayAfter] = after.gray;
  row[COLUMN.meanAfter] = after.mean;
  row[COLUMN.sigma] = sigma;
  row[COLUMN.solarize] = solarize;
  row[COLUMN.channel] = channel;
  row[COLUMN.turn] = turn;
  row[COLUMN.choice] = choice;
  return crop;
}

/** Crops that are drawn until one overlaps enough; then the other view's box is taken. */
const TRIES = 50;

function cropOf(image: Size, crop: ViewRecipe["crop"], random: Random, overlap: Overlap | undefined): Box {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const box = randomResizedCrop(image, crop, random);
    if (!overlap || shared(box, overlap.box) >= overlap.least) return box;
  }
  return overlap!.box;
}

/** The area that two boxes share, over that of the smaller. */
function shared(a: Box, b: Box): number {
  const along = (start: "top" | "left", length: "height" | "width") =>
    Math.max(0, Math.min(a[start] + a[length], b[start] + b[length]) - Math.max(a[start], b[start]));
  const smaller = Math.min(a.height * a.width, b.height * b.width);
  return (along("top", "height") * along("left", "width")) / smaller;
}

/**
 * A box of random area and aspect ratio (Szegedy et al. 2015), whole pixels, drawn as torchvision does: ten tries,
 * then the largest centred box within the ratios.
 */
function randomResizedCrop(
  { height, width }: Size,
  { scale, ratio }: ViewRecipe["crop"],
  random: Random,
): Box {
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = height * width * random.uniform(...scale);
    const aspect = Math.exp(random.uniform(Math.log(ratio[0]), Math.log(ratio[1])));
    const w = Math.round(Math.sqrt(area * aspect));
    const h = Math.round(Math.sqrt(area / aspect));
    if (w >= 1 && h >= 1 && w <= width && h <= height) {
      return {
        top: random.integer(height - h + 1),
        left: random.integer(width - w + 1),
        height: h,
        width: w,
      };
    }
  }
  const whole = width / height;
  const h = whole < ratio[0] ? Math.max(1, Math.round(width / ratio[0])) : height;
  const w = whole > ratio[1] ? Math.max(1, Math.round(height * ratio[1])) : width;
  return { top: Math.floor((height - h) / 2), left: Math.floor((width - w) / 2), height: h, width: w };
}

export interface Box extends Size {
  readonly top: number;
  readonly left: number;
}

/** A patch of one cell of the crop, whole pixels; of a flipped crop, the cell that lies there after the flip. */
function patchOf(crop: Box, { grid, side, jitter }: Patch, cell: number, flip: boolean, random: Random): Box {
  const [row, column] = [Math.floor(cell / grid), cell % grid];
  const along = (start: number, length: number, at: number) => {
    const step = length / grid;
    const size = Math.max(1, Math.round(step * side));
    const slack = Math.max(0, step - size);
    const place = at * step + slack * (0.5 + jitter * (random.uniform() - 0.5));
    return {
      start: start + Math.min(Math.max(0, length - size), Math.round(place)),
      size: Math.min(size, length),
    };
  };
  const down = along(crop.top, crop.height, row);
  const across = along(crop.left, crop.width, flip ? grid - 1 - column : column);
  return { top: down.start, height: down.size, left: across.start, width: across.size };
}

/** gain * x + gray * luma(x) + mean * average(luma(x)). */
interface Affine {
  readonly gain: number;
  readonly gray: number;
  readonly mean: number;
}
const IDENTITY: Affine = { gain: 1, gray: 0, mean: 0 };

const afterBrightness = ({ gain, gray, mean }: Affine, factor: number): Affine => ({
  gain: gain * factor,
  gray: gray * factor,
  mean: mean * factor,
});
const afterContrast = ({ gain, gray, mean }: Affine, factor: number): Affine => ({
  gain: gain * factor,
  gray: gray * factor,
  mean: mean * factor + (1 - factor) * (gain + gray + mean),
});
const afterSaturation = ({ gain, gray, mean }: Affine, factor: number): Affine => ({
  gain: gain * factor,
  gray: gray * factor + (1 - factor) * (gain + gray),
  mean,
});

/**
 * Colour jitter in a random order of its four parts. Brightness, contrast and saturation are affine in the image and
 * its luma, so those before the hue's rotation become one affine transformation and those after it another; values
 * are clipped to [0, 1] once after each of the two.
 */
function sampleJitter(
  { jitter }: ViewRecipe,
  random: Random,
): { before: Affine; hue: number; after: Affine } {
  const drawn = { before: IDENTITY, hue: 0, after: IDENTITY };
  if (!random.chance(jitter.p)) return drawn;
  const around1 = (x: number) => random.uniform(Math.max(0, 1 - x), 1 + x);
  const factors = {
    brightness: around1(jitter.brightness),
    contrast: around1(jitter.contrast),
    saturation: around1(jitter.saturation),
  };
  drawn.hue = random.uniform(-jitter.hue, jitter.hue);
  let side: "before" | "after" = jitter.hue > 0 ? "before" : "after";
  for (const part of random.shuffled(["brightness", "contrast", "saturation", "hue"] as const)) {
    if (part === "hue") side = "after";
    else drawn[side] = AFFINE[part](drawn[side], factors[part]);
  }
  return drawn;
}

/** What RandAugment's magnitudes go up to, and how far a factor is then from 1. */
const MOST = { magnitude: 30, change: 0.9 };

/** RandAugment's colours after what came before; values are clipped once, after all of them. */
function sampleRandAugment({ operations, magnitude }: RandAugment, before: Affine, random: Random): Affine {
  const change = (MOST.change * magnitude) / MOST.magnitude;
  let found = before;
  for (let i = 0; i < operations; i++) {
    const part = (["brightness", "contrast", "saturation", undefined] as const)[random.integer(4)];
    const factor = random.chance(0.5) ? 1 + change : 1 - change;
    if (part) found = AFFINE[part](found, factor);
  }
  return found;
}

const AFFINE = { brightness: afterBrightness, contrast: afterContrast, saturation: afterSaturation };
