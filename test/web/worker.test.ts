import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import type { Browser, BrowserContext } from "playwright-core";
import sharp from "sharp";
import type { TrainOptions } from "../../src/api/create.ts";
import { train } from "../../src/api/train.ts";
import { web } from "../../src/api/web.ts";
import { compareFeatures } from "../../src/export/compare.ts";
import { freezeEncoder } from "../../src/export/freeze.ts";
import { metadataTexts, readEncoderMetadata } from "../../src/export/metadata.ts";
import { decodeSafetensors } from "../../src/files/safetensors.ts";
import type { ScalarEntry } from "../../src/spec.ts";
import type { Answer, Settings, Squares } from "../../src/web/messages.ts";
import { temporaryFolder } from "../data/folder.ts";
import { openBrowser } from "../support/browser.ts";
import { WEB } from "../support/built.ts";
import { metricsOf } from "../support/program.ts";
import { noisySquares, openWorked, type Worked } from "./support.ts";

const SIDE = 16;
const SETTINGS: Settings = { batch: 8, steps: 10, seed: 3 };
/** Low: with that of a run two forms of one step on Node's CPU, too, are 1e-2 apart after ten, for ReLUs turn on what rounds. */
const LR = 2e-4;
const OPEN = { kind: "open", backend: "wasm", threads: 1 } as const;

describe("the worker of a page", () => {
  const folder = temporaryFolder();
  const images = noisySquares(30, SIDE);
  let browser: Browser | undefined;
  let context: BrowserContext;
  let worked: Worked;
  const at = (name: string) => join(folder.path, name);
  /** Of a method, or of a run in the folder. */
  const page = async (method: string, run?: string) => {
    const out = at(`page-${method}`);
    await web(
      run === undefined ? { of: method, out, imageSize: SIDE, built: WEB } : { of: at(run), out, built: WEB },
    );
    const file = join(out, "manifest.json");
    const manifest = JSON.parse(await readFile(file, "utf8")) as { scalars: ScalarEntry[] };
    const scalars = manifest.scalars.map((entry) =>
      entry.name === "lr"
        ? { ...entry, schedule: { ...entry.schedule, from: LR }, batchScaling: "none" }
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

  /** The state of the page's latest checkpoint. */
  function stateIn(files: Record<string, Uint8Array>) {
    const slots = Object.entries(files).filter(([name]) => name.startsWith("state"));
    const read = slots.map(([name, bytes]) => decodeSafetensors(bytes.subarray(0, -32), name));
    const stepOf = ({ metadata }: (typeof read)[number]) => JSON.parse(metadata.checkpoint!).step;
    return read.sort((a, b) => stepOf(b) - stepOf(a))[0]!.tensors;
  }

  it("trains as Node does, exports the same file, finds with it, and asks for nothing once it is open", async () => {
    const dir = await page("simclr");
    worked = await openWorked(context, dir);
    const { last: opened } = await worked.ask(OPEN, "opened");
    expect(opened).to.deep.include({ backend: "wasm", threads: 1 });
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
    expectSame(lossesOf(all), await nodeLosses("run", { method: "simclr" }));
    const views = all.find((answer) => answer.kind === "views")!;
    expect(views.views.map(({ size, pixels }) => [size, pixels.length])).to.deep.equal(
      Array(2).fill([SIDE, 8 * SIDE * SIDE * 3]),
    );
    const before = all.find((answer) => answer.kind === "neighbours")!;
    expect(before.found.queries).to.have.length(12);

    const { last: encoder } = await worked.ask({ kind: "export" }, "encoder");
    expect(encoder.maxRelative).to.be.below(1e-4);
    const state = stateIn(await worked.stored());
    const metadata = readEncoderMetadata(encoder.bytes, "encoder.onnx");
    expect(metadata).to.include({ method: "simclr", steps: 10, images: 30, seed: 3 });
    const encode = await readFile(join(dir, "encode.onnx"));
    const frozen = freezeEncoder(encode, state, metadataTexts(metadata));
    expect(Buffer.from(encoder.bytes).equals(frozen), "the file that Node freezes").to.equal(true);

    const three: Squares = {
      ...images,
      pixels: images.pixels.slice(0, 3 * SIDE * SIDE * 3),
      names: ["a", "b", "c"],
    };
    const { last: found } = await worked.ask({ kind: "find", images: three, count: 4 }, "found");
    const session = await ort.InferenceSession.create(encoder.bytes);
    const all30 = new ort.Tensor("uint8", images.pixels, [30, SIDE, SIDE, 3]);
    const features = (await session.run({ images: all30 })).features!.data as Float32Array;
    const d = metadata.features;
    found.features.forEach((row, i) => {
      expect(compareFeatures(features.slice(i * d, (i + 1) * d), row, d).maxRelative).to.be.below(1e-4);
    });
    found.nearest.nearest.forEach((nearest, i) => {
      expect(nearest).to.have.length(4);
      expect(nearest[0], "of an image trained on, itself").to.equal(i);
    });
    expect(worked.requests.slice(asked)).to.deep.equal([]);
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

    await worked.ask({ kind: "forget" }, "forgotten");
    expect(Object.keys(await worked.stored())).to.deep.equal([]);
  });

  it("falls back on the checkpoint before a damaged one, and starts anew where both are damaged", async () => {
    worked = await openWorked(context, await page("simclr"));
    await worked.ask(OPEN, "opened");
    await worked.ask({ kind: "begin", images, settings: { ...SETTINGS, steps: 2 } }, "paused");
    const files = await worked.stored();
    const slots = Object.keys(files).filter((name) => name.startsWith("state"));
    expect(slots).to.have.length(2);
    const stepOf = (name: string) =>
      Number(/"step\\\\?":(\d+)/.exec(Buffer.from(files[name]!).toString("latin1"))?.[1]);
    const latest = slots.find((name) => stepOf(name) === 2)!;
    await worked.store(latest, files[latest]!.slice(0, -100)); // cut off, as a reload in the middle leaves it
    await worked.load();
    expect((await worked.ask(OPEN, "opened")).last.stored?.step).to.equal(0);
    for (const name of slots)
      await worked.store(
        name,
        Uint8Array.from(files[name]!, (byte, i) => (i === 5000 ? byte ^ 1 : byte)),
      );
    await worked.load();
    const { last } = await worked.ask(OPEN, "failed");
    expect(last.message).to.equal("storage: expected a checkpoint, found a damaged one; start anew");
    expect((await worked.ask(undefined, "opened")).last.stored).to.equal(undefined);
    const { last: done } = await worked.ask(
      { kind: "begin", images, settings: { ...SETTINGS, steps: 1 } },
      "paused",
    );
    expect(done).to.deep.equal({ kind: "paused", step: 1, done: true });
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
      /WebGPU.*; one thread of \d+: .*Cross-Origin-Opener-Policy: same-origin.*Embedder/,
    );
    const begin = async (images: Squares, batch = 8) =>
      (await worked.ask({ kind: "begin", images, settings: { ...SETTINGS, batch } }, "failed")).last.message;
    expect(await begin(noisySquares(1, SIDE))).to.match(/expected 2 or more, found 1/);
    expect(await begin(noisySquares(4, 8))).to.equal("images: expected squares of 16 pixels, found 8");
    expect(await begin({ ...noisySquares(1, SIDE), names: Array(20_001).fill("a") })).to.equal(
      "images: expected at most 20000, found 20001; choose fewer",
    );
    expect((await worked.ask({ kind: "export" }, "failed")).last.message).to.match(
      /^export: expected a training/,
    );
  });
});
