import { expect } from "chai";
import sharp, { type Sharp } from "sharp";
import { bitsIn } from "../../../src/data/check/hash.ts";
import { openHashIndex } from "../../../src/data/check/hash-index.ts";
import { findNear } from "../../../src/data/check/near.ts";
import { THUMBNAIL_BYTES, thumbnailOf } from "../../../src/data/check/thumbnail.ts";
import { randomFor } from "../../../src/random.ts";
import { texture } from "../../support/textures.ts";
import { plain } from "../folder.ts";

/** Thumbnails of images, one after the other. */
async function thumbnails(images: readonly Sharp[]): Promise<Uint8Array> {
  const all = new Uint8Array(images.length * THUMBNAIL_BYTES);
  for (const [i, image] of images.entries()) {
    const { data, info } = await sharp(await image.png().toBuffer())
      .raw()
      .toBuffer({ resolveWithObject: true });
    all.set(thumbnailOf({ width: info.width, height: info.height, pixels: data }), i * THUMBNAIL_BYTES);
  }
  return all;
}

const nearIn = async (images: readonly Sharp[], order = [...images.keys()]) =>
  findNear(await thumbnails(images), order, { least: 0.94 });

describe("data/check: near duplicates", () => {
  it("are found whatever made the copy, and other images are not", async () => {
    const originals = await Promise.all(Array.from({ length: 40 }, (_, i) => texture(i)));
    const copies = [
      sharp(await (await texture(3)).jpeg({ quality: 50 }).toBuffer()),
      (await texture(5)).resize(40, 50, { fit: "fill" }),
      (await texture(7)).extract({ left: 6, top: 0, width: 66, height: 56 }),
      (await texture(9)).linear(0.7, 20),
      (await texture(11))
        .extract({ left: 2, top: 4, width: 68, height: 56 })
        .resize(144, 120, { fit: "fill" }),
    ];
    const found = await nearIn([...originals, ...copies]);
    expect(found.map(({ image, of }) => [image - originals.length, of])).to.deep.equal(
      [3, 5, 7, 9, 11].map((of, copy) => [copy, of]),
    );
    for (const { likeness } of found) expect(likeness).to.be.within(0.94, 1 + 1e-9);
  });

  it("are copies of what comes first in the order, and of no copy", async () => {
    const cut = async (pixels: number) =>
      (await texture(1)).extract({ left: pixels, top: 0, width: 72 - pixels, height: 60 });
    const found = await nearIn([await cut(12), await cut(6), await texture(1)], [2, 1, 0]);
    expect(found.map(({ image, of }) => [image, of])).to.deep.include([1, 2]);
    expect(found.every(({ of }) => of === 2)).to.equal(true);
  });

  it("of one colour are those of the same colour", async () => {
    const colours = ["white", "#fefefe", "black", "red", "blue", "#010101"];
    const found = await nearIn(colours.map((colour) => plain(30, 30, colour)));
    expect(found.map(({ image, of }) => [image, of])).to.deep.equal([
      [1, 0],
      [5, 2],
    ]);
  });
});

describe("data/check: the index of hashes", () => {
  it("finds all that differ in 7 bits or fewer, and none that differ in more than 10", () => {
    const random = randomFor("hashes");
    const word = () => random.integer(2 ** 32);
    const hashes = Array.from({ length: 300 }, () => [word(), word()] as const);
    const index = openHashIndex(hashes.length);
    for (const [number, [low, high]] of hashes.entries()) index.add(low, high, number);
    for (let number = 0; number < hashes.length; number++) {
      const [low, high] = hashes[number]!;
      const turned = random.shuffled([...Array(64).keys()]).slice(0, 1 + (number % 12));
      const query: [number, number] = [low, high];
      for (const bit of turned) query[bit >> 5]! ^= 1 << (bit & 31);
      expect(bitsIn(query[0] ^ low) + bitsIn(query[1] ^ high)).to.equal(turned.length);
      const found = new Set<number>();
      index.near(...query, (other) => {
        found.add(other);
        return false;
      });
      if (turned.length <= 7) expect(found.has(number), `${turned.length} bits`).to.equal(true);
      if (turned.length > 10) expect(found.has(number), `${turned.length} bits`).to.equal(false);
    }
  });
});
