/**
 * SimCLR's views in the graph compared with sharp's extract + resize of raw pixels, alternately; prints one JSON
 * object.
 */
import * as ort from "onnxruntime-node";
import sharp from "sharp";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input } from "../../src/graph/tensor.ts";
import { simclr } from "../../src/methods/simclr.ts";
import { add } from "../../src/ops/elementwise.ts";
import { reduceMean } from "../../src/ops/reduce.ts";
import { openSession } from "../../src/runtime/session.ts";
import { VIEW_COLUMNS } from "../../src/spec.ts";
import { augment } from "../../src/views/augment.ts";
import { drawRows, median, randomImages, secondsOf } from "./measure.ts";

const SIZE = 32;
const IMAGES = 256;
const ROUNDS = 7;
const REPEATS = 12;

// All operators that a view can have: hue and blur too.
const config = simclr.config(SIZE).parse({ strength: 1, blur: 0.5 });
const recipes = simclr.views(config, SIZE);
const images = input("images", "uint8", ["n", "h", "w", 3]);
const params = recipes.map((_, v) => input(`view${v}`, "float32", ["n", VIEW_COLUMNS.length]));
const views = augment(images, params, recipes);
// A number computed from all views: in a training step, too, they stay inside the graph.
const graph = encodeModel(
  buildModel({ y: views.map((v) => reduceMean(v)).reduce((a, b) => add(a, b)) }, { name: "views" }),
);
const session = await openSession(graph, "views");
const pixels = randomImages(IMAGES, SIZE);
const draw = () => recipes.map((recipe, v) => drawRows(recipe, IMAGES, SIZE, v));

/** Parameters are drawn anew each time: that is part of the cost. */
async function ours(): Promise<void> {
  const feeds: Record<string, ort.Tensor> = {
    images: new ort.Tensor("uint8", pixels, [IMAGES, SIZE, SIZE, 3]),
  };
  draw().forEach((rows, v) => {
    feeds[`view${v}`] = new ort.Tensor("float32", rows, [IMAGES, VIEW_COLUMNS.length]);
  });
  await session.run(feeds);
}

const boxes = draw().flatMap((rows) =>
  Array.from({ length: IMAGES }, (_, i) => {
    const [top, left, height, width] = rows.subarray(i * VIEW_COLUMNS.length, i * VIEW_COLUMNS.length + 4);
    const image = pixels.subarray(i * SIZE * SIZE * 3, (i + 1) * SIZE * SIZE * 3);
    return { image, box: { top: top!, left: left!, height: height!, width: width! } };
  }),
);
/** All at once: libuv's threads share the work. */
async function sharps(): Promise<void> {
  await Promise.all(
    boxes.map(({ image, box }) =>
      sharp(image, { raw: { width: SIZE, height: SIZE, channels: 3 } })
        .extract(box)
        .resize(SIZE, SIZE, { fit: "fill", kernel: "linear" })
        .raw()
        .toBuffer(),
    ),
  );
}

sharp.concurrency(1);
sharp.cache(false);
await ours();
await sharps();
const count = IMAGES * recipes.length;
const rates: { ours: number; sharp: number }[] = [];
for (let round = 0; round < ROUNDS; round++) {
  // About as long as sharp takes, so that a hitch of the machine weighs the same on both sides.
  const seconds = await secondsOf(async () => {
    for (let i = 0; i < REPEATS; i++) await ours();
  });
  rates.push({ ours: (REPEATS * count) / seconds, sharp: count / (await secondsOf(sharps)) });
}
const ratios = rates.map((r) => r.ours / r.sharp);
console.log(
  JSON.stringify({
    viewsToSharp: median(ratios),
    low: Math.min(...ratios),
    high: Math.max(...ratios),
    viewsPerSecond: median(rates.map((r) => r.ours)),
    sharpPerSecond: median(rates.map((r) => r.sharp)),
  }),
);
