/** How many images a step takes: what is usual, and what an artifact can work with. */
import { expected } from "../errors.ts";
import { MICRO_BATCH } from "../runtime/training.ts";
import type { Least, Manifest } from "../spec.ts";

/** Images of up to 64 px fit by the hundred into memory, photographs by the dozen. */
export const usualBatch = (imageSize: number): number => (imageSize <= 64 ? 256 : 64);

interface Given {
  readonly batch?: number | undefined;
  readonly microBatch?: number | undefined;
}

/**
 * The batch given; else the usual one, or all images if they are fewer, or half of them where negatives come of a memory bank.
 *
 * @throws UserError if the step cannot work with it.
 */
export function batchOf(
  manifest: Omit<Manifest, "files">,
  images: number,
  { batch: given, microBatch }: Given,
  what: "images" | "items" = "images",
): number {
  const { name, batchMultiple: unit, least, leastOfPart } = manifest;
  const banked = manifest.state.some(({ rows }) => rows);
  const times = given === undefined && banked ? 2 : 1; // as many images as a batch
  const usual = Math.min(usualBatch(manifest.encoder.imageSize), Math.floor(images / times));
  const batch = given ?? Math.floor(usual / unit) * unit;
  const [where, found] =
    given === undefined ? [`${what} for ${name}`, `${images}`] : [`batch for ${name}`, `${batch}`];
  if (batch > images) {
    const wanted = `at most the number of ${what} (${images})`;
    throw expected("batch", wanted, found, `use a smaller batch or more ${what}`);
  }
  const { from, advice } = originOf(manifest, batch);
  if (batch % unit !== 0) throw expected(where, `a multiple of ${unit}${from}`, found, advice);
  if (batch === 0) throw expected(where, `${times * unit} or more${from}`, found, banked ? OUTSIDE : advice);
  if (least && batch < least.images)
    throw expected(where, `${times * least.images} or more`, found, least.why);
  if (banked && batch >= images) throw expected(where, `fewer than all ${images} ${what}`, found, OUTSIDE);
  if (leastOfPart) checkParts(name, leastOfPart, batch, microBatch);
  return batch;
}

const OUTSIDE = "its negatives are images outside of the batch";

/** Where the multiple comes from, and what does without it. */
function originOf({ batchMultiple: unit, multipleOf, pieces }: Omit<Manifest, "files">, batch: number) {
  const origins = [
    ...(multipleOf === undefined ? [] : [`the setting ${multipleOf}`]),
    ...(pieces === 1 ? [] : [`the graph's ${pieces} pieces`]),
  ];
  const from = origins.length === 0 ? "" : ` (${origins.join(" times ")})`;
  const fits = batch > 0 && batch % (unit / pieces) === 0;
  const rebuilt = fits ? `graphs build --target cpu --batch ${batch} makes one that fits` : undefined;
  return { from, advice: fits || multipleOf === undefined ? rebuilt : `--set ${multipleOf}=1 lifts it` };
}

/** Each part as large as it must be, the last one too. */
function checkParts(name: string, least: Least, batch: number, microBatch = MICRO_BATCH): void {
  const size = Math.min(batch, microBatch);
  const smallest = batch % size || size;
  if (smallest >= least.images) return;
  const found = `one of ${smallest} (${batch} images, ${size} at a time)`;
  throw expected(`--micro-batch for ${name}`, `parts of ${least.images} images or more`, found, least.why);
}
