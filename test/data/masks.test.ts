import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import sharp from "sharp";
import { writeMask } from "../../scripts/shapes.ts";
import { decodeBox } from "../../src/data/decode.ts";
import { findMasked, maskOf, squaresOf } from "../../src/data/masks.ts";
import { failure, noise, temporaryFolder } from "./folder.ts";

describe("data/masks", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);

  /** Masks of 6x4 pixels, of classes 0 and `other`. */
  const maskWith = (other: number) =>
    Uint8Array.from({ length: 24 }, (_, i) => (i < 5 ? 255 : i % 3 === 0 ? other : 0));

  /** Two images of 6x4 pixels with masks of classes 0 and 2. */
  async function masked(name: string): Promise<string> {
    for (const kind of ["images/sub", "masks/sub"]) await mkdir(at(`${name}/${kind}`), { recursive: true });
    await noise(6, 4)
      .jpeg()
      .toFile(at(`${name}/images/a.jpg`));
    await noise(6, 4)
      .png()
      .toFile(at(`${name}/images/sub/b.c.png`));
    for (const path of ["a", "sub/b.c"]) await writeMask(at(`${name}/masks/${path}.png`), maskWith(2), 6, 4);
    return at(name);
  }

  it("finds the mask of each image, with the classes in it", async () => {
    const data = await masked("sound");
    const found = await findMasked(data);
    expect(found.sources.files).to.deep.equal(["a.jpg", "sub/b.c.png"]);
    expect(found.masks).to.deep.equal([
      { path: join(data, "masks/a.png"), width: 6, height: 4, indices: [0, 2] },
      { path: join(data, "masks/sub/b.c.png"), width: 6, height: 4, indices: [0, 2] },
    ]);
    expect(found.names).to.equal(undefined);
    await writeFile(join(data, "classes.txt"), "ground\r\n\nblue  \n");
    expect((await findMasked(data, {}, ["others"])).names).to.deep.equal(["ground", "", "blue"]);
    expect((await findMasked(data, { limit: 1, seed: 3 })).masks).to.have.length(1);
  });

  it("leaves out images whose masks hold no class", async () => {
    const data = await masked("empty");
    await writeMask(join(data, "masks/a.png"), new Uint8Array(24).fill(255), 6, 4);
    const { sources, masks } = await findMasked(data);
    expect([sources.files, masks.length]).to.deep.equal([["sub/b.c.png"], 1]);
    expect(sources.notes.at(-1)).to.match(/masks: left out images whose masks hold 255 alone: 1$/);
    await writeMask(join(data, "masks/sub/b.c.png"), new Uint8Array(24).fill(255), 6, 4);
    expect(await failure(findMasked(data))).to.match(
      /masks: expected masks that hold classes, found 255 alone/,
    );
  });

  it("refuses what does not go together, in one line", async () => {
    const refused = async (name: string, change: (data: string) => Promise<unknown>) => {
      const data = await masked(name);
      await change(data);
      const line = await failure(findMasked(data));
      expect(line).not.to.include("\n");
      return line;
    };
    expect(await refused("no-masks", (data) => rm(join(data, "masks"), { recursive: true }))).to.match(
      /no-masks\/masks: expected a folder of masks, PNG files named as the images, found no such folder$/,
    );
    expect(await refused("no-images", (data) => rm(join(data, "images"), { recursive: true }))).to.match(
      /no-images\/images: expected a folder of images, found nothing at this path$/,
    );
    expect(await refused("missing", (data) => rm(join(data, "masks/a.png")))).to.match(
      /masks\/a\.png: expected the mask of .*images\/a\.jpg, found no such file$/,
    );
    expect(
      await refused("size", (data) => writeMask(join(data, "masks/a.png"), new Uint8Array(24), 4, 6)),
    ).to.match(/masks\/a\.png: expected a mask of 6x4 pixels, as .*images\/a\.jpg, found 4x6$/);
    expect(await refused("rgb", (data) => noise(6, 4).toFile(join(data, "masks/a.png")))).to.match(
      /masks\/a\.png: expected a PNG with one value of 8 bits a pixel, of a palette or gray, found RGB$/,
    );
    const names = (text: string) => (data: string) => writeFile(join(data, "classes.txt"), text);
    const three = (data: string) => writeMask(join(data, "masks/a.png"), maskWith(3), 6, 4);
    const beyond = (data: string) => Promise.all([three(data), names("ground\ndisc\nsquare\n")(data)]);
    expect(await refused("beyond", beyond)).to.match(
      /masks\/a\.png: expected class indices up to 2, for classes\.txt names 3, or 255, found 3$/,
    );
    expect(await refused("unnamed", names(" \n"))).to.match(/classes\.txt: expected 1 to 255 names .* none$/);
    expect(await refused("many", names("x\n".repeat(256)))).to.match(/classes\.txt: .*, found 256$/);
  });

  it("divides an image among squares of its shorter side, each pixel to the nearest", () => {
    expect(squaresOf({ width: 5, height: 5 })).to.have.length(1);
    for (const [width, height] of [
      [5, 5],
      [375, 500],
      [500, 375],
      [7, 3],
      [3, 10],
      [1, 4],
    ] as const) {
      const owners = new Int32Array(width * height).fill(-1);
      const squares = squaresOf({ width, height });
      for (const [i, { box, own }] of squares.entries()) {
        expect([box.width, box.height]).to.deep.equal(Array(2).fill(Math.min(width, height)));
        for (let y = own.top; y < own.top + own.height; y++)
          for (let x = own.left; x < own.left + own.width; x++) {
            const inside =
              y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
            if (!inside || owners[y * width + x] !== -1) expect.fail(`pixel ${y}, ${x} of square ${i}`);
            owners[y * width + x] = i;
          }
      }
      const off = (i: number, y: number, x: number) => {
        const { top, left, width: side } = squares[i]!.box;
        return Math.max(Math.abs(top + side / 2 - y - 0.5), Math.abs(left + side / 2 - x - 0.5));
      };
      owners.forEach((owner, at) => {
        const [y, x] = [Math.floor(at / width), at % width];
        const least = Math.min(...squares.map((_, i) => off(i, y, x)));
        if (owner < 0 || off(owner, y, x) > least + 1e-9 + 0.5) expect.fail(`pixel ${y}, ${x} of ${owner}`);
      });
    }
  });

  it("gives the mask of a square at another size, and the pixels of the same box", async () => {
    const [width, height] = [8, 4];
    const values = Uint8Array.from({ length: width * height }, (_, i) => i);
    const [first, second] = squaresOf({ width, height });
    const all = maskOf({ width, height, values }, second!, 4);
    expect([...all]).to.deep.equal([4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31]);
    expect([...maskOf({ width, height, values }, first!, 2)]).to.deep.equal([9, 11, 25, 27]);
    const narrow = squaresOf({ width: 6, height: 4 });
    const part = maskOf({ width: 6, height: 4, values: values.subarray(0, 24) }, narrow[1]!, 4);
    expect([...part.subarray(0, 4)]).to.deep.equal([255, 3, 4, 5]);

    const pixels = Uint8Array.from({ length: 3 * width * height }, (_, i) => 2 * i);
    await sharp(pixels, { raw: { width, height, channels: 3 } }).toFile(at("box.png"));
    const { pixels: found } = await decodeBox(at("box.png"), 4, {}, second!.box);
    expect([...found.subarray(0, 12)]).to.deep.equal([...pixels.subarray(12, 24)]);
  });
});
