/** Views of a run's images as it saw them, for its report. */
import * as ort from "onnxruntime-node";
import { pictureOf, picturesGraph } from "../artifact/pictures.ts";
import { assemble, type Source } from "../data/canvas.ts";
import { openDecoder } from "../data/decoder.ts";
import { type Box, openItems } from "../data/items.ts";
import { epochOrders } from "../data/order.ts";
import { openStacks } from "../data/pictures.ts";
import { countOf, fingerprint, type Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import type { ViewsShown } from "../report/pictures.ts";
import { type Run, stepsPerEpoch } from "../report/run.ts";
import { fitted, spriteOf } from "../report/sprite.ts";
import { openSession } from "../runtime/session.ts";
import { VIEW_COLUMNS } from "../spec.ts";
import { drawViews } from "../train/draws.ts";
import type { EncoderOptions } from "./encoder.ts";
import { sourcesOfRun } from "./run-sources.ts";

/** Images whose views are shown, fewer where there are many views of each. */
const VIEWED = { images: 12, least: 3, cells: 160 };
/** Side of the largest view, pixels. */
const LARGEST = 96;
/** Of the sheet: with the other images a page stays below 3 MB. */
const MOST_BYTES = 400_000;

/** Of images of the last step that ran, as it saw them. @throws UserError if they are not there any more. */
export async function viewsShown(run: Run, { threads }: EncoderOptions): Promise<ViewsShown> {
  const { config, manifest, records } = run;
  const { seed } = config;
  const { sources } = await sourcesOfRun(run.name, config, manifest, seed);
  if (fingerprint(sources) !== config.fingerprint)
    throw expected(config.data, "the images that the run began with", "others");
  const recipes = manifest.views.map(({ recipe }) => recipe);
  const steps = stepsPerEpoch(run);
  const step = Math.max(0, (records.at(-1)?.step ?? 0) - 1);
  const epoch = Math.floor(step / steps);
  const order = epochOrders(countOf(sources), seed)(epoch);
  const wanted = Math.max(
    VIEWED.least,
    Math.min(VIEWED.images, Math.floor(VIEWED.cells / (recipes.length + 1))),
  );
  const decoder = openDecoder(sources, { warn: () => {} }); // training has warned
  const { shorterSide } = config;
  const { items } = sources;
  const stacks =
    items && openStacks(sources, items, { decoder, seed, shorterSide, cacheBytes: 0, concurrency: 2 });
  const indices: number[] = [];
  const images: Source[] = [];
  const places: (readonly Box[])[] = []; // of items, of which both pictures are shown
  for (const index of order.slice((step % steps) * config.batch)) {
    if (images.length === Math.min(wanted, config.batch)) break;
    const stack = await stacks?.get(index, epoch);
    const image = stacks ? stack?.source : await decoder.source(sources.files[index]!, shorterSide);
    if (!image) continue;
    indices.push(index);
    images.push(image);
    if (stack) places.push(stack.places);
  }
  await stacks?.close();
  if (images.length === 0) throw expected(config.data, "an image that can be decoded", "none");

  const canvas = assemble(images);
  const drawnFor = { indices, sizes: canvas.sizes, ...(items && { places }), epoch };
  const rows = drawViews(manifest, seed, drawnFor, config.cropOverlap);
  const { height, width } = canvas;
  const n = images.length;
  const session = await openSession(picturesGraph(recipes), "views", { threads, asWritten: true });
  const feeds = { images: new ort.Tensor("uint8", canvas.images, [n, height, width, 3]) };
  const params = rows.map((row, i) => [`view${i}`, new ort.Tensor("float32", row, [n, VIEW_COLUMNS.length])]);
  const drawn = await session.run({ ...feeds, ...Object.fromEntries(params) });
  await session.close();

  const largest = Math.max(...recipes.map(({ size }) => size));
  const cell = Math.min(LARGEST, largest);
  const pictures: Source[] = [];
  for (let i = 0; i < n; i++) {
    pictures.push(await fitted(images[i]!, cell));
    for (const [v, { size }] of recipes.entries()) {
      const values = (drawn[pictureOf(v)]!.data as Float32Array).subarray(
        i * size * size * 3,
        (i + 1) * size * size * 3,
      );
      const pixels = new Uint8Array(Uint8ClampedArray.from(values)); // rounded, too
      const side = Math.max(1, Math.round((size * cell) / largest));
      pictures.push(await fitted({ width: size, height: size, pixels }, side));
    }
  }
  const layout = { cell, columns: recipes.length + 1, mostBytes: MOST_BYTES, exact: cell === largest };
  const files = indices.map((index) =>
    items ? filesOf(sources, index, seed, epoch) : sources.files[index]!,
  );
  return { sprite: await spriteOf(pictures, layout), recipes, epoch: epoch + 1, files };
}

/** The names of an item's two pictures. */
function filesOf({ files, items }: Sources, item: number, seed: number, epoch: number): string {
  const names = openItems(items!, seed)
    .pair(item, epoch)
    .map(({ file, frame }) => `${files[file]}${frame === undefined ? "" : ` frame ${frame}`}`);
  return names.join(" | ");
}
