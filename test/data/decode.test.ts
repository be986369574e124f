import { truncate } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import sharp, { type Sharp } from "sharp";
import type { Source } from "../../src/data/canvas.ts";
import { decodePadded, decodeSource, decodeSquare } from "../../src/data/decode.ts";
import { UserError } from "../../src/errors.ts";
import { failure, noise, plain, temporaryFolder } from "./folder.ts";

describe("data/decode", () => {
  const folder = temporaryFolder();
  const save = async (name: string, image: Sharp) => folder.write(name, await image.toBuffer());
  const sizeOf = ({ width, height }: Source) => [width, height];
  const pixelAt = ({ width, pixels }: Source, x: number, y: number) =>
    [...pixels.subarray((y * width + x) * 3)].slice(0, 3);
  const expectPixel = (source: Source, [x, y]: [number, number], color: number[], tolerance = 3) => {
    expect(source.pixels).to.have.length(source.width * source.height * 3);
    pixelAt(source, x, y).forEach((value, i) => {
      expect(value).to.be.closeTo(color[i]!, tolerance, `${pixelAt(source, x, y)} against ${color}`);
    });
  };
  const orange = { r: 220, g: 120, b: 40 };
  const orangeBytes = [220, 120, 40];

  for (const format of ["jpeg", "png", "webp", "avif", "tiff", "gif"] as const) {
    it(`reads ${format}`, async () => {
      const path = await save(`orange.${format}`, plain(30, 20, orange).toFormat(format));
      const source = await decodeSource(path, 64);
      expect(sizeOf(source)).to.deep.equal([30, 20]);
      expectPixel(source, [15, 10], orangeBytes, 6);
    });
  }

  describe("padded to a square", () => {
    const behind = [124, 116, 104];

    it("has the whole image in its top left corner, and the color behind images elsewhere", async () => {
      const wide = await decodePadded(await save("wide.png", plain(30, 20, orange).png()), 64);
      expect(sizeOf(wide)).to.deep.equal([30, 30]);
      expect(wide.content).to.deep.equal({ width: 30, height: 20 });
      expectPixel(wide, [29, 19], orangeBytes, 0);
      expectPixel(wide, [0, 20], behind, 0);
      expectPixel(wide, [29, 29], behind, 0);
      const tall = await decodePadded(await save("tall.jpg", plain(20, 30, orange).jpeg()), 64);
      expect(tall.content).to.deep.equal({ width: 20, height: 30 });
      expectPixel(tall, [19, 29], orangeBytes);
      expectPixel(tall, [20, 0], behind, 0);
      const square = await decodePadded(await save("square.png", plain(9, 9, orange).png()), 64);
      expect([sizeOf(square), square.content]).to.deep.equal([[9, 9], { width: 9, height: 9 }]);
    });

    it("is scaled by its longer side, never up, as it is shown", async () => {
      const turned = plain(60, 40, orange).withMetadata({ orientation: 6 }).jpeg();
      const found = await decodePadded(await save("turned-wide.jpg", turned), 30);
      expect([sizeOf(found), found.content]).to.deep.equal([[30, 30], { width: 20, height: 30 }]);
      expectPixel(found, [19, 29], orangeBytes);
      expectPixel(found, [20, 29], behind, 0);
      const thin = await decodePadded(await save("thin.png", plain(300, 1, orange).png()), 30);
      expect(thin.content).to.deep.equal({ width: 30, height: 1 });
    });
  });

  describe("to sRGB", () => {
    it("gray", async () => {
      const path = await save("gray.png", plain(4, 4, { r: 90, g: 90, b: 90 }).toColourspace("b-w").png());
      expect((await sharp(path).metadata()).channels).to.equal(1);
      expectPixel(await decodeSource(path, 64), [1, 1], [90, 90, 90]);
    });

    it("palette", async () => {
      const path = await save("palette.png", plain(4, 4, orange).png({ palette: true }));
      expect((await sharp(path).metadata()).isPalette).to.equal(true);
      expectPixel(await decodeSource(path, 64), [1, 1], orangeBytes);
    });

    it("16 bits", async () => {
      const path = await save("deep.png", plain(4, 4, orange).toColourspace("rgb16").png());
      expect((await sharp(path).metadata()).depth).to.equal("ushort");
      expectPixel(await decodeSource(path, 64), [1, 1], orangeBytes);
    });

    it("CMYK", async () => {
      const path = await save("cmyk.jpg", plain(16, 16, orange).toColourspace("cmyk").jpeg());
      expect((await sharp(path).metadata()).space).to.equal("cmyk");
      expectPixel(await decodeSource(path, 64), [8, 8], orangeBytes, 30);
    });

    // Three quarters of the mean color, or of the first channel that libvips takes of it for gray.
    const behind: Record<string, number[]> = { srgb: [93, 87, 78], rgb16: [93, 87, 78], "b-w": [92, 92, 92] };
    for (const space of ["srgb", "rgb16", "b-w"] as const) {
      it(`transparent on the mean color, ${space}`, async () => {
        const black = { r: 0, g: 0, b: 0, alpha: 0.25 };
        const image = sharp({ create: { width: 4, height: 4, channels: 4, background: black } });
        const path = await save(`alpha-${space}.png`, image.toColourspace(space).png());
        expect((await sharp(path).metadata()).hasAlpha).to.equal(true);
        expectPixel(await decodeSource(path, 64), [1, 1], behind[space]!);
      });
    }
  });

  it("applies the orientation", async () => {
    // The camera lay on its right side: what it saw on the left is up.
    const left = await plain(40, 60, "white").png().toBuffer();
    const image = plain(100, 60, "black").composite([{ input: left, left: 0, top: 0 }]);
    const path = await save("turned.jpg", image.jpeg().withMetadata({ orientation: 6 }));
    const source = await decodeSource(path, 30);
    expect(sizeOf(source)).to.deep.equal([30, 50]);
    expectPixel(source, [15, 5], [255, 255, 255]);
    expectPixel(source, [15, 45], [0, 0, 0]);
    expectPixel(await decodeSquare(path, 20), [10, 18], [0, 0, 0]);
  });

  it("applies the orientation of small JPEGs too", async () => {
    const path = await save("small.jpg", plain(20, 12, orange).jpeg().withMetadata({ orientation: 6 }));
    expect(sizeOf(await decodeSource(path, 64))).to.deep.equal([12, 20]);
  });

  it("scales small JPEGs for squares", async () => {
    const path = await save("square.jpg", plain(20, 12, orange).jpeg());
    const square = await decodeSquare(path, 16);
    expect(sizeOf(square)).to.deep.equal([16, 16]);
    expectPixel(square, [8, 8], orangeBytes, 6);
  });

  it("takes the first frame", async () => {
    const frames = await Promise.all(["red", "blue"].map((color) => plain(8, 6, color).png().toBuffer()));
    const path = await save("moving.gif", sharp(frames, { join: { animated: true } }).gif());
    expect((await sharp(path).metadata()).pages).to.equal(2);
    const source = await decodeSource(path, 64);
    expect(sizeOf(source)).to.deep.equal([8, 6]);
    expectPixel(source, [4, 3], [255, 0, 0]);
  });

  describe("sizes", () => {
    const cases: [width: number, height: number, shorterSide: number, expected: [number, number]][] = [
      [1, 1, 32, [1, 1]],
      [30, 20, 32, [30, 20]],
      [300, 200, 100, [150, 100]],
      [200, 300, 100, [100, 150]],
      [300, 100, 100, [200, 67]],
      [1000, 100, 50, [100, 10]],
      [20000, 10, 32, [64, 1]],
      [10, 20000, 32, [1, 64]],
    ];
    for (const [width, height, shorterSide, size] of cases) {
      it(`${width} x ${height} for a shorter side of ${shorterSide}`, async () => {
        const path = await save(`${width}x${height}.png`, plain(width, height, orange).png());
        const source = await decodeSource(path, shorterSide);
        expect(sizeOf(source)).to.deep.equal(size);
        expectPixel(source, [size[0] - 1, size[1] - 1], orangeBytes);
        const square = await decodeSquare(path, 32);
        expect(sizeOf(square)).to.deep.equal([32, 32]);
        expectPixel(square, [31, 31], orangeBytes);
      });
    }

    it("crops the square at the centre", async () => {
      const middle = await plain(20, 20, "white").png().toBuffer();
      const path = await save(
        "middle.png",
        plain(60, 20, "black")
          .composite([{ input: middle }])
          .png(),
      );
      const square = await decodeSquare(path, 20);
      expect(square.pixels.every((value) => value === 255)).to.equal(true);
    });

    it("averages when it scales down", async () => {
      const stripes = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (Math.floor(i / 3) % 2) * 255);
      const path = await save(
        "stripes.png",
        sharp(stripes, { raw: { width: 64, height: 64, channels: 3 } }).png(),
      );
      expectPixel(await decodeSource(path, 16), [8, 8], [128, 128, 128]);
    });
  });

  describe("refuses", () => {
    const refuses = async (path: string) => {
      for (const decode of [decodeSource, decodeSquare]) {
        const message = await failure(decode(path, 32));
        expect(message).to.match(/^[^\n]+: expected an image that can be decoded, found [^\n]+$/);
        expect(message.startsWith(`${path}: `)).to.equal(true);
      }
      expect(await decodeSource(path, 32).catch((error) => error)).to.be.instanceOf(UserError);
    };
    for (const progressive of [false, true]) {
      for (const share of [0.99, 0.5, 0.05]) {
        it(`a ${progressive ? "progressive" : "baseline"} JPEG cut at ${share}`, async () => {
          const data = await noise(200, 200).jpeg({ progressive }).toBuffer();
          const path = await folder.write("cut.jpg", data);
          await decodeSource(path, 32);
          await truncate(path, Math.floor(data.length * share));
          await refuses(path);
        });
      }
    }

    it("a PNG that is cut off", async () => {
      const data = await noise(100, 100).png().toBuffer();
      await refuses(await folder.write("cut.png", data.subarray(0, data.length / 2)));
    });

    it("text, nothing, a missing file", async () => {
      await refuses(await folder.write("text.jpg", "this is not an image"));
      await refuses(await folder.write("empty.jpg", ""));
      await refuses(join(folder.path, "missing.jpg"));
    });

    it("more pixels than the limit", async () => {
      const data = await plain(1, 1, "black").png().toBuffer();
      data.writeUInt32BE(100_000, 16); // width and height in the header
      data.writeUInt32BE(100_000, 20);
      await refuses(await folder.write("bomb.png", data));
    });
  });
});
