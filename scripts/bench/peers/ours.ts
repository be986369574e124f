/** Our side: one kind of work, asked for and answered in the protocol of common.py. */
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import * as ort from "onnxruntime-node";
import { buildStep, compile, piecesFor } from "../../../src/artifact/compile.ts";
import { openLoader } from "../../../src/data/loader.ts";
import { findImages } from "../../../src/data/sources.ts";
import { evaluateDim, multiplyDims } from "../../../src/graph/dims.ts";
import { buildModel } from "../../../src/graph/model.ts";
import { encodeModel } from "../../../src/graph/protos.ts";
import { input } from "../../../src/graph/tensor.ts";
import { openEncoder } from "../../../src/index.ts";
import { simclr } from "../../../src/methods/simclr.ts";
import { add } from "../../../src/ops/elementwise.ts";
import { piecesOf } from "../../../src/ops/pieces.ts";
import { reduceMean } from "../../../src/ops/reduce.ts";
import { randomFor } from "../../../src/random.ts";
import { openStateful } from "../../../src/runtime/stateful.ts";
import { type JsonObject, VIEW_COLUMNS } from "../../../src/spec.ts";
import { augment } from "../../../src/views/augment.ts";
import { sampleView } from "../../../src/views/sample.ts";
import { flopsOf } from "../flops.ts";
import { openMatmul, openStep, randomImages } from "../measure.ts";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    method: { type: "string", default: "simclr" },
    encoder: { type: "string", default: "resnet18" },
    size: { type: "string", default: "32" },
    batch: { type: "string", default: "64" },
    config: { type: "string", default: "{}" },
    optimizer: { type: "string", default: "sgd" },
    data: { type: "string", default: "" },
    limit: { type: "string", default: "1" },
    onnx: { type: "string", default: "" },
    "in-memory": { type: "boolean", default: false },
  },
});
const size = Number(values.size);
const batch = Number(values.batch);

type Answers = Readonly<Record<string, () => Promise<object>>>;

/** Shorter work is repeated for that long, s. */
const LEAST_SECONDS = 1;

async function rateOf(work: () => Promise<unknown>, items: number): Promise<{ rate: number }> {
  const started = performance.now();
  for (let runs = 1; ; runs++) {
    await work();
    const seconds = (performance.now() - started) / 1000;
    if (seconds >= LEAST_SECONDS) return { rate: (runs * items) / seconds };
  }
}

/** A whole training step: its views are part of it. */
async function step(): Promise<Answers> {
  const spec = {
    method: values.method,
    encoder: values.encoder,
    imageSize: size,
    config: JSON.parse(values.config) as JsonObject,
    optimizer: values.optimizer,
  };
  const { trainer, input } = await openStep(spec, batch);
  let matmul: Awaited<ReturnType<typeof openMatmul>> | undefined;
  return {
    run: () => rateOf(() => trainer.step(input), batch),
    parameters: async () => {
      const { state } = compile(spec).manifest;
      const own = state.filter(({ name, role }) => role === "param" && name.startsWith("encoder."));
      return { count: own.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0) };
    },
    /** Of one step, for each image. */
    flops: async () => {
      const { outputs, inputs } = buildStep(spec);
      const unit = evaluateDim(inputs[0]!.shape[0]!, { n: 1 });
      return { perImage: flopsOf(Object.values(outputs), { n: batch / unit, h: size, w: size }) / batch };
    },
    matmul: async () => {
      matmul ??= await openMatmul();
      return { gflops: await matmul.gflops() };
    },
  };
}

/**
 * From files, or from decoded images, to a number computed from all views: in a training step, too, they stay in the
 * graph.
 */
