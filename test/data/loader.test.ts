import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { assemble } from "../../src/data/canvas.ts";
import { type Batch, type LoaderOptions, openLoader } from "../../src/data/loader.ts";
import { findImages, type Sources } from "../../src/data/sources.ts";
import { UserError } from "../../src/errors.ts";
import { randomFor } from "../../src/random.ts";
import { failure, plain, temporaryFolder } from "./folder.ts";

describe("data/loader", () => {
  const folder = temporaryFolder();
  const unheard: unknown[] = [];
  const hear = (reason: unknown) => unheard.push(reason);
  let sources: Sources; // 11 images of different sizes, image i has red = 20 * i
  let flawed: Sources; // the same with images 2, 5 and 6 broken

  const name = (i: number) => `${String(i).padStart(2, "0")}.png`;
  before(async () => {
    process.on("unhandledRejection", hear);
    for (let i = 0; i < 11; i++) {
      const image = await plain(4 + i, 9 - (i % 4), { r: 20 * i, g: 7, b: 9 })
        .png()
        .toBuffer();
      await folder.write(`good/${name(i)}`, image);
      await folder.write(`flawed/${name(i)}`, [2, 5, 6].includes(i) ? image.subarray(0, 60) : image);
    }
    sources = await findImages(`${folder.path}/good`);
    flawed = await findImages(`${folder.path}/flawed`);
  });
  after(() => {
    process.off("unhandledRejection", hear);
    expect(unheard).to.deep.equal([]);
  });

  const defaults: LoaderOptions = {
    batch: 4,
    seed: 1,
    shorterSide: 64,
    cacheBytes: 1e9,
    warn: (line) => {
      throw new Error(`unexpected warning: ${line}`);
    },
  };
  async function take(from: Sources, count: number, options: Partial<LoaderOptions> = {}): Promise<Batch[]> {
    const loader = openLoader(from, { ...defaults, ...options });
    const batches: Batch[] = [];
    for (let i = 0; i < count; i++) batches.push(await loader.next());
    await loader.close();
    return batches;
  }

  it("gives each epoch's images in its own order", async () => {
    const batches = await take(sources, 5);
    expect(batches.map(({ epoch, step }) => [epoch, step])).to.deep.equal([
      [0, 0],
      [0, 1],
      [1, 2],
      [1, 3],
      [2, 4],
    ]);
    const order = (epoch: number) => randomFor(1, "epoch", epoch).shuffled(sources.files.map((_, i) => i));
    expect(batches[0]!.indices).to.deep.equal(order(0).slice(0, 4));
    expect(batches[1]!.indices).to.deep.equal(order(0).slice(4, 8));
    expect(batches[2]!.indices).to.deep.equal(order(1).slice(0, 4));
  });

  it("lays each image in the top left corner of a canvas that fits the largest", async () => {
    const [batch] = await take(sources, 1);
    const { images, height, width, sizes, indices } = batch!;
    expect(sizes).to.deep.equal(indices.map((i) => ({ height: 9 - (i % 4), width: 4 + i })));
    expect([height, width]).to.deep.equal([
      Math.max(...sizes.map((size) => size.height)),
      Math.max(...sizes.map((size) => size.width)),
    ]);
    const naive: number[] = [];
    for (const [n, i] of indices.entries()) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const inside = y < sizes[n]!.height && x < sizes[n]!.width;
          naive.push(...(inside ? [20 * i, 7, 9] : [0, 0, 0]));
        }
      }
    }
    expect([...images]).to.deep.equal(naive);
  });

  it("starts anywhere with the batch of that step", async () => {
    const all = await take(sources, 9);
    for (const startStep of [0, 1, 4, 7]) {
      const rest = await take(sources, 9 - startStep, { startStep });
      expect(rest).to.deep.equal(all.slice(startStep));
    }
  });

  it("prepares no batch for steps after the run's last", async () => {
    const second = randomFor(1, "epoch", 0)
      .shuffled(Array.from({ length: 11 }, (_, i) => i))
      .slice(4, 8);
    for (const [i, file] of sources.files.entries()) {
      const bytes = await readFile(join(sources.root, file));
      await folder.write(`later/${name(i)}`, second.includes(i) ? bytes.subarray(0, 60) : bytes);
    }
    const later = await findImages(`${folder.path}/later`);
    const warningsOf = async (steps: number) => {
      const warnings: string[] = [];
      const loader = openLoader(later, { ...defaults, warn: (line) => warnings.push(line), steps });
      for (let step = 0; step < steps; step++) await loader.next();
      expect(await failure(loader.next())).to.equal(`the run ends after ${steps} steps`);
      await loader.close();
      return warnings.length;
    };
    expect([await warningsOf(1), await warningsOf(2)]).to.deep.equal([0, 4]);
  });

  it("gives the same batches with any cache, concurrency and number of batches ahead", async () => {
    const all = await take(sources, 7);
    for (const options of [
      { cacheBytes: 0 },
      { cacheBytes: 500, concurrency: 1 },
      { ahead: 0 },
      { ahead: 5 },
    ]) {
      expect(await take(sources, 7, options)).to.deep.equal(all);
    }
  });

  it("gives other batches with another seed", async () => {
    const [a] = await take(sources, 1);
    const [b] = await take(sources, 1, { seed: 2 });
    expect(a!.indices).to.not.deep.equal(b!.indices);
  });

  it("takes calls that do not wait for each other", async () => {
    const loader = openLoader(sources, defaults);
    const batches = await Promise.all([loader.next(), loader.next(), loader.next()]);
    await loader.close();
    expect(batches).to.deep.equal(await take(sources, 3));
  });

  describe("broken images", () => {
    it("cost one warning each and are replaced by what follows the batch", async () => {
      const warnings: string[] = [];
      const loader = openLoader(flawed, { ...defaults, cacheBytes: 0, warn: (line) => warnings.push(line) });
      for (let step = 0; step < 12; step++) {
        const { indices, epoch, sizes } = await loader.next();
        const order = randomFor(1, "epoch", epoch).shuffled(flawed.files.map((_, i) => i));
        const first = (step % 2) * 4;
        const spare = [...order.slice(first + 4), ...order.slice(0, first)].filter(
          (i) => ![2, 5, 6].includes(i),
        );
        const wanted = order.slice(first, first + 4).map((i) => ([2, 5, 6].includes(i) ? spare.shift()! : i));
        expect(indices).to.deep.equal(wanted);
        expect(sizes.map((size) => size.width)).to.deep.equal(wanted.map((i) => 4 + i));
      }
      await loader.close();
      const paths = [2, 5, 6].map((i) => `${folder.path}/flawed/${name(i)}`);
      expect([...loader.broken].sort()).to.deep.equal(paths);
      expect(warnings.map((line) => line.slice(0, line.indexOf(":"))).sort()).to.deep.equal(paths);
      for (const line of warnings) expect(line).to.match(/found [^\n]+; another image takes its place$/);
    });

    it("leave the batch of a step the same whatever is known of them", async () => {
      const warn = () => {};
      const all = await take(flawed, 8, { warn });
      for (const startStep of [1, 3, 6]) {
        expect(await take(flawed, 8 - startStep, { warn, startStep, cacheBytes: 0 })).to.deep.equal(
          all.slice(startStep),
        );
      }
    });

    it("leave a batch full even if fewer good images than that are left", async () => {
      const files = flawed.files.slice(4, 8); // 5 and 6 broken
      const batches = await take({ ...flawed, files }, 3, { warn: () => {} });
      for (const { indices } of batches) {
        expect(indices).to.have.length(4);
        expect(new Set(indices)).to.deep.equal(new Set([0, 3]));
      }
    });

    it("are an error if there are no others", async () => {
      const files = [2, 5, 6].map(name);
      const warnings: string[] = [];
      const warn = (line: string) => warnings.push(line);
      const loader = openLoader({ ...flawed, files }, { ...defaults, batch: 2, warn });
      for (let i = 0; i < 3; i++) {
        const error = await loader.next().catch((error) => error);
        expect(error).to.be.instanceOf(UserError);
        expect(error.message).to.equal(
          `${folder.path}/flawed: expected an image that can be decoded, found none among 3; the warnings say why`,
        );
      }
      await loader.close();
      expect(warnings).to.have.length(3);
    });
  });

  it("says that a batch is larger than the number of images", () => {
    expect(() => openLoader(sources, { ...defaults, batch: 12 })).to.throw(
      UserError,
      `batch: expected at most the number of images (11 in ${folder.path}/good), found 12; use a smaller batch or more images`,
    );
    expect(() => openLoader(sources, { ...defaults, batch: 0 })).to.throw(
      UserError,
      "batch: expected a whole number from 1, found 0",
    );
  });

  it("closes while it is at work, and then gives no more", async () => {
    const loader = openLoader(sources, { ...defaults, concurrency: 1 });
    const pending = loader.next().catch((error: Error) => error.message);
    await loader.close();
    expect(await pending).to.equal("the loader is closed");
    expect(await failure(loader.next())).to.equal("the loader is closed");
    await loader.close();
  });

  it("closes without being used, and when prefetched batches fail", async () => {
    await openLoader(sources, defaults).close();
    const loader = openLoader({ ...flawed, files: [name(2)] }, { ...defaults, batch: 1, warn: () => {} });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await loader.close();
  });

  it("gives canvases of the size asked for, where it is large enough", async () => {
    const [batch] = await take(sources, 1, { canvas: 20 });
    expect([batch!.height, batch!.width]).to.deep.equal([20, 20]);
    const [own] = await take(sources, 1);
    const row = (canvas: Batch, y: number) =>
      canvas.images.subarray(y * canvas.width * 3, (y * canvas.width + own!.width) * 3);
    for (let y = 0; y < own!.height; y++) expect(row(batch!, y)).to.deep.equal(row(own!, y));
    const [large] = await take(sources, 1, { canvas: 5 });
    expect(large!.images).to.deep.equal(own!.images);
  });

  it("assembles images of the same size without a gap", () => {
    const image = (value: number) => ({ width: 2, height: 1, pixels: new Uint8Array(6).fill(value) });
    const { images, height, width } = assemble([image(1), image(2)]);
    expect([height, width]).to.deep.equal([1, 2]);
    expect([...images]).to.deep.equal([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
  });
});
