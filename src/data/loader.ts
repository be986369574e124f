/** Batches of decoded images, prepared while the step before them runs. */
import { expected } from "../errors.ts";
import { prepareAhead } from "./ahead.ts";
import { assemble, type Canvas, type Source } from "./canvas.ts";
import { openDecoder } from "./decoder.ts";
import { openImages } from "./images.ts";
import type { Box } from "./items.ts";
import { epochOrders } from "./order.ts";
import { openStacks } from "./pictures.ts";
import { countOf, type Sources } from "./sources.ts";

export interface Batch extends Canvas {
  /** What is heard with each image, all of it, where the loader was asked for it. */
  readonly audio?: readonly Float32Array[];
  /** The files that were used, as indices into `sources.files`; or the items. */
  readonly indices: readonly number[];
  /** Of items: where on the canvas the images of each lie. */
  readonly places?: readonly (readonly Box[])[];
  /** Where sources have objects, and are padded: what each image takes of its square, pixels. */
  readonly contents?: readonly NonNullable<Source["content"]>[];
  readonly epoch: number;
  readonly step: number;
}

export interface LoaderOptions {
  /** Images in a batch. */
  readonly batch: number;
  readonly seed: number;
  /** Images are scaled down to this, see `Decoder.source`; pixels. */
  readonly shorterSide: number;
  /** Height and width that a batch's canvas has at least, pixels; twice as high for items. @default as its images need */
  readonly canvas?: number | undefined;
  /** At which `sources.audio` is decoded too, samples a second. @default it is not */
  readonly audioRate?: number | undefined;
  /** Decoded images are kept up to this many bytes; the others are decoded again in each epoch. */
  readonly cacheBytes: number;
  /** Images handed to sharp at a time. @default batch * ahead, at most 256, but no less than a batch */
  readonly concurrency?: number | undefined;
  /** Batches prepared beyond the one in use. @default 2 */
  readonly ahead?: number | undefined;
  /** The first batch is that of this step. @default 0 */
  readonly startStep?: number | undefined;
  /** Steps of the whole run: no batch is prepared for later ones. @default Infinity */
  readonly steps?: number | undefined;
  /** See `DecoderOptions`. */
  readonly warn: (line: string) => void;
}

export interface Loader {
  readonly stepsPerEpoch: number;
  /** The next step's batch. Rejects with a UserError if no image can be decoded. */
  next(): Promise<Batch>;
  /** Paths of the images that could not be decoded so far. */
  readonly broken: readonly string[];
  /** Drops what is prepared and resolves when no image is being decoded any more. */
  close(): Promise<void>;
}

/** What an image or an item gives to a batch. */
interface Found {
  readonly source: Source;
  readonly places?: readonly Box[];
}

/**
 * Batches for the steps of a run. The batch of a step depends on the sources, the seed, the batch size and the step alone:
 * each epoch takes the images in an order of its own and leaves out the rest that fills no batch. In place of an
 * image that cannot be decoded comes the next good one that follows the batch in the epoch's order, which goes
 * round. No item comes twice into a batch.
 *
 * Holds `cacheBytes` and `ahead` batches at most, besides the one in use.
 *
 * @throws UserError if an option is out of range or a batch is larger than the number of images.
 */
export function openLoader(sources: Sources, options: LoaderOptions): Loader {
  const { batch, seed, shorterSide, cacheBytes, ahead = 2, startStep = 0, steps = Infinity, warn } = options;
  const { audioRate } = options;
  // While this thread is busy, decodes that libuv holds go on, but none can be started. So a whole batch is handed over at
  // once, to wait in libuv's queue.
  const { concurrency = Math.max(batch, Math.min(batch * ahead, 256)) } = options;
  const { items } = sources;
  const count = countOf(sources);
  wholeNumbers(1, { batch, shorterSide, concurrency });
  wholeNumbers(0, { ahead, startStep });
  // First, for what it warns of may be why there are too few images.
  const decoder = openDecoder(sources, { warn, instead: "another image takes its place" });
  if (batch > count) {
    const what = items ? "items" : "images";
    const wanted = `at most the number of ${what} (${count} in ${sources.root})`;
    throw expected("batch", wanted, `${batch}`, `use a smaller batch or more ${what}`);
  }
  const stepsPerEpoch = Math.floor(count / batch);
  const stacks = items && openStacks(sources, items, { decoder, seed, shorterSide, cacheBytes, concurrency });
  const images = openImages(sources, {
    decode: async (file, index) => {
      if (audioRate === undefined) return decoder.source(file, shorterSide);
      const heard = decoder.audio(sources.audio![index]!, audioRate);
      const [image, audio] = await Promise.all([decoder.source(file, shorterSide), heard]);
      return image && audio && { ...image, audio };
    },
    cacheBytes,
    concurrency,
  });
  async function find(index: number, epoch: number): Promise<Found | undefined> {
    if (stacks) return stacks.get(index, epoch);
    const source = await images.get(index);
    return source && { source };
  }
  const orderOf = epochOrders(count, seed);

  async function prepare(step: number): Promise<Batch> {
    const epoch = Math.floor(step / stepsPerEpoch);
    const order = orderOf(epoch);
    let position = (step % stepsPerEpoch) * batch;
    const take = async (n: number) => {
      const indices = Array.from({ length: n }, () => order[position++ % count]!);
      return { indices, found: await Promise.all(indices.map((index) => find(index, epoch))) };
    };

    const { indices, found } = await take(batch);
    const holes = found.flatMap((image, slot) => (image ? [] : [slot]));
    for (let missed = 0; holes.length > 0; ) {
      if (missed >= count) throw noneGood(sources, items && batch);
      const spare = await take(holes.length);
      spare.found.forEach((image, i) => {
        const index = spare.indices[i]!;
        missed++;
        if (!image || (items && indices.includes(index))) return;
        missed = 0;
        const slot = holes.shift()!;
        found[slot] = image;
        indices[slot] = index;
      });
    }
    const taken = found.map((image) => image!);
    return {
      ...assemble(
        taken.map(({ source }) => source),
        options.canvas,
        items ? 2 : 1,
      ),
      ...(items && { places: taken.map(({ places }) => places!) }),
      ...(sources.objects && { contents: taken.map(({ source }) => source.content!) }),
      ...(audioRate !== undefined && { audio: taken.map(({ source }) => source.audio!) }),
      indices,
      epoch,
      step,
    };
  }

  const batches = prepareAhead(prepare, { ahead, startStep, steps });

  async function close() {
    batches.close();
    await images.close();
    await stacks?.close();
  }

  return {
    stepsPerEpoch,
    next: batches.next,
    close,
    get broken() {
      return stacks ? [...stacks.broken] : [...images.broken.values()];
    },
  };
}

function wholeNumbers(least: number, options: Record<string, number>) {
  for (const [name, value] of Object.entries(options)) {
    if (!Number.isInteger(value) || value < least) {
      throw expected(name, `a whole number from ${least}`, `${value}`);
    }
  }
}

/** `batch`: of so many different items. */
function noneGood(sources: Sources, batch: number | undefined) {
  const wanted = batch === undefined ? "an image" : `${batch} items`;
  const found = `${batch === undefined ? "none" : "fewer"} among ${countOf(sources)}`;
  return expected(sources.root, `${wanted} that can be decoded`, found, "the warnings say why");
}