async function views(): Promise<Answers> {
  const recipes = simclr.views(simclr.config(size).parse({}), size);
  const pieces = piecesFor({ method: "simclr", encoder: "resnet18", imageSize: size }, batch);
  const n = multiplyDims(pieces, "n");
  const images = input("images", "uint8", [n, "h", "w", 3]);
  const params = recipes.map((_, v) => input(`view${v}`, "float32", [n, VIEW_COLUMNS.length]));
  const views = augment(images, params, recipes, pieces);
  const means = views.flatMap(piecesOf).map((piece) => reduceMean(piece));
  const graph = encodeModel(buildModel({ y: means.reduce(add) }, { name: "views" }));
  const session = await openStateful(graph, "views", [], () => ({}));
  const sources = await findImages(values.data, { limit: Number(values.limit) });

  const open = () =>
    openLoader(sources, {
      batch,
      seed: 0,
      // As `train` has it.
      shorterSide: size <= 64 ? 2 * size : Math.round((size * 8) / 7),
      cacheBytes: values["in-memory"] ? 2 ** 31 : 0,
      warn: (line) => process.stderr.write(`${line}\n`),
    });
  const feedsOf = async (loader: ReturnType<typeof open>) => {
    const { images, height, width, sizes, indices, epoch } = await loader.next();
    const feeds: Record<string, ort.Tensor> = {
      images: new ort.Tensor("uint8", images, [batch, height, width, 3]),
    };
    recipes.forEach((recipe, v) => {
      const columns = VIEW_COLUMNS.length;
      const rows = new Float32Array(batch * columns);
      indices.forEach((index, i) => {
        const random = randomFor(0, "view", v, epoch, index);
        sampleView(recipe, sizes[i]!, random, rows.subarray(i * columns, (i + 1) * columns));
      });
      feeds[`view${v}`] = new ort.Tensor("float32", rows, [batch, columns]);
    });
    return feeds;
  };
  /** Draws the next batch's view parameters while the graph computes the views of one batch, as `train` does. */
  const epoch = async (loader: ReturnType<typeof open>, batches = loader.stepsPerEpoch) => {
    let running: Promise<unknown> = Promise.resolve();
    for (let i = 0; i < batches; i++) {
      const feeds = await feedsOf(loader);
      await running;
      running = session.run(feeds, ["y"]);
    }
    await running;
  };

  if (values["in-memory"]) {
    const loader = open();
    await epoch(loader); // decodes
    return { run: () => rateOf(() => epoch(loader), recipes.length * batch * loader.stepsPerEpoch) };
  }
  return {
    // A new loader each time: one that stays open would decode ahead during the others' turn. Measured from the
    // second batch on: as many decodes are under way at the end as at the start.
    run: async () => {
      const loader = open();
      await epoch(loader, 1);
      const rate = await rateOf(() => epoch(loader), recipes.length * batch * loader.stepsPerEpoch);
      await loader.close();
      return rate;
    },
  };
}

/** The exported encoder on uint8 images: it normalises them. */
async function encode(): Promise<Answers> {
  const encoder = await openEncoder(values.onnx);
  const shape = [batch, size, size, 3] as const;
  const images = randomImages(batch, size);
  const pattern = Uint8Array.from({ length: size * size * 3 }, (_, i) => {
    const [y, x, c] = [Math.floor(i / (3 * size)), Math.floor(i / 3) % size, i % 3];
    return (7 * y + 13 * x + 101 * c) % 256;
  });
  return {
    run: () => rateOf(() => encoder.encode(images, shape), batch),
    features: async () => ({ features: [...(await encoder.encode(pattern, [1, size, size, 3]))] }),
  };
}

const answers: Answers = {
  memory: async () => ({ bytes: process.resourceUsage().maxRSS * 1024 }),
  ...(await { step, views, encode }[positionals[0] as "step" | "views" | "encode"]()),
};
const say = (answer: object) => process.stdout.write(`${JSON.stringify(answer)}\n`);
say({ ready: true });
for await (const line of createInterface({ input: process.stdin })) say(await answers[line.trim()]!());
process.exit(); // loaders and sessions may be open
