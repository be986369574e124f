import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import type { Browser, BrowserContext } from "playwright-core";
import sharp from "sharp";
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
  const page = async (method: string, config?: Record<string, number>) => {
    const out = at(`page-${method}`);
    await web({ of: method, out, imageSize: SIDE, built: WEB, ...(config && { config }) });
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
  async function nodeLosses(method: string, config?: Record<string, number>) {
    const out = at(`run-${method}`);
    const same = { method, encoder: "resnet20", imageSize: SIDE, ...SETTINGS, ...(config && { config }) };
    await train({ ...same, data: at("images"), out, threads: 1, guard: false, lr: LR });
    return (await metricsOf(out)).map(({ loss }) => loss!);
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
    expectSame(lossesOf(all), await nodeLosses("simclr"));
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
});
