/** Items through the loader, the draws and the graph of the views: what a step sees of them. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import sharp from "sharp";
import { findItems } from "../../src/api/positives.ts";
import { cropsAndFlips } from "../../src/api/views.ts";
import { pictureOf, picturesGraph } from "../../src/artifact/pictures.ts";
import type { Sources } from "../../src/data/sources.ts";
import { openSession } from "../../src/runtime/session.ts";
import { type Manifest, VIEW_COLUMNS } from "../../src/spec.ts";
import { type Fed, type FeedOptions, openFeed } from "../../src/train/feed.ts";
import { openFeedBeside } from "../../src/train/feed-beside.ts";
import { failure, plain, temporaryFolder } from "../data/folder.ts";
import { clips } from "../support/pictures.ts";

/** Two views, and two small ones after them. */
const recipes = [32, 32, 96, 96].map(
  (size) => ({ ...cropsAndFlips(size), crop: { scale: [0.3, 1], ratio: [0.5, 2] } }) as const,
);
const manifest = {
  views: recipes.map((recipe, i) => ({ input: `view${i}`, recipe })),
  permutations: [],
  state: [],
} as unknown as Manifest;

describe("train: items", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const options: FeedOptions = {
    manifest,
    batch: 3,
    seed: 2,
    shorterSide: 40,
    cacheBytes: 1e9,
    warn: (line) => {
      throw new Error(`unexpected warning: ${line}`);
    },
  };

  async function take(sources: Sources, count: number, more: Partial<FeedOptions> = {}): Promise<Fed[]> {
    const feed = openFeed(sources, { ...options, ...more });
    const all: Fed[] = [];
    for (let i = 0; i < count; i++) all.push(await feed.next());
    await feed.close();
    return all;
  }

  /** For each view and item the greatest value of each channel, 0 to 255. */
  async function greatest({ images, height, width, views, indices }: Fed): Promise<number[][][]> {
    const n = indices.length;
    const session = await openSession(picturesGraph(recipes), "views", { threads: 1, asWritten: true });
    const drawn = await session.run({
      images: new ort.Tensor("uint8", images, [n, height, width, 3]),
      ...Object.fromEntries(
        views.map((rows, v) => [`view${v}`, new ort.Tensor("float32", rows, [n, VIEW_COLUMNS.length])]),
      ),
    });
    await session.close();
    return recipes.map(({ size }, v) => {
      const data = drawn[pictureOf(v)]!.data as Float32Array;
      return indices.map((_, i) =>
        [0, 1, 2].map((c) => {
          let most = 0;
          for (let p = 0; p < size * size; p++) most = Math.max(most, data[(i * size * size + p) * 3 + c]!);
          return Math.round(most);
        }),
      );
    });
  }

  it("sees of each view one image of the pair, the two in turn, and nothing of the other", async () => {
    const lines: string[] = [];
    for (const i of [0, 1, 2]) {
      await folder.write(
        `pairs/${i}r.png`,
        await plain(30 + 9 * i, 44, { r: 90 + i, g: 0, b: 0 })
          .png()
          .toBuffer(),
      );
      await folder.write(
        `pairs/${i}b.png`,
        await plain(51, 21 + 8 * i, { r: 0, g: 0, b: 90 + i })
          .png()
          .toBuffer(),
      );
      lines.push(`${i}b.png,${i}r.png`);
    }
    const file = await folder.write("pairs.csv", lines.join("\n"));
    const { sources } = await findItems(at("pairs"), { kind: "pairs", file }, {});
    const firsts = new Set<boolean>();
    for (const fed of await take(sources, 4)) {
      const views = await greatest(fed);
      fed.indices.forEach((item, i) => {
        const colors = views.map((view) => view[i]);
        const [red, blue] = [
          [90 + item, 0, 0],
          [0, 0, 90 + item],
        ];
        const first = colors[0]![0]! > 0;
        firsts.add(first);
        expect(colors).to.deep.equal(first ? [red, blue, red, blue] : [blue, red, blue, red]);
      });
    }
    expect(firsts.size).to.equal(2);

    // A pair's order, and that of lines, does not matter to a byte.
    const turned = await folder.write(
      "turned.csv",
      ["2r.png,2b.png", "0r.png,0b.png", "1b.png,1r.png"].join("\n"),
    );
    const again = await findItems(at("pairs"), { kind: "pairs", file: turned }, {});
    expect(await take(again.sources, 4)).to.deep.equal(await take(sources, 4));
  });

  it("never sees of a track what lies beyond its box and margin", async () => {
    const [width, height] = [64, 48];
    const boxes = ["image,track,x,y,width,height"];
    for (let i = 0; i < 6; i++) {
      // Red in the box, green in its margin, blue beyond.
      const box = { left: 8 + 5 * i, top: 10 + i, width: 16, height: 12 };
      const pixels = new Uint8Array(width * height * 3);
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++) {
          const outside = Math.max(
            (Math.abs(x + 0.5 - box.left - box.width / 2) - box.width / 2) / box.width,
            (Math.abs(y + 0.5 - box.top - box.height / 2) - box.height / 2) / box.height,
          );
          pixels[3 * (y * width + x) + (outside < 0 ? 0 : outside < 0.25 ? 1 : 2)] = 200;
        }
      await mkdir(at("tracks"), { recursive: true });
      await sharp(pixels, { raw: { width, height, channels: 3 } }).toFile(at(`tracks/${i}.png`));
      for (const track of [1, 2, 3])
        boxes.push(`${i}.png,${track},${box.left},${box.top},${box.width},${box.height}`);
    }
    const file = await folder.write("tracks.csv", boxes.join("\n"));
    for (const margin of [0, 0.25]) {
      const { sources } = await findItems(at("tracks"), { kind: "tracks", file, margin, window: null }, {});
      for (const fed of await take(sources, 6)) {
        const seen = (await greatest(fed)).flat();
        expect(seen.every(([red]) => red! > 0)).to.equal(true);
        expect(seen.some(([, green]) => green! > 0)).to.equal(margin > 0);
        expect(seen.some(([, , blue]) => blue! > 0)).to.equal(false);
      }
    }
  });

  it("gives the same with any cache, from any step and on another thread", async () => {
    const { sources } = await findItems(
      await clips(at("clips")),
      { kind: "frames", window: "2", far: "4" },
      {},
    );
    const all = await take(sources, 9);
    expect(await take(sources, 9, { cacheBytes: 0 })).to.deep.equal(all);
    expect(await take(sources, 5, { startStep: 4, cacheBytes: 5000 })).to.deep.equal(all.slice(4));
    const beside = await openFeedBeside(sources, { ...options, steps: 9 });
    const found: Fed[] = [];
    for (let i = 0; i < 9; i++) found.push(await beside.next());
    await beside.close();
    expect(found).to.deep.equal(all);
    expect(new Set(all.flatMap(({ indices }) => indices)).size).to.be.above(9);
  });

  it("puts another item in the place of one that cannot be decoded, but none twice into a batch", async () => {
    await mkdir(at("flawed"), { recursive: true });
    const lines: string[] = [];
    for (let i = 0; i < 4; i++) {
      for (const name of [`${i}a.png`, `${i}b.png`])
        await folder.write(`flawed/${name}`, await plain(9, 9, { r: i, g: 9, b: 9 }).png().toBuffer());
      lines.push(`${i}a.png,${i}b.png`);
    }
    await writeFile(at("flawed/2b.png"), "no image");
    const file = await folder.write("flawed.csv", lines.join("\n"));
    const { sources } = await findItems(at("flawed"), { kind: "pairs", file }, {});
    const warnings: string[] = [];
    const warn = (line: string) => void warnings.push(line);
    for (const { indices } of await take(sources, 4, { warn }))
      expect(indices.toSorted()).to.deep.equal([0, 1, 3]);
    expect(warnings).to.have.length(1);
    expect(warnings[0]).to.match(/2b\.png: .*; another image takes its place$/);
    const feed = openFeed(sources, { ...options, batch: 4, warn });
    expect(await failure(feed.next())).to.match(
      /flawed: expected 4 items that can be decoded, found fewer among 4; the warnings say why$/,
    );
    await feed.close();
  });
});
