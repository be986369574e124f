/**
 * How many views a second a GPU makes: SimCLR's at 224 px alone, from images as `train` keeps them, in a graph that is run as
 * a training step is, images copied to the device and parameters drawn each time. Prints a JSON line.
 */

import { parseArgs } from "node:util";
import * as ort from "onnxruntime-node";
import { buildModel } from "../../../src/graph/model.ts";
import { encodeModel } from "../../../src/graph/protos.ts";
import { input, type Tensor } from "../../../src/graph/tensor.ts";
import { simclr } from "../../../src/methods/simclr.ts";
import { add } from "../../../src/ops/elementwise.ts";
import { reduceMean } from "../../../src/ops/reduce.ts";
import type { Provider } from "../../../src/runtime/session.ts";
import { openStateful } from "../../../src/runtime/stateful.ts";
import { type StateEntry, VIEW_COLUMNS } from "../../../src/spec.ts";
import { augment } from "../../../src/views/augment.ts";
import { drawRows, randomImages } from "../measure.ts";
import { say } from "./part.ts";

const WARM = 4;

const { values } = parseArgs({
  options: {
    size: { type: "string", default: "224" },
    batch: { type: "string", default: "256" },
    provider: { type: "string", default: "cuda" },
    seconds: { type: "string", default: "3" },
  },
});
const [size, batch, seconds] = [Number(values.size), Number(values.batch), Number(values.seconds)];
const side = Math.round((size * 8) / 7);
const recipes = simclr.views(simclr.config(size).parse({}), size);
const images = input("images", "uint8", ["n", "h", "w", 3]);
const params = recipes.map((_, v) => input(`view${v}`, "float32", ["n", VIEW_COLUMNS.length]));
// Views are read whole, by their mean, and added to the state that makes this a step.
const means = augment(images, params, recipes).map((view) => reduceMean(view)); // [] each
const sum = input("sum", "float32", [1]);
const next = add(
  sum,
  means.reduce((a: Tensor, b) => add(a, b)),
); // [1]
const graph = encodeModel(
  buildModel({ loss: means[0]!, "next.sum": next }, { name: "views", inputs: [images, ...params, sum] }),
);
const entry: StateEntry = {
  name: "sum",
  role: "buffer",
  dtype: "float32",
  shape: [1],
  init: { kind: "constant", value: 0 },
  next: "next.sum",
};
const notes: string[] = [];
const initial = () => ({ sum: new ort.Tensor("float32", new Float32Array(1), [1]) });
const session = await openStateful(graph, "views", [entry], initial, {
  provider: values.provider as Provider,
  asWritten: true,
  note: (line) => notes.push(line),
});
const pixels = new ort.Tensor("uint8", randomImages(batch, side), [batch, side, side, 3]);
async function step(): Promise<void> {
  const rows = recipes.map((recipe, v) => {
    const data = drawRows(recipe, batch, side, v);
    return [`view${v}`, new ort.Tensor("float32", data, [batch, VIEW_COLUMNS.length])] as const;
  });
  await session.run({ images: pixels, ...Object.fromEntries(rows) }, ["loss"]);
}
for (let i = 0; i < WARM; i++) await step();
const started = performance.now();
const spent = () => (performance.now() - started) / 1000;
let made = 0;
do {
  await step();
  made += batch * recipes.length;
} while (spent() < seconds);
say({ kind: "views", size, batch, viewsPerSecond: made / spent(), notes });
await session.close();
