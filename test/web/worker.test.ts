import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import type { Browser, BrowserContext } from "playwright-core";
import sharp from "sharp";
import { train } from "../../src/api/train.ts";
import type { TrainOptions } from "../../src/api/train-options.ts";
import { web } from "../../src/api/web.ts";
import { readArtifact } from "../../src/artifact/files.ts";
import { pictureOf } from "../../src/artifact/pictures.ts";
import { epochOrders } from "../../src/data/order.ts";
import { compareFeatures } from "../../src/export/compare.ts";
import { freezeEncoder } from "../../src/export/freeze.ts";
import { metadataTexts, readEncoderMetadata } from "../../src/export/metadata.ts";
import { decodeSafetensors } from "../../src/files/safetensors.ts";
import { initialState } from "../../src/runtime/state.ts";
import { type ScalarEntry, VIEW_COLUMNS } from "../../src/spec.ts";
import { drawViews } from "../../src/train/draws.ts";
import type { Answer, Request, Settings, Squares } from "../../src/web/messages.ts";
import { temporaryFolder } from "../data/folder.ts";
import { openBrowser } from "../support/browser.ts";
import { WEB } from "../support/built.ts";
import { metricsOf } from "../support/program.ts";
import { drawnSquares, type Files, type Of, openWorked, type Worked } from "./support.ts";

const SIDE = 16;
const SETTINGS: Settings = { batch: 8, steps: 10, seed: 3 };
/** Low: with that of a run two forms of one step on Node's CPU, too, are 1e-2 apart after ten, for ReLUs turn on what rounds. */
const LR = 2e-4;
const SWIFTSHADER = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
const OPEN = { kind: "open", backend: "wasm", threads: 1 } as const;

