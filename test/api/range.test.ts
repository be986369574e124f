import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import sharp from "sharp";
import { openEncoder } from "../../src/api/encoder.ts";
import { probe } from "../../src/api/probe.ts";
import { train } from "../../src/api/train.ts";
import type { TrainOptions } from "../../src/api/train-options.ts";
import { findImages } from "../../src/data/sources.ts";
import { randomFor } from "../../src/random.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { tinyArtifact } from "../support/pictures.ts";

/** What the encoder takes, so that nothing is scaled. */
const SIDE = 16;

/** The same images with 8 bits and with 12 of 16: a value of 12 bits lies amid those that become the one of 8. */
describe("api: the range of values", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const range = [0, 4095] as const;

  async function write(root: string, depth: 8 | 12) {
    for (const name of ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"]) {
      const random = randomFor("values", name);
      const bytes = Uint8Array.from({ length: SIDE * SIDE * 3 }, () => random.uniform(0, 256));
      const raw = { width: SIDE, height: SIDE, channels: 3 } as const;
      const image =
        depth === 8
          ? sharp(bytes, { raw })
          : sharp(
              Uint16Array.from(bytes, (value) => 16 * value + 8),
              { raw },
            ).toColourspace("rgb16");
      await mkdir(join(at(root), name[0]!), { recursive: true });
      await writeFile(join(at(root), `${name}.png`), await image.png().toBuffer());
    }
  }

  /** What `work` returns, and its warnings. */
  async function heard<T>(work: (output: { stream: PassThrough; quiet: boolean }) => Promise<T>) {
    const stream = new PassThrough();
    const result = await work({ stream, quiet: true });
    const said = String(stream.read() ?? "");
    return { result, warnings: said.split("\n").filter((line) => line.startsWith("warning: ")) };
  }
  const options = (data: string, more: Partial<TrainOptions> = {}): TrainOptions => ({
    ...{ data: at(data), out: at(`run-${data}`), graph: at("graph"), batch: 4, steps: 2, threads: 1 },
    ...{ knnData: at(data), ...more },
  });
  const config = async (run: string) => JSON.parse(await readFile(at(`${run}/config.json`), "utf8"));
  const metrics = async (run: string) =>
    (await readFile(at(`${run}/metrics.jsonl`), "utf8")).split("\n").flatMap((line) => {
      if (!line) return [];
      const { loss, knn } = JSON.parse(line);
      return [{ loss, knn }];
    });

  before(async () => {
    await tinyArtifact(at("graph"));
    await write("eight", 8);
    await write("twelve", 12);
  });

  it("makes images of 12 bits train, and be looked at by kNN, as those of 8", async () => {
    const eight = await heard((output) => train(options("eight"), { output }));
    const twelve = await heard((output) => train(options("twelve", { range }), { output }));
    expect([eight.warnings, twelve.warnings]).to.deep.equal([[], []]);
    expect(await metrics("run-twelve")).to.deep.equal(await metrics("run-eight"));
    expect(twelve.result.loss).to.equal(eight.result.loss);
    expect(await config("run-twelve")).to.deep.include({ range: [0, 4095] });
    expect(await config("run-eight")).to.not.have.property("range");
  });

  it("is kept by --resume and refused if it is another", async () => {
    const again = (more: Partial<TrainOptions>) =>
      train({ out: at("run-twelve"), resume: true, threads: 1, ...more });
    expect(await failure(again({ range: [0, 1000] }))).to.equal(
      "--range: expected [0,4095], as the run began, found [0,1000]; leave it out, or train anew with another --out",
    );
    expect((await again({ range })).steps).to.equal(2);
    expect((await again({})).steps).to.equal(2);
  });

  it("goes with the encoder: its probes and features read images alike", async () => {
    const encoder = await openEncoder(at("run-twelve"), { threads: 1 });
    expect(encoder.metadata.range).to.deep.equal([0, 4095]);
    const embed = async (data: string, own?: readonly [number, number]) => {
      const sources = await findImages(at(data), { range: own });
      const { result, warnings } = await heard((output) => encoder.embed(sources, { output }));
      return { features: result.features.data, warnings };
    };
    const eight = await embed("eight");
    expect(await embed("twelve")).to.deep.equal(eight);
    expect((await embed("twelve", [0, 65535])).features).to.not.deep.equal(eight.features);
    await encoder.close();
    const asked = {
      encoder: at("run-twelve"),
      kind: "knn",
      train: at("twelve"),
      test: at("eight"),
      k: 1,
      threads: 1,
    } as const;
    expect((await probe(asked)).top1).to.equal(100); // each image finds itself
  });

  it("missing, is asked for once for a folder", async () => {
    const { warnings } = await heard((output) =>
      train(options("twelve", { out: at("dark"), knnData: undefined, steps: 3 }), { output }),
    );
    expect(warnings).to.have.length(1);
    expect(warnings[0]).to.match(
      /twelve\/[ab]\/\d\.png: 16-bit values end at 40\d\d, .* give --range 0,4095 \(said once/,
    );
  });
});
