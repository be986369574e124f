import { expect } from "chai";
import sharp from "sharp";
import { openDecoder } from "../../src/data/decoder.ts";
import { EVER, openItems } from "../../src/data/items.ts";
import { openStacks } from "../../src/data/pictures.ts";
import { temporaryFolder } from "./folder.ts";

describe("data/pictures", () => {
  const folder = temporaryFolder();

  it("gives the frames that are drawn, of a file whose frames are decoded in several parts", async () => {
    const count = 70;
    const pixels = Uint8Array.from({ length: count * 36 }, (_, i) => 3 * Math.floor(i / 36));
    const raw = { width: 4, height: 3 * count, channels: 3, pageHeight: 3 } as const;
    await sharp(pixels, { raw }).webp({ lossless: true }).toFile(`${folder.path}/a.webp`);
    const times = Float64Array.from({ length: count }, (_, i) => i);
    const groups = [{ pictures: { file: 0, count, times }, at: times, shots: [0] }];
    const items = { groups, window: EVER, far: EVER, fingerprint: "" };
    const sources = {
      root: folder.path,
      files: ["a.webp"],
      classes: [],
      labels: new Int32Array(0),
      notes: [],
      items,
    };
    const decoder = openDecoder(sources, {
      warn: (line) => {
        throw new Error(line);
      },
    });
    const stacks = openStacks(sources, items, {
      decoder,
      seed: 1,
      shorterSide: 8,
      cacheBytes: 1500,
      concurrency: 2,
    });
    const { pair } = openItems(items, 1);
    const seen = new Set<number>();
    for (let epoch = 0; epoch < 30; epoch++) {
      const { source, places } = (await stacks.get(0, epoch))!;
      expect([source.width, source.height]).to.deep.equal([4, 6]);
      pair(0, epoch).forEach(({ frame }, i) => {
        expect(places[i]).to.deep.equal({ top: 3 * i, left: 0, height: 3, width: 4 });
        expect(source.pixels[36 * i]).to.equal(3 * frame!);
        seen.add(Math.floor(frame! / 32));
      });
    }
    expect(seen.size).to.equal(3);
    await stacks.close();
  });
});
