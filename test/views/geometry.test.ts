import { expect } from "chai";
import sharp from "sharp";
import { type Box, cropAndResize, type Image } from "./reference.ts";
import { average, expectEqual, image, noise, plain, rowOf, views, whole } from "./support.ts";

interface Crop {
  readonly name: string;
  readonly image: Image;
  readonly box: Box;
}
const crop = (
  name: string,
  image: Image,
  [top, left, height, width]: readonly [number, number, number, number],
): Crop => ({
  name,
  image,
  box: { top, left, height, width },
});

const crops: readonly Crop[] = [
  crop("smaller", noise(40, 50), [3, 4, 32, 32]),
  crop("much smaller", noise(64, 60), [0, 0, 64, 60]),
  crop("larger", noise(40, 50), [10, 20, 5, 5]),
  crop("larger one way, smaller the other", noise(50, 40), [7, 2, 3, 37]),
  crop("narrow", noise(50, 40), [1, 30, 48, 2]),
  crop("top left corner", noise(21, 33), [0, 0, 9, 11]),
  crop("bottom right corner", noise(21, 33), [12, 22, 9, 11]),
  crop("bottom edge", noise(33, 21), [20, 3, 13, 15]),
  crop("whole image of odd size", noise(17, 23), [0, 0, 17, 23]),
  crop("one pixel", noise(9, 9), [4, 7, 1, 1]),
  crop("one row", noise(9, 9), [8, 0, 1, 9]),
  crop("an image of one pixel", noise(1, 1), [0, 0, 1, 1]),
  crop("an image of one column", noise(30, 1), [5, 0, 20, 1]),
];

// Positions are float32 sums up to 64, off by 4e-6 pixels; a neighbour's weight is off by as much.
const TOLERANCE = 1e-5;

describe("crop and resize equals the antialiased triangle filter in double precision", () => {
  for (const size of [1, 2, 7, 16, 33]) {
    it(`to ${size} pixels, images of different sizes on one canvas, straight and flipped`, async () => {
      const both = [0, 1].flatMap((flip) => crops.map((c) => ({ ...c, flip })));
      const found = await views(
        plain(size),
        both.map((c) => c.image),
        both.map((c) => rowOf(c.box, { flip: c.flip })),
      );
      const expected = both.map((c) => cropAndResize(c.image, c.box, size, c.flip === 1));
      expectEqual(
        found,
        expected,
        TOLERANCE,
        both.map((c) => c.name + (c.flip ? ", flipped" : "")),
      );
    });
  }

  it("to sizes that are made in blocks, of boxes as large as training has them", async () => {
    const size = 96;
    const photos = [noise(110, 219), noise(219, 110), noise(110, 110), noise(40, 30), noise(1, 219)];
    const boxes = [
      whole(photos[0]!),
      whole(photos[1]!),
      { top: 30, left: 7, height: 80, width: 103 },
      { top: 12, left: 0, height: 28, width: 30 },
      { top: 0, left: 18, height: 1, width: 201 },
    ];
    const both = [0, 1].flatMap((flip) => photos.map((photo, i) => ({ photo, box: boxes[i]!, flip })));
    const found = await views(
      plain(size),
      both.map((b) => b.photo),
      both.map((b) => rowOf(b.box, { flip: b.flip })),
    );
    expectEqual(
      found,
      both.map((b) => cropAndResize(b.photo, b.box, size, b.flip === 1)),
      3 * TOLERANCE, // positions reach 219
    );
  });

  it("at the far end of a large image", async () => {
    const large = noise(4, 4000);
    const box = { top: 0, left: 3980, height: 4, width: 20 };
    const found = await views(plain(24), [large], [rowOf(box)]);
    // Positions near 4000 are off by up to 2.5e-4 pixels: a fifteenth of a gray level.
    expectEqual(found, [cropAndResize(large, box, 24)], 2.5e-4);
  });
});

describe("crop and resize", () => {
  it("keeps the pixels of a box of the view's own size", async () => {
    const source = noise(30, 30);
    const box = { top: 11, left: 5, height: 16, width: 16 };
    const [found] = await views(plain(16), [source], [rowOf(box)]);
    for (const [c, plane] of found!.entries()) {
      plane.forEach((v, i) => {
        const pixel = (box.top + Math.floor(i / 16)) * 30 + box.left + (i % 16);
        expect(v).to.be.closeTo(source.pixels[3 * pixel + c]! / 255, 1e-6);
      });
    }
  });

  it("takes nothing from outside of the box", async () => {
    // Black boxes in white images: any weight outside raises a value above 0.
    const boxes = crops.map((c) => c.box);
    const framed = crops.map(({ image: { height, width }, box }) =>
      image(height, width, (y, x) =>
        y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width ? 0 : 255,
      ),
    );
    for (const size of [3, 20]) {
      const found = await views(
        plain(size),
        framed,
        boxes.map((box) => rowOf(box)),
      );
      for (const picture of found) for (const plane of picture) expect(Math.max(...plane)).to.be.below(1e-6);
    }
  });

  it("keeps an even image even", async () => {
    const even = crops.map(({ image: { height, width } }) =>
      image(height, width, (_y, _x, c) => [200, 100, 7][c]!),
    );
    const found = await views(
      plain(11),
      even,
      crops.map((c) => rowOf(c.box)),
    );
    for (const [r, g, b] of found) {
      for (const [plane, level] of [
        [r, 200],
        [g, 100],
        [b, 7],
      ] as const) {
        plane!.forEach((v) => void expect(v * 255).to.be.closeTo(level, 1e-3));
      }
    }
  });

  // Of smaller views only: libvips enlarges with an offset of its own, up to half a pixel.
  it("agrees with sharp on a smooth image", async () => {
    const smooth = image(
      90,
      120,
      (y, x, c) => 128 + 100 * Math.sin((x + 2 * c) / 17) * Math.cos(y / (11 + c)),
    );
    const size = 32;
    const boxes = [
      whole(smooth),
      { top: 5, left: 9, height: 80, width: 100 },
      { top: 20, left: 50, height: 63, width: 40 },
      { top: 31, left: 64, height: 32, width: 32 },
    ];
    const found = await views(
      plain(size),
      boxes.map(() => smooth),
      boxes.map((box) => rowOf(box)),
    );
    for (const [i, box] of boxes.entries()) {
      const pixels = await sharp(smooth.pixels, { raw: { width: 120, height: 90, channels: 3 } })
        .extract(box)
        .resize(size, size, { fit: "fill", kernel: "linear" })
        .raw()
        .toBuffer();
      const off = Array.from(pixels, (v, k) => Math.abs(255 * found[i]![k % 3]![Math.floor(k / 3)]! - v));
      // In gray levels: sharp rounds to whole ones after each direction and weighs edges in its own way.
      expect(average(off)).to.be.below(0.5);
      expect(Math.max(...off)).to.be.below(2.5);
    }
  });
});