describe("the worker of a page", () => {
  const folder = temporaryFolder();
  const images = drawnSquares(30, SIDE);
  let browser: Browser | undefined;
  let context: BrowserContext;
  let worked: Worked;
  const at = (name: string) => join(folder.path, name);
  /** Of a method, or of a run in the folder; at a learning rate of its own. */
  const page = async (method: string, run?: string, lr = LR) => {
    const out = at(`page-${method}`);
    await web(
      run === undefined ? { of: method, out, imageSize: SIDE, built: WEB } : { of: at(run), out, built: WEB },
    );
    const file = join(out, "manifest.json");
    const manifest = JSON.parse(await readFile(file, "utf8")) as { scalars: ScalarEntry[] };
    const scalars = manifest.scalars.map((entry) =>
      entry.name === "lr"
        ? { ...entry, schedule: { ...entry.schedule, from: lr }, batchScaling: "none" }
        : entry,
    );
    await writeFile(file, JSON.stringify({ ...manifest, scalars }));
    return out;
  };

  before(async function () {
    browser = await openBrowser();
    if (!browser) return this.skip();
    for (const [i, name] of images.names.entries()) {
      const pixels = images.pixels.subarray(i * SIDE * SIDE * 3, (i + 1) * SIDE * SIDE * 3);
      await folder.write(
        `images/${name}`,
        await sharp(pixels, { raw: { width: SIDE, height: SIDE, channels: 3 } })
          .png()
          .toBuffer(),
      );
    }
  });
  beforeEach(async () => {
    context = await browser!.newContext();
  });
  afterEach(async () => {
    await worked?.close();
    await context.close();
  });
  after(() => browser?.close());

  const lossesOf = (answers: readonly Answer[]) =>
    answers.flatMap((answer) => (answer.kind === "step" ? [answer.metrics.loss!] : []));

  /** Node's, of the same images in files. */
  async function nodeLosses(out: string, options: Partial<TrainOptions>) {
    const same = { encoder: "resnet20", imageSize: SIDE, ...SETTINGS, data: at("images"), lr: LR };
    await train({ ...same, ...options, out: at(out), threads: 1, guard: false });
    return (await metricsOf(at(out))).map(({ loss }) => loss!);
  }

  function expectSame(found: readonly number[], wanted: readonly number[]) {
    expect(found).to.have.length(wanted.length);
    found.forEach((loss, i) => {
      expect(loss, `step ${i + 1}`).to.be.closeTo(wanted[i]!, 1e-3);
    });
  }

  const decoded = (file: Uint8Array) => decodeSafetensors(file.subarray(0, -32), "state");
  /** What a checkpoint says of itself. */
  const metadataIn = (file: Uint8Array) =>
    JSON.parse(decoded(file).metadata.checkpoint!) as { readonly step: number };

  /** The state of the page's latest checkpoint. */
  function stateIn(files: Files) {
    const slots = Object.keys(files).filter((name) => name.startsWith("state"));
    const [latest] = slots.sort((a, b) => metadataIn(files[b]!).step - metadataIn(files[a]!).step);
    return decoded(files[latest!]!).tensors;
  }

  /** Of all images, by Node. */
  async function featuresOf(encoder: Uint8Array): Promise<Float32Array[]> {
    const session = await ort.InferenceSession.create(encoder);
    const feed = new ort.Tensor("uint8", images.pixels, [30, SIDE, SIDE, 3]);
    const { data, dims } = (await session.run({ images: feed })).features!;
    await session.release();
    const d = dims[1]!;
    return images.names.map((_, i) => (data as Float32Array).slice(i * d, (i + 1) * d));
  }

  /** Each list is of different images, by falling cosine; none that is left out is nearer. A query is its own first. */
  function expectNearest(
    rows: readonly Float32Array[],
    found: readonly (readonly number[])[],
    queries?: readonly number[],
  ) {
    const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
    const cosine = (a: Float32Array, b: Float32Array) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
    expect(found).to.have.length(queries?.length ?? found.length);
    for (const [q, nearest] of found.entries()) {
      const query = queries?.[q] ?? q;
      const to = (i: number) => cosine(rows[query]!, rows[i]!);
      const others = [...rows.keys()].filter((i) => queries === undefined || i !== query);
      const best = others.map(to).sort((a, b) => b - a);
      expect(new Set(nearest).size).to.equal(nearest.length);
      expect(others).to.include.members([...nearest]);
      nearest.forEach((i, rank) => {
        expect(to(i), `query ${query}, rank ${rank}`).to.be.closeTo(best[rank]!, 1e-4);
      });
    }
  }

  /** Those of the first step, drawn anew by Node. */
  async function expectViews({ rows, views }: Of<"views">, dir: string) {
    const { manifest } = await readArtifact(dir);
    const indices = epochOrders(30, SETTINGS.seed)(0).slice(0, 8);
    const sizes = indices.map(() => ({ height: SIDE, width: SIDE }));
    const params = drawViews(manifest, SETTINGS.seed, { indices, sizes, epoch: 0 });
    const size = SIDE * SIDE * 3;
    const seen = Buffer.concat(indices.map((i) => images.pixels.subarray(i * size, (i + 1) * size)));
    const session = await ort.InferenceSession.create(await readFile(join(dir, "views.onnx")));
    const drawn = await session.run({
      images: new ort.Tensor("uint8", seen, [8, SIDE, SIDE, 3]),
      view0: new ort.Tensor("float32", params[0]!, [8, VIEW_COLUMNS.length]),
      view1: new ort.Tensor("float32", params[1]!, [8, VIEW_COLUMNS.length]),
    });
    await session.release();
    expect([rows, views.length]).to.deep.equal([8, 2]);
    for (const [v, { size, pixels }] of views.entries()) {
      expect(size).to.equal(SIDE);
      const wanted = drawn[pictureOf(v)]!.data as Float32Array;
      expect(pixels).to.have.length(wanted.length);
      const off = pixels.reduce((most, x, i) => Math.max(most, Math.abs(x - wanted[i]!)), 0);
      expect(off, "of 255").to.be.below(1);
    }
  }

  /** Through ten steps, an export and a search: as Node's, to 1e-3 of a loss and 1e-4 of a feature. */
  async function trainsAsNode(open: Extract<Request, { kind: "open" }>, within = context) {
    const { kind: _, ...rest } = open;
    const dir = await page("simclr");
    worked = await openWorked(within, dir);
    const { last: opened } = await worked.ask(open, "opened");
    expect(opened).to.deep.include(rest);
    expect(opened.about).to.deep.include({
      method: "simclr",
      encoder: "resnet20",
      imageSize: 16,
      side: 16,
      least: 2,
    });
    expect(opened.stored).to.equal(undefined);
    const asked = worked.requests.length;
    expect(asked).to.be.above(5);

    const { all } = await worked.ask({ kind: "begin", images, settings: SETTINGS }, "paused");
    expectSame(lossesOf(all), await nodeLosses(`run-${open.backend}`, { method: "simclr" }));
    await expectViews(all.find((answer) => answer.kind === "views")!, dir);
    const before = all.find((answer) => answer.kind === "neighbours")!;
    expect(before).to.include({ when: "before", step: 0 });
    const encode = await readFile(join(dir, "encode.onnx"));
    const { manifest } = await readArtifact(dir);
    const untrained = freezeEncoder(encode, initialState(manifest, { seed: 3, images: 30 }), {});
    expectNearest(await featuresOf(untrained), before.found.nearest, before.found.queries);

    const { last: encoder } = await worked.ask({ kind: "export" }, "encoder");
    expect(encoder.maxRelative).to.be.below(1e-4);
    const state = stateIn(await worked.stored());
    const metadata = readEncoderMetadata(encoder.bytes, "encoder.onnx");
    expect(metadata).to.include({ method: "simclr", steps: 10, images: 30, seed: 3 });
    const frozen = freezeEncoder(encode, state, metadataTexts(metadata));
    expect(Buffer.from(encoder.bytes).equals(frozen), "the file that Node freezes").to.equal(true);

    const three: Squares = {
      ...images,
      pixels: images.pixels.slice(0, 3 * SIDE * SIDE * 3),
      names: ["a", "b", "c"],
    };
    const { last: found } = await worked.ask({ kind: "find", images: three, count: 4 }, "found");
    const rows = await featuresOf(encoder.bytes);
    found.features.forEach((row, i) => {
      expect(compareFeatures(rows[i]!, row, row.length).maxRelative).to.be.below(1e-4);
    });
    expectNearest(rows, found.nearest.nearest);
    for (const [i, nearest] of found.nearest.nearest.entries())
      expect([nearest.length, nearest[0]], "four, the first itself").to.deep.equal([4, i]);
    expect(worked.requests.slice(asked)).to.deep.equal([]);
  }

  it("trains as Node does, exports the same file, finds with it, and asks for nothing once it is open", () =>
    trainsAsNode(OPEN));

  it("does so on WebGPU, which it takes of its own only on a GPU", async function () {
    const icd = process.env.ORT_PRETRAIN_VULKAN_ICD;
    if (icd === undefined) {
      console.error(
        "WebGPU's test of a page did not run: it takes minutes; ORT_PRETRAIN_VULKAN_ICD asks for it",
      );
      return this.skip();
    }
    this.timeout(3_600_000);
    const software = await openBrowser(SWIFTSHADER);
    const context = await software!.newContext();
    try {
      const worked = await openWorked(context, await page("simclr"));
      const { last } = await worked.ask({ kind: "open" }, "opened");
      expect(last).to.include({
        backend: "wasm",
        note: "WebGPU has no GPU here, only software: WebAssembly is faster",
      });
      await worked.close();
      await trainsAsNode({ kind: "open", backend: "webgpu", threads: 1 }, context);
    } finally {
      await software!.close();
    }
  });

  it("comes to a lower loss", async () => {
    worked = await openWorked(context, await page("simclr", undefined, 0.01));
    await worked.ask(OPEN, "opened");
    const { all } = await worked.ask(
      { kind: "begin", images, settings: { ...SETTINGS, batch: 15, steps: 60 } },
      "paused",
    );
    const losses = lossesOf(all);
    const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    expect(mean(losses.slice(-10))).to.be.below(mean(losses.slice(0, 10)) - 0.1);
  });

  it("goes on after a reload as if there had been none, and what it stored lasts", async () => {
    worked = await openWorked(context, await page("simclr"));
    await worked.ask(OPEN, "opened");
    await worked.ask({ kind: "begin", images, settings: SETTINGS }, "paused");
    const { last: whole } = await worked.ask({ kind: "export" }, "encoder");
    const files = await worked.stored();

    await worked.ask({ kind: "begin", images, settings: SETTINGS }, "step");
    const { last: paused } = await worked.ask({ kind: "pause" }, "paused");
    expect(paused.step).to.be.within(1, 9);
    expect(paused.done).to.equal(false);
    await worked.load();
    const { last: opened } = await worked.ask(OPEN, "opened");
    expect(opened.stored).to.deep.equal({ step: paused.step, steps: 10, images: 30, batch: 8 });
    const { all } = await worked.ask({ kind: "resume" }, "paused");
    const again = all.find((answer) => answer.kind === "images")!.images;
    expect(again).to.deep.equal(images);
    expect(lossesOf(all)).to.have.length(10 - paused.step);
    const { last: resumed } = await worked.ask({ kind: "export" }, "encoder");
    expect(Buffer.from(resumed.bytes).equals(whole.bytes), "the encoder").to.equal(true);
    const [state, same] = [stateIn(await worked.stored()), stateIn(files)];
    expect([...state.keys()]).to.deep.equal([...same.keys()]);
    for (const [name, { data }] of state) expect(data, name).to.deep.equal(same.get(name)!.data);

    const { last: second } = await (await worked.twin()).ask(OPEN, "failed");
    expect(second.message).to.match(
      /^storage: expected one tab with this page, found another one open; training runs/,
    );

    await worked.ask({ kind: "forget" }, "forgotten");
    expect(Object.keys(await worked.stored())).to.deep.equal([]);
  });

  it("falls back on the checkpoint before one that was cut off, and starts anew where both are damaged or strange", async () => {
    worked = await openWorked(context, await page("simclr"));
    await worked.ask(OPEN, "opened");
    const begin = { kind: "begin", images, settings: { ...SETTINGS, batch: 100, steps: 2 } } as const;
    await worked.ask(begin, "paused");
    const files = await worked.stored();
    const slots = Object.keys(files).filter((name) => name.startsWith("state"));
    expect(slots).to.have.length(2);
    const older = slots.find((name) => metadataIn(files[name]!).step === 0)!;
    const latest = slots.find((name) => name !== older)!;
    expect(metadataIn(files[latest]!).step).to.equal(2);
    await worked.store(latest, files[latest]!.slice(0, -100)); // as a reload in the middle leaves it
    await worked.load();
    const { last: opened } = await worked.ask(OPEN, "opened");
    expect(opened.stored).to.deep.equal({ step: 0, steps: 2, images: 30, batch: 30 }); // no more than there are

    const flipped = files[latest]!.map((byte, i) => (i === 5000 ? byte ^ 1 : byte));
    const strange = Buffer.concat([Buffer.from("{}"), createHash("sha256").update("{}").digest()]);
    for (const [bytes, says] of [
      [flipped, /^storage: expected a checkpoint, found a damaged one; start anew$/],
      [Uint8Array.from(strange), /^state-.\.safetensors: expected a safetensors file, found 2 bytes$/],
    ] as const) {
      for (const name of slots) await worked.store(name, bytes);
      await worked.load();
      expect((await worked.ask(OPEN, "failed")).last.message).to.match(says);
      expect((await worked.ask(undefined, "opened")).last.stored).to.equal(undefined);
      const { last } = await worked.ask(begin, "paused");
      expect(last).to.deep.equal({ kind: "paused", step: 2, done: true });
    }
  });

  it("trains a run's encoder on, with the rows of a memory bank", async () => {
    const method = { method: "instance-discrimination", config: { negatives: 8 } };
    await nodeLosses("first", { ...method, steps: 2, lr: 0.05 });
    worked = await openWorked(context, await page(method.method, "first"));
    const { last } = await worked.ask(OPEN, "opened");
    expect(last.about).to.deep.include({ run: "first", least: 2 });
    const { all } = await worked.ask({ kind: "begin", images, settings: SETTINGS }, "paused");
    expectSame(lossesOf(all), await nodeLosses("second", { ...method, init: at("first") }));
  });

  it("says in one line why it has one thread, and what it cannot train on", async () => {
    worked = await openWorked(context, await page("simclr"), {});
    const { last } = await worked.ask({ kind: "open" }, "opened");
    expect(last).to.include({ backend: "wasm", threads: 1 });
    expect(last.note).to.match(
      availableParallelism() > 1
        ? /WebGPU.*; one thread of \d+: .*Cross-Origin-Opener-Policy: same-origin.*Embedder/
        : /WebGPU/,
    );
    const begin = async (images: Squares, batch = 8) =>
      (await worked.ask({ kind: "begin", images, settings: { ...SETTINGS, batch } }, "failed")).last.message;
    expect(await begin(drawnSquares(1, SIDE))).to.match(/expected 2 or more, found 1/);
    expect(await begin(drawnSquares(4, 8))).to.equal("images: expected squares of 16 pixels, found 8");
    expect(await begin({ ...drawnSquares(1, SIDE), names: Array(20_001).fill("a") })).to.equal(
      "images: expected at most 20000, found 20001; choose fewer",
    );
    expect((await worked.ask({ kind: "export" }, "failed")).last.message).to.match(
      /^export: expected a training/,
    );
  });
});
